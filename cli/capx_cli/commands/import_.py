"""`capx import`: read a token that another macaroon library wrote."""

import click

from capx_cli import phrases, screen
from capx_cli.token_output import Output, output_options
from capx_cli.tokens import reading, token_option


@click.command("import")
@output_options
@token_option
def import_(output: Output, token_file: str | None) -> None:
    """Read plain macaroons, one on each line, and write them as one token to standard output.

    It reads both formats of libmacaroons, in base64 and as JSON. Each macaroon must be a capability of capx: its
    identifier has the right form, and its location is the audience. This needs no key, and verifies nothing. It also
    reads a macaroon with a wrong signature, which is then denied where it is used.

    Example: capx import --token-file slides.macaroon > slides.token
    """
    from capx.tokens.bundle import Bundle
    from capx.tokens.interop import from_text

    with reading(token_file) as text:
        bundle = Bundle(map(from_text, _each(text)))
    warning = "NOTHING WAS VERIFIED: the signature may be wrong. To check it: capx verify"
    output.write(
        bundle.text,
        lambda: {"verified": False, **phrases.bundle_as_json(bundle)},
        phrases.of_new_token((warning, screen.LOUD), bundle),
    )


def _each(text: str) -> list[str]:
    """Return the macaroons of a text; a single one as JSON may take several lines."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return lines if all(line.startswith("{") == line.endswith("}") for line in lines) else [text]
