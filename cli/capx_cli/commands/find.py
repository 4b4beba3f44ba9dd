"""`capx find`: find recorded decisions."""

from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from msgspec import Struct

from capx_cli import completion, name_value, phrases, screen, target
from capx_cli.arguments import repeatable
from capx_cli.failure import DONE, NOTHING
from capx_cli.view import Page, page_options, show_each

if TYPE_CHECKING:
    from collections.abc import Iterator

    from capx.store.decision_groups import Group
    from capx.store.log import Event


class _Span(NamedTuple):
    """Which decisions of the log to show: those between two positions, at most so many."""

    before: int | None
    after: int | None
    most: int | None


@click.command()
@click.option("--agent", metavar="LABEL", help="Only of this agent, and of agents below it.")
@click.option("--tenant", metavar="NAME", help="Only of tasks of this tenant.")
@click.option("--action", metavar="PATTERN", help="Only this action: crm.read, or crm.* for all below.")
@click.option("--denied", is_flag=True, help="Only calls that stayed denied; with --each, all denials.")
@click.option(
    "--reason",
    "reasons",
    metavar="CODE",
    multiple=True,
    shell_complete=completion.reasons,
    help="Only what stayed denied for this reason, such as expired; with --each, all such denials. Repeatable: any of "
    "them.",
)
@repeatable(
    "--arg",
    "args",
    "NAME=TEXT",
    "Only with this argument: ticket=T-1 is text, amount:=40 is JSON. Services show those in the clear that their "
    "operator has named (record=).",
)
@click.option(
    "--each", is_flag=True, help="Each decision singly, also denials that another one of their call followed."
)
@click.option("--since", metavar="WHEN", help="Only from then on: 1h is an hour ago; or 2026-11-25T12:00:00Z.")
@click.option(
    "--task", metavar="TASK", shell_complete=completion.tasks, help="Only of this task; `last` is the newest."
)
@click.option(
    "--node", metavar="ID", help="Only where this node acted, or one below it. Without --task, a long log takes long."
)
@click.option(
    "--presentation",
    metavar="ID",
    help="Only about this presentation, each decision singly. Without --task, a long log takes long.",
)
@click.option("--decision", metavar="ID", help="Only the decision with this id, whatever followed.")
@page_options("POSITION|ID")
@target.archive_option
@click.option("--json", "as_json", is_flag=True, help="Write JSON: an array, one decision a line.")
@target.authority_option
def find(
    *,
    since: str | None,
    task: str | None,
    reasons: tuple[str, ...],
    args: tuple[str, ...],
    each: bool,
    limit: int | None,
    before: str | None,
    after: str | None,
    archive_folder: Path | None,
    as_json: bool,
    **asked: Any,
) -> int:
    """Find recorded decisions, one line each, the newest last: time, outcome, id, who wanted what, and the node.

    Decisions about one call are one line, that of the last: denials, and what followed within a minute, with the same
    node, action, audience and arguments. So --denied does not show a call that passed at the second try. --each shows
    each decision. In JSON, `same_call` has the ids of a line's decisions.

    A decision must match all options that are given. An agent's label is the name that its delegator gave it. It proves
    nothing. Use the ids of a line with capx why ID, capx graph TASK and capx revoke NODE. The exit code is 1 if no
    decision matches; --json then writes an empty array.

    A page has the newest 50. A line on standard error says how to get the next one, also with --json: --before and
    --after take a position of the log, or the id of a decision.

    With --archive, it searches the decisions that have left the store, each singly, and all of them unless --limit says
    otherwise.

    Example: capx find --denied --since 1h
    """
    from capx_cli import events

    events.demand_no_decision(asked["node"])
    page: Page[Group] = Page(limit, before, after, lambda group: group.last.position)
    begin = 0 if since is None else phrases.past(since)
    with target.authority() as authority:
        meant = None if task is None else phrases.task_id(authority, task)
        named = asked["decision"] is not None or asked["presentation"] is not None
        each = each or named or archive_folder is not None
        query: dict[str, Any] = {
            **asked,
            "task": meant,
            "reasons": reasons,
            "args": _shown_args(args),
            "since": begin,
        }
        span = _Span(
            phrases.position(authority, "--before", before), phrases.position(authority, "--after", after), page.most
        )
        found = screen.awaited(
            "reading the log",
            lambda: (
                _found(authority, span, each=each, **query)
                if archive_folder is None
                else _archived(archive_folder, span, limit, **query)
            ),
        )
        first = list(islice(found, 1))
        looked_for = ", ".join(
            name if value is True else f"{name} {value}"
            for name, value in {
                **asked,
                "arg": " and ".join(args),
                "reason": " or ".join(reasons),
                "task": meant,
                "since": since,
            }.items()
            if value not in {None, False, ""}
        )
        nothing = f"no such decision was recorded{f': {looked_for}' if looked_for else ''}{_similar(reasons)}"
        shown = page.shown(chain(first, found))
        facts = events.last_as_json if each else events.group_as_json
        show_each(shown, as_json, facts=facts, say=events.say_decision, nothing=nothing)
    return DONE if first else NOTHING


