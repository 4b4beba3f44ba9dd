"""`capx inspect`: what a token says of itself."""

import time
from typing import TYPE_CHECKING

import click

from capx_cli import screen, words
from capx_cli.tokens import read_tokens, token_option

if TYPE_CHECKING:
    from capx.capability import Token

_WARNING = "NOTHING WAS VERIFIED: this is what the token says of itself. To check it: capx verify"


@click.command()
@click.option("--blocks", is_flag=True, help="Show every block as well, hop by hop.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@token_option
def inspect(blocks: bool, as_json: bool, token_file: str | None) -> None:
    """Show what a token can still allow: what, for whom, until when. Needs no key, and verifies nothing.

    Example: capx inspect --blocks --token-file slides.token
    """
    tokens = read_tokens(token_file)
    if as_json:
        screen.as_json({"verified": False, "tokens": [words.token_as_json(token) for token in tokens]})
        return
    screen.say(_WARNING, screen.LOUD)
    for token in tokens:
        screen.say()
        _show(token)
        if blocks:
            _show_blocks(token)


def _show(token: "Token") -> None:
    from capx.chain import b64u
    from capx.effective import effective
    from capx.present import WINDOW_AFTER
    from capx_caveats import shown_instant

    screen.say(f"{token.audience}, held by {words.holder(token.hops)}", screen.STRONG)
    left = effective(token, int(time.time()))
    mark = words.presented(token)
    if mark is not None:
        until = mark.at + WINDOW_AFTER if left.expires is None else min(left.expires, mark.at + WINDOW_AFTER)
        screen.say(f"  a presentation: good for one {mark.profile} call, until {shown_instant(until)}")
    said = [
        ("task", token.task or "-"),
        ("node", "-" if token.node is None else b64u(token.node)),
        ("id", b64u(token.id)),
        *(line for line in words.lines(left) if mark is None or line[0] != "delegation"),
        *((("delegation", "none"),) if mark is not None else ()),
    ]
    width = max(len(name) for name, _ in said)
    for name, sentence in said:
        screen.say(f"  {name:{width}}  {sentence}", screen.BAD if name == "allows nothing" else "")


def _show_blocks(token: "Token") -> None:
    for whose, block in words.blocks(token):
        for caveat in block:
            screen.say(f"  {whose}: {caveat.sentence()}")
