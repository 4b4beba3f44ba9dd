"""Show what a proof shows: what was found, and everything that happened in the task."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from capx_cli import phrases, screen
from capx_cli.view import say_named

if TYPE_CHECKING:
    from rich.tree import Tree as Drawn

    from capx.proof import Report
    from capx.proof.receipts import CheckedReceipt
    from capx.proof.report import Answered, Decided, ProvenEnd, RefusedAsk


def say_receipt(found: "CheckedReceipt", as_json: bool) -> None:
    """Show an event that a receipt shows."""
    checkpoint, event = found.note.checkpoint, found.event
    if as_json:
        screen.as_json(
            {
                "result": "consistent",
                "origin": checkpoint.origin,
                "size": checkpoint.size,
                "signed_by": [key.text() for key in found.note.signers],
                "witnesses": [{"name": one.name, "at": one.at} for one in found.note.witnesses],
                "event": {
                    "position": event.position,
                    "at": event.at,
                    "kind": event.kind,
                    "body": event.body.decode("utf-8", "backslashreplace"),
                },
            }
        )
        return
    screen.say(f"event {event.position} of {checkpoint.origin} is in the log that was signed", screen.GOOD)
    screen.say(f"  {phrases.instant(event.at)}  {event.kind}  {event.body.decode('utf-8', 'backslashreplace')}")
    for one in found.note.witnesses:
        screen.say(f"  the witness {one.name} had seen it at {phrases.instant(one.at)}")


def say_findings(report: "Report") -> None:
    """Show what is signed, whose word the rest is, what is not shown or missing, and what does not fit."""
    for title, lines in (
        ("Signed", report.signed),
        ("Somebody's word", report.words),
        ("Not shown", report.not_shown),
        ("Would show more", report.would_show_more),
        ("Gaps: something could hide here", report.gaps),
        ("Receipts", report.receipts),
    ):
        if lines:
            screen.say(f"{title}:", screen.STRONG)
        for line in lines:
            screen.say(f"  {line}")
    say_contradictions(report)


def say_contradictions(report: "Report") -> None:
    """Show what does not fit, what could hide, or that all fits."""
    for line in report.contradictions:
        screen.say(f"CONTRADICTION: {line}", screen.BAD)
    if report.contradictions:
        count = len(report.contradictions)
        screen.say(f"task {report.task}: contradicted, {count} contradiction{'s' * (count > 1)}", screen.LOUD)
        return
    if report.gaps:
        count = len(report.gaps)
        gaps = f"{count} gap{'s' * (count > 1)}"
        screen.say(f"task {report.task}: incomplete, {gaps}; nothing contradicts", "bold yellow")
        return
    screen.say(f"task {report.task}: consistent, unaltered since it was signed", screen.GOOD)


def say_story(report: "Report") -> None:
    """Show the intent, who acted, and what happened in order: decisions, refused asks, answers and ends."""
    screen.say(f"task {report.task}", screen.STRONG)
    say_named(_facts(report))
    screen.draw(_graph(report))
    told: list[tuple[int, Callable[[], None]]] = []
    told += [(one.at, partial(_say_decision, one)) for one in report.decisions]
    told += [(one.at, partial(_say_refused, one)) for one in report.refused]
    told += [(one.at, partial(_say_answer, one)) for one in report.answers]
    told += [(one.at, partial(_say_end, one)) for one in report.ended]
    for _, say in sorted(told, key=lambda one: one[0]):
        say()


def _say_refused(ask: "RefusedAsk") -> None:
    what = f"{ask.action} at {ask.audience}, {', '.join(ask.reasons)}"
    screen.say(f"{phrases.instant(ask.at)}  refused  an ask for {what}  {phrases.holder(ask.agents)}", screen.BAD)


def _say_answer(answer: "Answered") -> None:
    by = "" if answer.is_signed else ", as the authority says"
    said = f"{answer.approver} said {'yes' if answer.yes else 'no'} to {answer.about}{by}"
    screen.say(f"{phrases.instant(answer.at)}  {said}", screen.GOOD if answer.yes else screen.BAD)


def _say_end(ended: "ProvenEnd") -> None:
    screen.say(f"{phrases.instant(ended.at)}  {ended.what}", screen.LOUD)


def _facts(report: "Report") -> Iterator[tuple[str, str]]:
    yield "tenant", report.tenant or "-"
    yield "purpose", report.purpose or "-"
    yield "opened", phrases.instant(report.opened)
    if report.intent_digest is None:
        yield "intent", "nobody's: an operator opened the task by hand"
    elif report.intent is None:
        yield "intent", f"not in this proof; the log has the digest {report.intent_digest}"
    else:
        yield "intent", f"of {report.intent.principal}, {report.intent.vouched}: {report.intent.statement}"
    yield "root", report.root
    if report.holder is not None:
        yield "key", f"{report.holder} of the first agent"


def _graph(report: "Report") -> "Drawn":
    from rich.tree import Tree as Drawn

    # A node stands behind the one above it.
    root, *others = report.nodes
    drawn = {root.id: Drawn(screen.text((f"first agent  {root.id}", screen.STRONG)))}
    for node in others:
        key = "" if node.key is None else f"  {node.key}"
        branch = drawn.get(node.above or "", drawn[root.id]).add(
            screen.text(f"{node.label}  {node.id}  {node.allowed} allowed, {node.denied} denied{key}")
        )
        drawn[node.id] = branch
    for node in report.nodes:
        for may in node.may:
            drawn[node.id].add(screen.text((may, screen.QUIET)))
    return drawn[root.id]


def _say_decision(decided: "Decided") -> None:
    allowed = decided.outcome == "allowed"
    who = phrases.holder(decided.agents) if decided.node is not None else "a caller who has proven nothing"
    claimed = "" if decided.agent_signed or decided.node is None else ", as was claimed"
    what = f"{decided.action or 'a call'} at {decided.audience}"
    outcome = phrases.outcome(decided.outcome, decided.audience, decided.action)
    screen.say(
        f"{phrases.instant(decided.at)}  {outcome:7}  {decided.id}  {what}  {who}{claimed}",
        screen.GOOD if allowed else screen.BAD,
    )
    if decided.args is not None:
        filled = f", of which the service filled in {', '.join(decided.filled)}" if decided.filled else ""
        signed = ", signed by the agent" if decided.compared else ""
        screen.say(f"    arguments: {_json(decided.args)}{signed}{filled}")
    elif decided.shown_args:
        screen.say(f"    arguments, as the resource shows them: {_json(decided.shown_args)}")
    for reason in decided.reasons:
        screen.say(f"    {reason}")
    for one in decided.approvals:
        said = f"{', '.join(one.signers)}: {'; '.join(one.of)}"
        fault = f" (does not count: it {one.faults[0]})" if one.faults else ""
        screen.say(f"    approved by {said}{fault}" if not one.faults else f"    with the approval of {said}{fault}")


def _json(value: object) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
