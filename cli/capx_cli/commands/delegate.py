"""`capx delegate`: narrow a token for another agent."""

from itertools import chain

import click

from capx_cli import arguments, completion, phrases, screen
from capx_cli.token_output import Output, output_options
from capx_cli.tokens import read_bundle, token_option


@click.command(cls=arguments.Ordered)
@click.option("--to", required=True, metavar="AGENT", help="The name of the other agent: a label for people.")
@arguments.allow_options(may_ask=True)
@arguments.caveat_options()
@arguments.repeatable(
    "--audience", "audiences", None, "Pass on only what is for this audience.", shell_complete=completion.held
)
@output_options
@token_option
def delegate(
    *,
    to: str,
    allows: arguments.Allows,
    narrowing: arguments.Narrowing,
    audiences: tuple[str, ...],
    output: Output,
    token_file: str | None,
) -> None:
    """Narrow a token for another agent, and write the new one to standard output.

    This needs no key and no network. The new token allows only actions that --allow names and the old token allows.
    Without --allow, it allows all that the old one allows at services. Its holder may ask at run time only for what
    --may-ask names; without --may-ask, for nothing. The id of its node, with which you can revoke it, goes to standard
    error.

    Example: capx delegate --to slides-agent --allow slides.write --with deck=deck-42 --expires 10m
    """
    from capx.crypto.base64url import b64u

    child = read_bundle(token_file).delegate(
        to=to,
        allow=allows.entries() or None,
        may_ask=allows.asks(),
        caveats=narrowing.caveats(),
        audiences=audiences or None,
    )
    node = "-" if child.node is None else b64u(child.node)
    delegated = phrases.of_new_token((f"delegated to {to}, node {node}", screen.GOOD), child)
    output.write(child.text, lambda: phrases.bundle_as_json(child), chain(delegated, phrases.what_it_may_ask(child)))
