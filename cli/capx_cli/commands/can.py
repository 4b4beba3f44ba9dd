"""`capx can`: list what a token can still do."""

from typing import TYPE_CHECKING, Any

import click

from capx_cli import phrases, screen
from capx_cli.tokens import read_tokens, token_option

if TYPE_CHECKING:
    from capx.tokens.effective.effective import Effective

_WARNING = "Nothing was verified. To see for whom, until when, and who narrowed it: capx inspect"


@click.command()
@click.option(
    "--json", "as_json", is_flag=True, help="Write JSON: an array of what the token allows, each with its limits."
)
@click.option("--also", is_flag=True, help="List instead what every call must satisfy, one line each.")
@token_option
def can(as_json: bool, also: bool, token_file: str | None) -> None:
    """List what a token can still allow, one line for each action at each audience. Needs no key, and verifies nothing.

    A line is the audience, a blank, the action, and if there are limits, ` where` and the limits in words. So a script
    can use `read audience action limits`. If a line ends with `and only where all of --also hold`, a call must also
    satisfy what --also lists. A line `authority may ask for …` says what the holder may ask for at run time. For a
    token that allows nothing there are no lines, and the reason goes to standard error.

    Example: capx can --token-file slides.token | grep '^slides '
    """
    found = list(map(phrases.left_of, read_tokens(token_file)))
    if as_json and also:
        raise click.UsageError("--json already has what --also lists: give only one of the two")
    if as_json:
        screen.as_json([_as_json(left, at) for left in found for at in range(len(_may(left)))])
    for left in found:
        for sentence in () if as_json else _demanded(left) if also else _may(left):
            screen.say(f"{left.audience} {sentence}")
    for line in phrases.nothing_at((left, left.why_nothing) for left in found):
        screen.note(line, screen.BAD)
    screen.note(_WARNING, screen.QUIET)


def _may(left: "Effective") -> list[str]:
    """Return the sentence of each entry, without the demands on every call: they may be long."""
    besides = "; and only where all of --also hold" if left.also else ""
    return [f"{each}{besides}" for each in left.sentences()]


def _demanded(left: "Effective") -> tuple[str, ...]:
    return () if left.why_nothing else left.also


def _as_json(left: "Effective", at: int) -> dict[str, Any]:
    facts = left.as_json()
    return {
        "audience": left.audience,
        **facts["may"][at],
        **{name: facts[name] for name in ("also", "tenant", "from", "until", "until_completed")},
    }
