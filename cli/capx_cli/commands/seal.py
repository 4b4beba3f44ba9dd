"""`capx seal`: hand a token over in a text that only one agent can read."""

import click

from capx_cli import agent_keys, phrases, screen
from capx_cli.token_output import SEALED, Output, output_options_for
from capx_cli.tokens import read_bundle, token_option


@click.command()
@agent_keys.public_option(
    "--to", "The public key of the agent that may read it. Default: the key that the token is bound to."
)
@output_options_for("the sealed text")
@token_option
def seal(*, to: str | None, output: Output, token_file: str | None) -> None:
    """Seal a token for one agent, and write the sealed text to standard output.

    Only the owner of that key can read the text, with capx unseal. So it can wait where others may read it: in a queue,
    or in a shared file. Nobody can change it on its way, but it does not say who sealed it. Sealing only hides a token.
    What makes a stolen token useless is --to-key of capx delegate.

    Example: capx seal --to "$(capx agent-key show slides.key)" --token-file slides.token > slides.sealed
    """
    bundle = read_bundle(token_file)
    if to is None and bundle.holder is None:
        raise click.UsageError("this token is bound to no key: name the public key of its next holder with --to")
    if to is not None and bundle.holder not in {None, to}:
        raise click.UsageError(
            f"this token is bound to {bundle.holder}, so the owner of {to} could not use it: leave out --to, or "
            "delegate to that key first (capx delegate --to-key)"
        )
    sealed = bundle.sealed(to=to)
    output.write(
        sealed,
        lambda: {"sealed_to": to or bundle.holder, **phrases.bundle_as_json(bundle)},
        ((f"sealed to {to or bundle.holder}", screen.GOOD),),
        SEALED,
    )
