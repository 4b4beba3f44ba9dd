"""`capx attenuate`: narrow a token for the same holder."""

from itertools import chain

import click

from capx.tokens.approval_caveat import ApprovalTerms
from capx_caveats import allow as allowing
from capx_cli import arguments, call_approval, phrases, screen
from capx_cli.token_output import Output, output_options
from capx_cli.tokens import read_bundle, token_option


@click.command(cls=arguments.Ordered)
@arguments.allow_options()
@arguments.caveat_options()
@call_approval.demand_options
@output_options
@token_option
def attenuate(
    *,
    allows: arguments.Allows,
    narrowing: arguments.Narrowing,
    approval: ApprovalTerms | None,
    output: Output,
    token_file: str | None,
) -> None:
    """Narrow a token, and write the new one to standard output.

    This needs no key and no network. All restrictions of the old token stay.

    Example: capx attenuate --expires 5m --max-hops 0
    """
    entries, caveats = allows.entries(), narrowing.caveats()
    if not entries and not caveats and approval is None:
        raise click.UsageError("there is nothing to narrow: give --allow, --expires, --tenant, --max-hops or --where")
    restricting = ((allowing(*entries),) if entries else (), caveats)
    bundle = read_bundle(token_file).attenuate(*chain(*restricting), approval=approval)
    narrowed = phrases.of_new_token(("narrowed", screen.GOOD), bundle)
    output.write(bundle.text, lambda: phrases.bundle_as_json(bundle), narrowed)
