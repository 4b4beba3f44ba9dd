"""What can be typed next, where a home or a token at hand tells.

Laws: nobody is asked but the authority that the command would work with, a long log is not read through, and whatever
fails means that there is nothing to offer: a shell that completes shows no error.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from itertools import islice
from typing import Any

import click
from click.shell_completion import CompletionItem

from capx_cli import target
from capx_cli.escape import clean

_MOST = 50
_RECENT = 1_000
"""Events looked at from the end of the log."""

Offer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _quietly(offered: Callable[[click.Context], Iterable[tuple[str, str]]]) -> Offer:
    @wraps(offered)
    def offer(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
        try:
            # Click has let go of the context by now, and what was typed before tells which authority is meant.
            with context.scope(cleanup=False):
                found = ((clean(value), clean(about)) for value, about in offered(context))
                fitting = (CompletionItem(value, help=about) for value, about in found if value.startswith(typed))
                return list(islice(fitting, _MOST))
        except Exception:  # noqa: BLE001 - whatever is wrong, this is not the moment to say so
            return []

    return offer


@_quietly
def tasks(_: click.Context) -> Iterable[tuple[str, str]]:
    """Task ids, the newest first, and `last`."""
    yield "last", "the task that was opened last"
    with target.authority() as authority:
        for task in reversed(authority.tasks()):
            yield task.id, f"{task.state} {task.tenant or ''} {task.purpose or ''}".rstrip()


@_quietly
def requests(_: click.Context) -> Iterable[tuple[str, str]]:
    """Ids of the requests that wait for a person, the newest first, and `last`."""
    yield "last", "the one that a person was asked for last"
    with target.authority() as authority:
        for request in reversed(authority.requests(pending=True)):
            yield request.id, f"{request.action}@{request.audience}"


@_quietly
def kids(_: click.Context) -> Iterable[tuple[str, str]]:
    """The ids of the root keys of the home; nothing where another authority is meant, whose keys are its own."""
    from capx.authority.home import ROOT_KEYS, home_folder
    from capx.crypto.keys import KeyRing

    if target.elsewhere() is not None:
        return
    ring = KeyRing.load(home_folder() / ROOT_KEYS)
    for kid in ring.kids:
        yield kid, "active" if kid == ring.active.kid else "verifies"


@_quietly
def decisions(_: click.Context) -> Iterable[tuple[str, str]]:
    """Ids of the newest decisions, and `last`."""
    yield "last", "the newest denial"
    for event in _recent("decision"):
        facts = event.facts()
        yield facts["id"], f"{facts['outcome']} {facts['action'] or ''}".rstrip()


@_quietly
def audiences(_: click.Context) -> Iterable[tuple[str, str]]:
    """The audiences for which something was minted of late."""
    for audience in dict.fromkeys(event.facts()["audience"] for event in _recent("capability_minted")):
        yield audience, ""


@_quietly
def held(context: click.Context) -> Iterable[tuple[str, str]]:
    """The audiences that the token in a file speaks to."""
    from capx_cli.tokens import named_file, read_tokens

    file = context.params.get("token_file") or named_file()
    for token in read_tokens(file) if file and file != "-" else ():
        yield token.audience, ""


def _recent(kind: str) -> list[Any]:
    with target.authority() as authority:
        return [event for event in islice(authority.newest_first(), _RECENT) if event.kind == kind]
