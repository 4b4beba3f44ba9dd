"""`capx ask`: more for a token, at run time."""

import time
from typing import TYPE_CHECKING

import click

from capx_cli import arguments, following, reached, screen, typed, words
from capx_cli.failure import DENIED, DONE, Unusable
from capx_cli.tokens import read_bundle, token_option

if TYPE_CHECKING:
    from capx.asking import Answer, Ask
    from capx.bundle import Bundle

_GLANCE = 0.25
_LONGEST = 86_400


@click.command(cls=arguments.Ordered)
@click.argument("action", metavar="ACTION[@AUDIENCE]")
@click.option(
    "--with",
    "args",
    multiple=True,
    metavar="NAME=TEXT",
    help="An argument of the one call it is for: deck=deck-42 is text, limit:=10 is JSON. Repeatable.",
)
@click.option("--no-args", is_flag=True, help="It is for calls without arguments.")
@click.option("--wait", metavar="TIME", help="How long to wait for a person who has to answer: 30s, 5m.")
@click.option(
    "--url",
    metavar="URL",
    envvar="CAPX_AUTHORITY_URL",
    help="The authority that serves there, https://authority.internal:8411. Else: CAPX_AUTHORITY_URL, the home.",
)
@token_option
def ask(
    *,
    action: str,
    args: tuple[str, ...],
    no_args: bool,
    wait: str | None,
    url: str | None,
    token_file: str | None,
) -> int:
    """Ask for an action that the token does not allow yet, and write the token with it to standard output.

    A policy says what is granted at once, and what a person has to consent to; it is never more than whoever delegated
    lets the token ask for. With neither --with nor --no-args it is
    for any arguments. Exit code 1 says that nothing was granted, and nothing is written: ask again when somebody has
    answered, or use --wait.

    Example: capx ask warehouse.stock.read --wait 30s > wider.token
    """
    from capx.asking import Ask

    name, at, audience = action.partition("@")
    if at and not audience:
        raise click.UsageError(f"{action:.200} names no audience after the @")
    if no_args and args:
        raise click.UsageError("give either --with or --no-args")
    pinned = typed.arguments(args) if args or no_args else None
    wanted = Ask(audience=audience or name.partition(".")[0], action=name, args=pinned)
    seconds = _seconds(wait)
    bundle = read_bundle(token_file)
    return _told(bundle, _over_http(url, bundle, wanted, seconds) if url else _at_home(bundle, wanted, seconds))


def _seconds(wait: str | None) -> float:
    from capx_caveats import parse_duration

    seconds = 0 if wait is None else parse_duration(wait)
    if seconds > _LONGEST:
        raise click.UsageError(f"--wait {wait:.40}: nobody waits longer than a day; ask again later")
    return float(seconds)


def _over_http(url: str, bundle: "Bundle", ask: "Ask", seconds: float) -> "Answer":
    try:
        from capx.agent_client import AuthorityClient
    except ModuleNotFoundError as error:
        raise Unusable(f"capx ask --url needs {error.name}: pip install 'capx-auth[httpx]'") from None
    if not url.lower().startswith(("http://", "https://")):
        raise click.UsageError(f"{url!r:.200} is no URL of an authority: it begins with https:// or http://")
    with AuthorityClient(url, bundle) as client, screen.busy("asking"):
        return client.ask(ask.action, audience=ask.audience, args=ask.args, wait=seconds)


def _at_home(bundle: "Bundle", ask: "Ask", seconds: float) -> "Answer":
    from capx.asking import Pending

    ends = time.monotonic() + seconds
    with reached.home_authority("capx ask without --url") as authority, screen.busy("asking"):
        while True:
            mark = following.end_of(authority)
            answer = authority.ask(bundle, ask.action, audience=ask.audience, args=ask.args)
            if not isinstance(answer, Pending) or (left := ends - time.monotonic()) <= 0:
                return answer
            following.awaited(authority, mark, glance=_GLANCE, at_most=left)


def _told(bundle: "Bundle", answer: "Answer") -> int:
    from capx.asking import Granted, Pending
    from capx.decision import reason

    if isinstance(answer, Granted):
        fuller = bundle.holding(answer.capability)
        screen.bare(fuller.text)
        screen.note("granted", screen.GOOD)
        words.what_is_left(type(fuller)([answer.capability]))
        return DONE
    if isinstance(answer, Pending):
        screen.note(f"pending: {answer}", screen.STRONG)
        return DENIED
    screen.note("refused", screen.LOUD)
    for refusal in answer.reasons:
        said = reason(refusal)
        screen.note(f"  {said['code']}: {said['sentence']}", screen.BAD)
    return DENIED
