"""Show what a proof shows: its verdict, and everything that happened in the task."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from capx_cli import phrases, screen
from capx_cli.view import say_named

if TYPE_CHECKING:
    from rich.tree import Tree as Drawn

    from capx.proof import Report
    from capx.proof.receipts import CheckedReceipt
    from capx.proof.report import Decided


def say_receipt(found: "CheckedReceipt", as_json: bool) -> None:
    """Show an event that a receipt shows."""
    checkpoint, event = found.note.checkpoint, found.event
    if as_json:
        screen.as_json(
            {
                "holds": True,
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


def say_verdict(report: "Report") -> None:
    """Show what is signed, whose word the rest is, what is not claimed, and what does not fit."""
    for title, lines in (
        ("Signed", report.signed),
        ("Somebody's word", report.words),
        ("Not claimed", report.not_claimed),
    ):
        screen.say(f"{title}:", screen.STRONG)
        for line in lines:
            screen.say(f"  {line}")
    say_contradictions(report)


def say_contradictions(report: "Report") -> None:
    """Show what does not fit, or that all fits."""
    if not report.contradictions:
        screen.say(f"task {report.task}: the proof is whole, and nothing in it contradicts", screen.GOOD)
        return
    for line in report.contradictions:
        screen.say(f"CONTRADICTION: {line}", screen.BAD)
    screen.say(f"task {report.task}: {len(report.contradictions)} contradictions", screen.LOUD)


def say_story(report: "Report") -> None:
    """Show the intent, who acted, each decision, each answer and each end."""
    screen.say(f"task {report.task}", screen.STRONG)
    say_named(_facts(report))
    screen.draw(_graph(report))
    for decided in report.decisions:
        _say_decision(decided)
    for answer in report.answers:
        said = "said yes to" if answer.yes else "said no to"
        by = "" if answer.is_signed else ", as the authority says"
        screen.say(f"{phrases.instant(answer.at)}  {answer.approver} {said} request {answer.request}{by}")
    for ended in report.ended:
        screen.say(f"{phrases.instant(ended.at)}  {ended.what}")


def _facts(report: "Report") -> Iterator[tuple[str, str]]:
    yield "tenant", report.tenant or "-"
    yield "purpose", report.purpose or "-"
    yield "opened", phrases.instant(report.opened)
    if report.intent is None:
        yield "intent", "nobody's: an operator opened the task by hand"
    else:
        yield "intent", f"of {report.intent.principal}, {report.intent.vouched}: {report.intent.statement}"
    yield "root", report.root
    if report.holder is not None:
        yield "key", f"{report.holder} of the first agent"


def _graph(report: "Report") -> "Drawn":
    from rich.tree import Tree as Drawn

    # A node stands behind the one above it.
    root, *others = report.nodes
    drawn = {root.id: Drawn(screen.text((f"root  {root.id}", screen.STRONG)))}
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
    who = f"{phrases.holder(decided.agents)}{'' if decided.agent_signed else ', as was claimed'}"
    screen.say(
        f"{phrases.instant(decided.at)}  {decided.outcome}  {decided.action or '-'} at {decided.audience}  {who}",
        screen.GOOD if allowed else screen.BAD,
    )
    if decided.args is not None:
        screen.say(f"    arguments: {_json(decided.args)}")
    elif decided.shown_args:
        screen.say(f"    arguments, as the resource shows them: {_json(decided.shown_args)}")
    for reason in decided.reasons:
        screen.say(f"    {reason}")
    for one in decided.approvals:
        screen.say(f"    approved by {', '.join(one.signers)}")


def _json(value: object) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
