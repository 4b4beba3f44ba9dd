"""What can be typed next, if a home or a token at hand knows it.

Laws: only the authority that the command would use is asked. A long log is not read to its end. A failure means that
there is nothing to offer: a shell that completes shows no error.
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
"""How many events are read, from the end of the log."""

Offer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _quietly(offered: Callable[[click.Context], Iterable[tuple[str, str]]]) -> Offer:
    @wraps(offered)
    def offer(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
        try:
            # Click has left the context already, but the authority depends on what was typed before.
            with context.scope(cleanup=False):
                found = ((clean(value), clean(about)) for value, about in offered(context))
                fitting = (CompletionItem(value, help=about) for value, about in found if value.startswith(typed))
                return list(islice(fitting, _MOST))
        except Exception:  # noqa: BLE001 - whatever is wrong, this is not the moment to say so
            return []

    return offer


@_quietly
def tasks(_: click.Context) -> Iterable[tuple[str, str]]:
    """Return task ids, the newest first, and `last`."""
    yield "last", "the task that was opened last"
    with target.authority() as authority:
        for task in reversed(authority.task_page(limit=_MOST)):
            yield task.id, f"{task.state} {task.tenant or ''} {task.purpose or ''}".rstrip()


@_quietly
def requests(_: click.Context) -> Iterable[tuple[str, str]]:
    """Return the ids of requests that wait for a person, the newest first, and `last`."""
    yield "last", "the one that a person was asked for last"
    with target.authority() as authority:
        for request in reversed(authority.requests(pending=True)):
            yield request.id, f"{request.action}@{request.audience}"


@_quietly
def kids(_: click.Context) -> Iterable[tuple[str, str]]:
    """Return the ids of the home's root keys; nothing if another authority is meant, which has keys of its own."""
    from capx.authority.home import ROOT_KEYS, home_folder
    from capx.crypto.keys import KeyRing

    if target.elsewhere() is not None:
        return
    ring = KeyRing.load(home_folder() / ROOT_KEYS)
    for kid in ring.kids:
        yield kid, "active" if kid == ring.active.kid else "verifies"


@_quietly
def decisions(_: click.Context) -> Iterable[tuple[str, str]]:
    """Return the ids of the newest decisions, and `last`."""
    yield "last", "the newest call that stayed denied"
    for event in _recent("decision"):
        facts = event.facts()
        yield facts["id"], f"{facts['outcome']} {facts['action'] or ''}".rstrip()


@_quietly
def reasons(_: click.Context) -> Iterable[tuple[str, str]]:
    """Return the codes of reasons; a service may have others."""
    from capx.verify.decision import STATUS

    return ((code, "") for code in STATUS)


@_quietly
def audiences(_: click.Context) -> Iterable[tuple[str, str]]:
    """Return the audiences of capabilities that were minted recently."""
    for audience in dict.fromkeys(event.facts()["audience"] for event in _recent("capability_minted")):
        yield audience, ""


@_quietly
def held(context: click.Context) -> Iterable[tuple[str, str]]:
    """Return the audiences of the token in a file."""
    from capx_cli.tokens import named_file, read_tokens

    file = context.params.get("token_file") or named_file()
    for token in read_tokens(file) if file and file != "-" else ():
        yield token.audience, ""


def _recent(kind: str) -> list[Any]:
    with target.authority() as authority:
        return [event for event in islice(authority.newest_first(), _RECENT) if event.kind == kind]