def _shown_args(typed: tuple[str, ...]) -> tuple[str, ...]:
    """Return arguments as a query names them."""
    from capx.crypto.canonical_json import canonical

    return tuple([f"{name}={canonical(value).decode()}" for name, value in name_value.arguments(typed).items()])


def _similar(reasons: tuple[str, ...]) -> str:
    """Return a question about codes that look like another one, or nothing; a service's own codes may be any."""
    from difflib import get_close_matches

    from capx.verify.decision import STATUS

    meant = [match for code in reasons if code not in STATUS for match in get_close_matches(code, STATUS, n=1)]
    return f"; did you mean {' or '.join(meant)}?" if meant else ""


def _found(
    authority: "target.Operations", span: _Span, *, each: bool, decision: str | None, **query: Any
) -> "Iterator[Group]":
    from capx.store.decision_groups import Group

    for what in ("node", "presentation"):
        phrases.demand_id(what, query[what])
    if decision is not None:
        return (Group((event,)) for event in _one(authority, decision, query))
    if span.after is None and span.most is not None:
        return _newest(authority, span.before, span.most, each=each, **query)
    return _in_order(authority, span, each=each, **query)


def _archived(folder: Path, span: _Span, limit: int | None, *, decision: str | None, **query: Any) -> "Iterator[Group]":
    from capx.ledger import Archive
    from capx.store.decision_groups import Group
    from capx.store.decision_query import Query

    wanted, most = Query(**query), limit or None
    with target.home_authority("capx find --archive") as home, home.store.read() as reading:
        found = Archive(folder).decisions(
            reading,
            naming=query["task"] or decision or "",
            matches=lambda event: (
                (span.after or 0) < event.position < (span.before or phrases.LAST)
                and wanted.matches(event)
                and (decision is None or _is(event, decision))
            ),
        )
        yield from (Group((event,)) for event in islice(found, most))


class _Identified(Struct):
    id: str


def _is(event: "Event", decision: str) -> bool:
    read = event.read_if(_Identified)
    return read is not None and read.id == decision


def _newest(authority: "target.Operations", before: int | None, most: int, **query: Any) -> "Iterator[Group]":
    found: list[Group] = []
    while len(found) < most and before != 0:
        page = authority.calls(before=before, limit=most - len(found), **query)
        found += page.groups
        before = page.reached
    return reversed(found)


def _in_order(
    authority: "target.Operations",
    span: _Span,
    *,
    each: bool,
    denied: bool,
    reasons: tuple[str, ...],
    **query: Any,
) -> "Iterator[Group]":
    from capx.store.decision_groups import Group, grouped
    from capx.store.decision_query import Query

    after, until = span.after or 0, authority.end() if span.before is None else span.before - 1
    if each:
        found = authority.find(after=after, until=until, denied=denied, reasons=reasons, **query)
        return islice((Group((event,)) for event in found), span.most)
    outcome = Query(denied=denied, reasons=reasons)
    # The outcome of a call is that of its last decision: so the others are read, too.
    read = authority.find(after=after, until=until, **query)
    return islice(grouped(read, lambda group: outcome.matches(group.last)), span.most)


def _one(authority: "target.Operations", decision: str, query: dict[str, Any]) -> "Iterator[Event]":
    from capx.store.decision_query import Query

    event = authority.decision(decision)
    if event is None:
        phrases.demand_id("decision", decision)
    elif Query(**query).matches(event):
        yield event
