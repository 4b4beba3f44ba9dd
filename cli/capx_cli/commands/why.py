"""`capx why`: explain a recorded decision, and show its neighbours."""

import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from capx_cli import completion, inbox, phrases, screen, target
from capx_cli.events import Decided, decision_as_json, event_as_json, given_back, ids
from capx_cli.view import json_option, say_named

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator
    from pathlib import Path

    from capx.authority.requests.answers import GivenAnswer
    from capx.store.decision_groups import Group
    from capx.store.log import Event
    from capx.store.records import RequestRecord

    Neighbours = dict[str, list[tuple[Event, Decided]]]
    """The neighbours of a decision, by relation; each with the event that holds it."""

_AROUND = 1_000
"""How many events before and after a decision are searched for neighbours."""
_MOST_PAGES = 5
"""The pages of denials that are searched for one that can be read: a resource may write very many others."""


class _Identified(Struct):
    id: str


class _OfTask(Struct):
    task: str | None = None


@click.command(cls=phrases.TakesIds)
@click.argument("decision", shell_complete=completion.decisions)
@click.option("--receipt", is_flag=True, help="Write the receipt of the decision instead, which others can verify.")
@target.archive_option
@click.option(
    "--task",
    "task_id",
    metavar="TASK",
    shell_complete=completion.tasks,
    help="At an authority elsewhere: the task of yours in which it was decided.",
)
@json_option
@target.person_options
def why(decision: str, receipt: bool, archive_folder: "Path | None", task_id: str | None, as_json: bool) -> None:
    """Explain a recorded decision: who asked for what, every reason, what it spent, and what came before and after.

    DECISION is the id in a problem document, a response header, or the log. `last` is the newest denial that no other
    decision about the same call followed within a minute; `capx find` shows others. `same call` shows the other
    decisions about it. A call that is denied before its presentation is burnt (not authentic, misshapen, used before)
    gets an answer, but is not recorded.

    --receipt writes what shows without this home that the decision is in its log: the event, its path, and the signed
    root. capx proof verify reads it.

    At an authority elsewhere, it explains a decision in a task of yours, without what came before and after; `last` is
    the newest denial there.

    Example: capx why last
    """
    if target.origin() is not None or task_id is not None:
        if receipt or archive_folder is not None:
            raise click.UsageError("--receipt and --archive need the home of the authority")
        _explain_elsewhere(decision, task_id, as_json)
        return
    if receipt:
        _write_receipt(decision, archive_folder, as_json)
        return
    if archive_folder is not None:
        target.demand_home("capx why --archive", "compares the archive with the store")
    with target.authority() as authority:
        newest = decision == "last"
        event = _newest_denial(authority) if newest else authority.decision(decision)
        if event is None and newest:
            raise click.UsageError("no recorded call stayed denied yet; services record, capx verify does not")
        if event is not None and event.is_archived:
            event = _archived(archive_folder, decision)
        if event is None:
            phrases.demand_id("decision", decision)
            why_not = "it may still arrive, or it is of a kind that is not recorded"
            raise click.UsageError(f"there is no decision {decision!r:.80} in this log: {why_not}")
        event = _readable_one(authority, event)
        if (decided := event.read_if(Decided)) is None:
            found = f"the event with this id, at position {event.position}, is not a decision as capx writes it"
            raise click.UsageError(f"{found}: capx log shows it, and capx store check finds whether it was changed")
        around = list(_around(authority, event))
        group = _group(around, event)
        beside, late = _beside(around, group, event, decided), _late(around)
        answers, requests = _agreed(authority, decided)
        returned = _returned(around, decided)
    if as_json:
        back = None if returned is None else event_as_json(returned)
        beside_it = {**_as_json(beside, late), "answers": list(map(inbox.answer_as_json, answers)), "given_back": back}
        facts = {**decision_as_json(event), "late": event.position in late}
        screen.as_json({**facts, "same_call": ids(group), "beside": beside_it})
    else:
        arrived = [("arrived", "late: it stands behind what happened later")] if event.position in late else []
        _show(decided, beside, (*_said(event, decided, answers, requests, returned), *arrived), late)


