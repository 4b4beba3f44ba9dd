"""`capx export`: write a token for other macaroon libraries."""

from typing import TYPE_CHECKING

import click

from capx_cli import phrases
from capx_cli.token_output import Output, output_options
from capx_cli.tokens import read_bundle, token_option

if TYPE_CHECKING:
    from capx.tokens.interop import Format


@click.command()
@click.option(
    "--format", type=click.Choice(["v2", "v2json", "v1"]), default="v2", show_default=True, help="The format to write."
)
@click.option("--audience", help="Write only what is for this audience.")
@output_options
@token_option
def export(format: "Format", audience: str | None, output: Output, token_file: str | None) -> None:
    """Write a token as plain macaroons, one on each line, to standard output.

    v2 and v1 are the formats of libmacaroons in base64. v2json is v2 as JSON. The output is as secret as the token, but
    it lacks the prefix by which a scanner finds tokens. `capx import` reads it back.

    Example: capx export --format v2json --token-file slides.token
    """
    from capx.tokens.interop import to_text

    bundle = read_bundle(token_file)
    chosen = [capability for capability in bundle if audience in (None, capability.audience)]
    if not chosen:
        raise click.UsageError(f"this token is for {', '.join(bundle.audiences)}, not for {audience!r:.80}")
    output.write(
        "\n".join([to_text(capability, format) for capability in chosen]),
        lambda: {"format": format, "tokens": list(map(phrases.token_as_json, chosen))},
        ["this is as secret as the token, and lacks the prefix by which scanners find tokens"],
    )
