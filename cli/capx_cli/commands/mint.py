"""`capx mint`: more authority for a task that runs."""

import click

from capx_cli import arguments, screen, words


@click.command(cls=arguments.Ordered, context_settings=words.IDS)
@click.argument("task_id", metavar="TASK")
@arguments.allow_options(required=True)
@click.option("--expires", metavar="WHEN", help="Until then; never later than the task.")
@click.option("--not-before", metavar="WHEN", help="Not before then.")
@click.option("--max-hops", type=click.IntRange(min=0), metavar="N", help="At most N delegations.")
@click.option("--where", multiple=True, metavar="NAME=VALUE", help="What every call must satisfy. Repeatable.")
def mint(
    *,
    task_id: str,
    allow: tuple[str, ...],
    with_: tuple[str, ...],
    expires: str | None,
    not_before: str | None,
    max_hops: int | None,
    where: tuple[str, ...],
) -> None:
    """Mint one more capability for a task, at its root, and write it to standard output.

    TASK is a task id, or `last`. Join what is written to the agent's token with a comma.

    Example: capx mint last --allow tickets.read --expires 10m
    """
    from capx.authority import Authority

    granted = arguments.granted(allow, with_)
    caveats = arguments.caveats(not_before=not_before, max_hops=max_hops, where=where)
    with Authority.open_home() as authority:
        bundle = authority.mint(words.task_id(authority, task_id), allow=granted, expires=expires, caveats=caveats)
    screen.bare(bundle.text)
    screen.note(f"minted for task {bundle.task}", screen.GOOD)
    words.what_is_left(bundle)
