"""`capx import`: a token as other macaroon libraries write it."""

import click

from capx_cli import phrases, screen
from capx_cli.failure import Unusable
from capx_cli.tokens import read_text, token_option


@click.command("import")
@token_option
def import_(token_file: str | None) -> None:
    """Read plain macaroons, one on each line, and write them as one token to standard output.

    Read are base64 of both formats of libmacaroons, and both as JSON. Each must be a capability of capx: with an
    identifier of its form, and the audience as location. Needs no key, and verifies nothing: one with a wrong
    signature comes in as well, and is refused where it is used.

    Example: capx import --token-file slides.macaroon > slides.token
    """
    from capx.errors import InvalidRequest
    from capx.tokens.bundle import Bundle
    from capx.tokens.interop import from_text

    try:
        bundle = Bundle(map(from_text, _each(read_text(token_file))))
    except InvalidRequest as error:
        raise Unusable(str(error)) from None
    screen.bare(bundle.text)
    screen.note("NOTHING WAS VERIFIED: a wrong signature comes in as well. To check it: capx verify", screen.LOUD)
    phrases.what_is_left(bundle)


def _each(text: str) -> list[str]:
    """The macaroons in a text; a single one as JSON may stand on several lines, and ends none that it begins."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return lines if all(line.startswith("{") == line.endswith("}") for line in lines) else [text]
