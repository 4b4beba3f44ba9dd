"""`capx inspect`: show what a token says about itself, and what a store knows about it."""

from contextlib import closing
from typing import TYPE_CHECKING

import click

from capx_cli import call_approval, phrases, screen, target
from capx_cli.tokens import read_tokens, token_option
from capx_cli.view import json_option, say_named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capx.tokens.capability import Token
    from capx_cli.token_status import TokenStatus

_WARNING = "NOTHING WAS VERIFIED: this is what the token says about itself. To check it: capx verify"


@click.command()
@click.option("--blocks", is_flag=True, help="Also show every block, hop by hop.")
@click.option(
    "--store", "with_store", is_flag=True, help="Also show what the home's store knows: budgets and revocations."
)
@json_option
@token_option
def inspect(blocks: bool, with_store: bool, as_json: bool, token_file: str | None) -> None:
    """Show what a token can still allow: what, for whom, until when. Needs no key, and verifies nothing.

    For a token that can allow no call at all it says why. In JSON that is `why_nothing`.

    With --store it also looks into the store of the home: what is left of the budgets, and whether something is revoked
    that the token depends on.

    Example: capx inspect --blocks --token-file slides.token
    """
    tokens = read_tokens(token_file)
    statuses: list[TokenStatus | None] = _statuses(tokens) if with_store else [None] * len(tokens)
    if as_json:
        said = [_as_json(token, status) for token, status in zip(tokens, statuses, strict=True)]
        approvals = list(map(call_approval.facts, tokens.approvals))
        screen.as_json({"verified": False, "tokens": said, **({"approvals": approvals} if approvals else {})})
        return
    screen.say(_WARNING, screen.LOUD)
    for token, status in zip(tokens, statuses, strict=True):
        screen.say()
        _show(token, status)
        if blocks:
            _show_blocks(token)
    for one in tokens.approvals:
        screen.say()
        screen.say("an approval, which the holder has", screen.STRONG)
        call_approval.show_discharge(one)


def _statuses(tokens: "Sequence[Token]") -> "list[TokenStatus | None]":
    """Return what the store of the home knows about each token."""
    from capx.authority.home import open_home_store
    from capx_cli.token_status import status_of

    target.demand_home("capx inspect --store", "looks into the store itself")
    with screen.busy("looking into the store"), closing(open_home_store()) as store, store.read() as reading:
        return [status_of(token, reading) for token in tokens]


def _as_json(token: "Token", status: "TokenStatus | None") -> dict[str, object]:
    said = phrases.token_as_json(token)
    return said if status is None else {**said, "store": status}


def _show(token: "Token", status: "TokenStatus | None") -> None:
    from capx.crypto.base64url import b64u
    from capx.tokens.binding import WINDOW_AFTER

    screen.say(f"{token.audience}, held by {phrases.holder(token.hops)}", screen.STRONG)
    left = phrases.left_of(token)
    mark = phrases.presented(token)
    if mark is not None:
        until = mark.at + WINDOW_AFTER if left.expires is None else min(left.expires, mark.at + WINDOW_AFTER)
        screen.say(f"  a presentation: good for one {mark.profile} call, until {phrases.instant(until)}")
    said = [
        ("task", token.task or "-"),
        ("node", "-" if token.node is None else b64u(token.node)),
        ("id", b64u(token.id)),
        *phrases.keys(token),
        *(line for line in phrases.lines(left) if mark is None or line[0] != "delegation"),
        *((("delegation", "none"),) if mark is not None else ()),
        *(() if status is None else status.lines()),
    ]
    say_named(said, {"allows nothing": screen.BAD, "DEAD": screen.BAD})


def _show_blocks(token: "Token") -> None:
    for whose, block in phrases.blocks(token):
        for caveat in block:
            screen.say(f"  {whose}: {caveat.sentence()}")
