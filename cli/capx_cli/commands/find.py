"""`capx find`: find recorded decisions."""

from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import click

from capx_cli import completion, phrases, screen, target
from capx_cli.view import show_each

if TYPE_CHECKING:
    from collections.abc import Iterator

    from capx.store.log import Event


@click.command()
@click.option("--agent", metavar="LABEL", help="Only of this agent, and of agents below it.")
@click.option("--tenant", metavar="NAME", help="Only of tasks of this tenant.")
@click.option("--action", metavar="PATTERN", help="Only this action: crm.read, or crm.* for all below.")
@click.option("--denied", is_flag=True, help="Only denials.")
@click.option("--since", metavar="WHEN", help="Only from then on: 1h is an hour ago; or 2026-11-25T12:00:00Z.")
@click.option(
    "--task", metavar="TASK", shell_complete=completion.tasks, help="Only of this task; `last` is the newest."
)
@click.option("--node", metavar="ID", help="Only where this node acted, or one below it.")
@click.option("--presentation", metavar="ID", help="Only about this presentation.")
@click.option("--decision", metavar="ID", help="Only the decision with this id.")
@click.option("--limit", type=phrases.COUNT, metavar="N", help="Only the newest N.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON: an array, one decision a line.")
@target.authority_option
def find(*, since: str | None, task: str | None, as_json: bool, **asked: Any) -> None:
    """Find recorded decisions, one line each, the newest last: time, outcome, id, who wanted what, and the node.

    A decision must match all options that are given. An agent's label is the name that its delegator gave it. It proves
    nothing. Use the ids of a line with capx why ID, capx graph TASK and capx revoke NODE.

    Example: capx find --denied --since 1h
    """
    from capx_cli import events

    after = 0 if since is None else phrases.past(since)
    with target.authority() as authority:
        meant = None if task is None else phrases.task_id(authority, task)
        found = screen.awaited("reading the log", lambda: _found(authority, task=meant, since=after, **asked))
        first = list(islice(found, 1))
        if not first and asked["node"] is not None:
            # The id of a decision looks like a node's, and nothing is below it.
            events.demand_no_decision(authority, asked["node"], "capx find --node")
        looked_for = ", ".join(
            name if value is True else f"{name} {value}"
            for name, value in {**asked, "task": meant, "since": since}.items()
            if value not in {None, False} and name != "limit"
        )
        nothing = f"no such decision was recorded{f': {looked_for}' if looked_for else ''}"
        found = chain(first, found)
        show_each(found, as_json, facts=events.decision_as_json, say=events.say_decision, nothing=nothing)


def _found(
    authority: "target.Operations", *, decision: str | None, limit: int | None, **query: Any
) -> "Iterator[Event]":
    for what in ("node", "presentation"):
        phrases.demand_id(what, query[what])
    if decision is None:
        return authority.find(limit=limit, **query)
    return _one(authority, decision, query)


def _one(authority: "target.Operations", decision: str, query: dict[str, Any]) -> "Iterator[Event]":
    from capx.store.decision_query import Query

    event = authority.decision(decision)
    if event is None:
        phrases.demand_id("decision", decision)
    elif Query(**query).matches(event):
        yield event
