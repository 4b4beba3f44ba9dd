"""`capx why`: a decision, as it was recorded, and those beside it."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from capx_cli import completion, inbox, phrases, screen, target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from capx.store.log import Event
    from capx.store.records import RequestRecord
    from capx_cli.events import Decided
    from capx_cli.target import Operations

_AROUND = 1_000
"""Events before and after it, in which those beside it are looked for."""


class _Beside(Struct):
    """The decisions beside one: before and after it in its task, others on its presentation, and others of its id."""

    before: Any
    after: Any
    same_presentation: list[Any]
    same_id: list[Any]


class _Identified(Struct):
    id: str


@click.command(cls=phrases.TakesIds)
@click.argument("decision", shell_complete=completion.decisions)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@target.authority_option
def why(decision: str, as_json: bool) -> None:
    """Explain a recorded decision: who asked for what, every reason, what it spent, and what came before and after.

    DECISION is the id in a problem document, a response header, or the log. A refusal before the
    presentation was burnt (not authentic, misshapen, used before) is answered and not recorded. `last` is the
    newest denial; `capx find` shows others.

    Example: capx why last
    """
    from capx_cli import events
    from capx_cli.events import Decided

    with target.authority() as authority:
        newest = decision == "last"
        event = _newest_denial(authority) if newest else authority.decision(decision)
        if event is None and newest:
            raise click.UsageError("no denial was recorded yet")
        if event is None and (fault := phrases.no_id(decision)):
            raise click.UsageError(f"{decision!r:.80} is not the id of a decision: {fault}")
        if event is None:
            raise click.UsageError(
                f"there is no decision {decision!r:.80} in this log: one made just now may come still; a refusal "
                "before the presentation was burnt (not authentic, misshapen, used before) is answered, not recorded"
            )
        event = _readable_one(authority, event)
        if event.read_if(Decided) is None:
            raise click.UsageError(
                f"what stands at position {event.position} under this id is no decision as capx writes them: "
                "a resource wrote it, or somebody changed it, which capx store check tells; capx log shows what it says"
            )
        beside = _beside(authority, event)
        request = _granted_as(authority, event.read(Decided))
    if as_json:
        granted = None if request is None else inbox.as_json(request)
        screen.as_json({**events.decision_as_json(event), "beside": {**_as_json(beside), "granted_as": granted}})
    else:
        _show(event, beside, request)


def _newest_denial(authority: "Operations") -> "Event | None":
    from capx.store.decision_query import Query
    from capx_cli.events import Decided

    denied = Query(denied=True)
    return next(
        (one for one in authority.newest_first() if denied.matches(one) and one.read_if(Decided) is not None), None
    )


def _beside(authority: "Operations", event: "Event") -> _Beside:
    from capx_cli.events import Decided

    decided = list(_readable(_around(authority, event)))
    about = event.read(Decided)
    of_task = [one for one, each in decided if each.task == about.task and about.task is not None]
    before = next((one for one, after in pairwise(of_task) if after.position == event.position), None)
    after = next((one for before, one in pairwise(of_task) if before.position == event.position), None)
    same = [
        one
        for one, each in decided
        if each.presentation == about.presentation is not None and one.position != event.position
    ]
    # Each audience may have recorded a decision of this id, and only one of them made it.
    of_id = [one for one, each in decided if each.id == about.id and one.position != event.position]
    return _Beside(before, after, same, of_id)


def _readable_one(authority: "Operations", event: "Event") -> "Event":
    """The decision that was found, or one of its id that another audience recorded if it cannot be read itself."""
    from capx_cli.events import Decided

    if event.read_if(Decided) is not None:
        return event
    id_ = event.read_if(_Identified)
    others = (one for one, each in _readable(_around(authority, event)) if id_ is not None and each.id == id_.id)
    return next(others, event)


def _around(authority: "Operations", event: "Event") -> "Iterator[Event]":
    begin = max(0, event.position - 1 - _AROUND)
    return authority.log(begin, event.position + _AROUND - begin)


def _readable(around: "Iterable[Event]") -> "Iterator[tuple[Event, Decided]]":
    """The decisions among these events; one that is none hides no other."""
    from capx_cli.events import Decided

    for event in around:
        if event.kind == "decision" and (decided := event.read_if(Decided)) is not None:
            yield event, decided


def _granted_as(authority: "Operations", decided: "Decided") -> "RequestRecord | None":
    """The request by which the capability was granted at run time, if it was."""
    from capx.errors import InvalidRequest

    try:
        requests = [] if decided.task is None else authority.requests(task=decided.task)
    except InvalidRequest:
        # A resource may name any task.
        return None
    return next((one for one in requests if one.capability is not None and one.capability in decided.ids), None)


def _show(event: "Event", beside: _Beside, request: "RequestRecord | None") -> None:
    from capx_caveats import shown_instant
    from capx_cli.events import Decided

    decision = event.read(Decided)
    style = f"bold {screen.GOOD if decision.outcome == 'allowed' else screen.BAD}"
    screen.say(f"{decision.outcome.upper()}  {decision.wanted}", style)
    screen.say(f"  when    {shown_instant(event.at)}, position {event.position} of the log")
    screen.say(f"  who     {phrases.holder(decision.hops)}")
    screen.say(f"  node    {decision.node or '-'}")
    screen.say(f"  task    {decision.task or '-'}")
    if decision.intent is not None:
        screen.say(f"  intent  {decision.intent}")
    if request is not None:
        screen.say(f"  by      what was asked for at run time: request {request.id} {inbox.state_phrase(request)}")
    screen.say(f"  tenant  {decision.tenant or '-'}")
    for spending in decision.spent:
        screen.say(f"  spent   {spending.sentence}")
    for reason in decision.reasons:
        phrases.said_reason(reason)
    said = [
        ("before", beside.before),
        ("after", beside.after),
        *(("same presentation", x) for x in beside.same_presentation),
        *(("same id", x) for x in beside.same_id),
    ]
    for name, other in said:
        if other is not None:
            screen.say(f"  {name}: {other.read(Decided).line}", screen.QUIET)


def _as_json(beside: _Beside) -> dict[str, Any]:
    return {
        "before": _brief(beside.before),
        "after": _brief(beside.after),
        "same_presentation": [_brief(one) for one in beside.same_presentation],
        "same_id": [_brief(one) for one in beside.same_id],
    }


def _brief(event: "Event | None") -> dict[str, Any] | None:
    from capx_cli.events import Decided

    if event is None:
        return None
    decided = event.read(Decided)
    names = ("id", "outcome", "action", "audience", "node")
    return {**{name: getattr(decided, name) for name in names}, "position": event.position}
