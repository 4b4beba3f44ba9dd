"""`capx mint`: give a running task one more capability."""

import click

from capx_cli import arguments, completion, phrases, screen, target
from capx_cli.token_output import Output, output_options


class _Mint(phrases.TakesIds, arguments.Ordered):
    """A command that takes the id of a task, and options in their order."""


@click.command(cls=_Mint)
@click.argument("task_id", metavar="TASK", shell_complete=completion.tasks)
@arguments.allow_options(required=True, audiences=True)
@arguments.caveat_options(tenant=False)
@output_options
@target.authority_option
def mint(
    *,
    task_id: str,
    allows: arguments.Allows,
    narrowing: arguments.Narrowing,
    output: Output,
) -> None:
    """Mint one more capability for a task, at its root, and write it to standard output.

    TASK is a task id, or `last`. The capability has the task's tenant, and ends with the task at the latest. Join it to
    the agent's token with a comma.

    Example: capx mint last --allow tickets.read --expires 10m
    """
    granted, caveats = allows.grants(), narrowing.beside_the_task()
    with target.authority() as authority:
        meant = phrases.task_id(authority, task_id)
        bundle = authority.mint(meant, allow=granted, expires=narrowing.expires, caveats=caveats)
    minted = phrases.of_new_token((f"minted for task {bundle.task}", screen.GOOD), bundle)
    output.write(bundle.text, lambda: phrases.bundle_as_json(bundle), minted)
