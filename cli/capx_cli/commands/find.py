"""`capx find`: recorded decisions."""

import time

import click

from capx_cli import completion, screen, words


@click.command()
@click.option("--agent", metavar="LABEL", help="Only of this agent, and of those it delegated to.")
@click.option("--tenant", metavar="NAME", help="Only of tasks of this tenant.")
@click.option("--action", metavar="PATTERN", help="Only of this action: crm.read, or crm.* for all below.")
@click.option("--denied", is_flag=True, help="Only what was denied.")
@click.option("--since", metavar="WHEN", help="Only since then: 1h is an hour ago; or 2026-11-25T12:00:00Z.")
@click.option(
    "--task", metavar="TASK", shell_complete=completion.tasks, help="Only of this task; `last` is the newest."
)
@click.option("--limit", type=words.COUNT, metavar="N", help="Only the N newest of them.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON: an array, a decision a line.")
def find(
    *,
    agent: str | None,
    tenant: str | None,
    action: str | None,
    denied: bool,
    since: str | None,
    task: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Find recorded decisions, one line each, the newest last: time, outcome, id, who wanted what, and its node.

    All options that are given must fit. A label is what whoever delegated called an agent; it proves nothing. Go on
    with the id, or with what it shows: capx why ID, capx graph TASK, capx revoke NODE.

    Example: capx find --denied --since 1h
    """
    from capx.authority import Authority
    from capx_cli import events

    after = 0 if since is None else words.past(since, int(time.time()))
    with Authority.open_home() as authority:
        meant = None if task is None else words.task_id(authority, task)
        found = screen.awaited(
            "reading the log",
            lambda: authority.find(
                agent=agent, tenant=tenant, action=action, task=meant, denied=denied, since=after, limit=limit
            ),
        )
        if as_json:
            screen.as_json_array(map(events.decision_as_json, found))
            return
        said = sum(1 for _ in map(events.say_decision, found))
    if not said:
        screen.note("no such decision was recorded")