def _explain_elsewhere(decision: str, task_id: str | None, as_json: bool) -> None:
    """Explain a decision in a task of a person."""
    if (at := target.origin()) is None:
        raise click.UsageError("--task is for an authority elsewhere: here, DECISION says enough")
    if task_id is None:
        raise click.UsageError(f"{at} explains decisions in one task of yours: give --task TASK")
    with target.person() as me:
        found = ((event, event.read_if(Decided)) for event in me.decisions(phrases.task_id(me, task_id)))
        event, decided = next(((event, one) for event, one in found if one and _is_meant(one, decision)), (None, None))
        if event is None or decided is None:
            missing = "no call that was denied" if decision == "last" else f"no decision {decision!r:.80}"
            raise click.UsageError(f"your task has {missing}; it may still arrive")
        answers, requests = _agreed(me, decided)
    if as_json:
        facts = decision_as_json(event)
        del facts["position"]
        screen.as_json({**facts, "answers": list(map(inbox.answer_as_json, answers))})
    else:
        _show(decided, {}, _said(event, decided, answers, requests, None))


def _is_meant(decided: Decided, typed: str) -> bool:
    return decided.outcome == "denied" if typed == "last" else decided.id == typed


def _archived(folder: "Path | None", decision: str) -> "Event | None":
    from capx.ledger import Archive

    if folder is None:
        raise click.UsageError(f"decision {decision:.80} is in the archive: give its folder with --archive DIR")
    with target.home_authority("capx why --archive") as home, home.store.read() as reading:
        return Archive(folder).decision(reading, decision)


def _write_receipt(decision: str, archive_folder: "Path | None", as_json: bool) -> None:
    from capx.ledger import Archive
    from capx.proof import receipt

    archive = None if archive_folder is None else Archive(archive_folder)

    if as_json:
        raise click.UsageError("a receipt has one form: leave out --json")
    with target.home_authority("capx why --receipt") as authority:
        if decision == "last":
            newest = _newest_denial(authority)
            found = None if newest is None else newest.read_if(_Identified)
            if found is None:
                raise click.UsageError("no recorded call stayed denied yet: give the id of a decision")
            decision = found.id
        made = receipt(authority, decision, archive=archive)
    sys.stdout.write(made.dump().decode())


def _newest_denial(authority: "target.Operations") -> "Event | None":
    before, limit = None, 1
    for _ in range(_MOST_PAGES):
        page = authority.calls(denied=True, before=before, limit=limit)
        for group in page.groups:
            if group.last.read_if(Decided) is not None:
                return group.last
        if page.reached == 0:
            return None
        before, limit = page.reached, _AROUND
    raise click.UsageError(
        "the newest denials are not written as capx writes them, or other decisions about their calls followed: "
        "capx find --denied --each shows them"
    )


def _group(around: "Iterable[Event]", event: "Event") -> "Group":
    from capx.store.decision_groups import Group, grouped

    found = (group for group in grouped(around) if any(one.position == event.position for one in group.events))
    return next(found, Group((event,)))


def _beside(around: "Iterable[Event]", group: "Group", event: "Event", about: Decided) -> "Neighbours":
    """Return the neighbours: before and after it in its task, of its call, its presentation, and its id."""
    # By their time: a service reports what it has decided later, maybe after the end of the task.
    found = sorted(_readable(around), key=lambda each: (each[0].at, each[0].position))
    of_task = [each for each in found if each[1].task == about.task and about.task is not None]
    others = [each for each in found if each[0].position != event.position]
    return {
        "before": [one for one, (after, _) in pairwise(of_task) if after.position == event.position],
        "after": [one for (before, _), one in pairwise(of_task) if before.position == event.position],
        "same_call": [one for one in _readable(group.events) if one[0].position != event.position],
        "same_presentation": [one for one in others if one[1].presentation == about.presentation is not None],
        # Any audience may record a decision with this id. Only one of them made it, so show all.
        "same_id": [one for one in others if one[1].id == about.id],
    }


def _late(around: "Iterable[Event]") -> set[int]:
    """Return the positions of the decisions that came into the log after what happened later in their task."""
    latest, late = dict[str | None, int](), set[int]()
    for event in around:
        task = None if (of := event.read_if(_OfTask)) is None else of.task
        if event.kind == "decision" and event.at < latest.get(task, 0):
            late.add(event.position)
        elif event.kind != "decision" and task is not None:
            latest[task] = max(event.at, latest.get(task, 0))
    return late


def _readable_one(authority: "target.Operations", event: "Event") -> "Event":
    """Return the decision, or another one of the same id if this one cannot be read."""
    if event.read_if(Decided) is not None:
        return event
    id_ = event.read_if(_Identified)
    others = (one for one, each in _readable(_around(authority, event)) if id_ is not None and each.id == id_.id)
    return next(others, event)


def _around(authority: "target.Operations", event: "Event") -> "Iterator[Event]":
    begin = max(0, event.position - 1 - _AROUND)
    return authority.log(begin, event.position + _AROUND - begin)


def _readable(around: "Iterable[Event]") -> "Iterator[tuple[Event, Decided]]":
    """Return the decisions among these events; skip an event that is not a readable decision."""
    for event in around:
        if event.kind == "decision" and (decided := event.read_if(Decided)) is not None:
            yield event, decided


def _agreed(authority: "target.Anyone", decided: "Decided") -> "tuple[list[GivenAnswer], list[RequestRecord]]":
    """Return the answers that led to what the call used, and these requests, and those of its node for its action."""
    from capx.errors import InvalidRequest

    if decided.task is None:
        return [], []
    try:
        answers, requests = authority.answers(decided.task), authority.requests(task=decided.task)
    except InvalidRequest:
        # A resource may name a task that does not exist.
        return [], []
    # An approval counts at its own id.
    used = {*decided.ids, *(one.counter for one in decided.spent)}
    wanted = decided.node, decided.audience, decided.action
    agreed = [one for one in answers if one.approval in used or not used.isdisjoint(one.given)]
    by_id = {one.request for one in agreed}
    return agreed, [one for one in requests if one.id in by_id or (one.node, one.audience, one.action) == wanted]


def _returned(around: "Iterable[Event]", about: Decided) -> "Event | None":
    """Return the event by which the call gave back what it had spent; None if there is none near it."""
    return next((one for one in around if _gives_back(one, about)), None) if about.spent else None


def _gives_back(event: "Event", decided: Decided) -> bool:
    from capx.store.events import GivenBack

    returned = event.read_if(GivenBack) if event.kind == GivenBack.kind else None
    return returned is not None and returned.is_of(decided.audience, decided.id, decided.presentation)


def _show(
    decision: Decided, beside: "Neighbours", said: "Iterable[tuple[str, str]]", late: "Container[int]" = ()
) -> None:
    style = f"bold {screen.GOOD if decision.outcome == 'allowed' else screen.BAD}"
    screen.say(
        f"{phrases.outcome(decision.outcome, decision.audience, decision.action).upper()}  {decision.wanted}", style
    )
    say_named(said)
    for reason in decision.reasons:
        phrases.said_reason(reason)
    for name, others in beside.items():
        for event, other in others:
            how = " (arrived late)" if event.position in late else ""
            screen.say(f"  {name.replace('_', ' ')}{how}: {other.line}", screen.QUIET)


def _said(
    event: "Event",
    decision: Decided,
    answers: "Iterable[GivenAnswer]",
    requests: "Iterable[RequestRecord]",
    returned: "Event | None",
) -> "Iterator[tuple[str, str]]":
    """Return what is shown of a decision, as names and sentences."""
    from capx.store.events import GivenBack

    position = f", position {event.position} of the log" if event.position else ""
    yield "when", f"{phrases.instant(event.at)}{position}"
    yield "who", phrases.holder(decision.hops)
    claim = ", as the resource claims" if decision.is_claim else ""
    yield "node", f"{decision.node or '-'}{claim}"
    if decision.key is not None:
        yield "key", decision.key
    yield "task", decision.task or "-"
    if decision.intent is not None:
        yield "intent", decision.intent
    if decision.outcome == "denied":
        # Nobody's yes led to this: what its agent asked for, and what became of it by now.
        for request in requests:
            until = f" until {phrases.instant(request.until)}" if request.state == "pending" else ""
            yield "asked", f"request {request.id} {inbox.state_phrase(request)}{until}"
    else:
        for answer in answers:
            what = inbox.answer_phrase(answer, requests)
            yield "by", f"what was asked for at run time: request {answer.request} {what}"
    yield "tenant", decision.tenant or "-"
    for one in decision.spent:
        yield "spent", one.sentence
    if returned is not None:
        yield "given back", f"{phrases.instant(returned.at)}: {given_back(returned.read(GivenBack))}"


def _as_json(beside: "Neighbours", late: "Container[int]") -> dict[str, Any]:
    said = {name: [_brief(*one, late) for one in others] for name, others in beside.items()}
    return {**said, **{name: next(iter(said[name]), None) for name in ("before", "after")}}


def _brief(event: "Event", decided: Decided, late: "Container[int]") -> dict[str, Any]:
    names = ("id", "outcome", "action", "audience", "node")
    where = {"position": event.position, "late": event.position in late}
    return {name: getattr(decided, name) for name in names} | where
