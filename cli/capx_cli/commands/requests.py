"""`capx requests`: the inbox of those who answer what agents ask for at run time."""

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from capx_cli import arguments, completion, inbox, phrases, screen, tail, target
from capx_cli.approve import Answer
from capx_cli.approve import give as give_answer
from capx_cli.view import json_option

if TYPE_CHECKING:
    from collections.abc import Callable

_NEWS = frozenset({"request_made", "request_approved", "request_denied", "request_expired", "capability_minted"})
"""Events after which a request stands otherwise than before."""


class _About(Struct):
    request: str | None = None


@click.group(cls=phrases.InOrder)
def requests() -> None:
    """List, show and answer what agents ask for at run time, where the policy has a person decide.

    Whoever answers signs it with their own key, and sees before what it would add and to whom. Nobody answers for an
    agent that works on their own behalf.

    REQUEST is the id of a request, how it alone begins, in six characters or more, or `last` for the one that a person
    was asked for last.

    Example: capx requests list
    """


@requests.command("list", short_help="List what waits for a person.")
@click.option("--all", "with_answered", is_flag=True, help="Also those that were answered, or granted at once.")
@click.option("--task", "task_id", metavar="TASK", shell_complete=completion.tasks, help="Only those of one task.")
@json_option
@target.authority_option
def list_(with_answered: bool, task_id: str | None, as_json: bool) -> None:
    """List the requests that wait for a person, the oldest first.

    TASK is a task id, or `last` for the task that was opened last.

    Example: capx requests list --task last --all
    """
    with target.authority() as authority:
        task = None if task_id is None else phrases.task_id(authority, task_id)
        found = authority.requests(task=task, pending=not with_answered)
    nothing = "No agent has asked for anything." if with_answered else inbox.NOTHING_WAITS
    inbox.REQUESTS.show(found, as_json, nothing=nothing, without=None if with_answered else "STATE")


@requests.command("show", cls=phrases.TakesIds, short_help="Show who asks, for what, and how it stands.")
@click.argument("request_id", metavar="REQUEST", shell_complete=completion.requests)
@json_option
@target.authority_option
def show(request_id: str, as_json: bool) -> None:
    """Show a request: who asks, on whose intent, what it would add, with which restrictions, and how it stands.

    Example: capx requests show last
    """
    with target.authority() as authority:
        found = authority.inquiry(inbox.request_id(authority, request_id))
    if as_json:
        screen.as_json(inbox.inquiry_as_json(found))
    else:
        inbox.show(found)


def _answering(command: "Callable[..., int]") -> "Callable[..., int]":
    """The argument and options of a command that answers a request."""
    return arguments.with_options(
        command,
        click.argument("typed", metavar="REQUEST", shell_complete=completion.requests),
        click.option(
            "--as",
            "name",
            metavar="NAME",
            help="Who answers: a principal of the policy. Else: whose key --key-file holds.",
        ),
        arguments.file_option(
            "--key-file",
            "Their key, as capx principal new has made it. Else: the one of NAME, or the only one, in principals/ of "
            "the home.",
        ),
        click.option("--yes", "sure", is_flag=True, help="Do not ask whether it is meant."),
        click.option("--json", "as_json", is_flag=True, help="Write JSON; what is signed is shown on standard error."),
        target.authority_option,
    )


@requests.command("approve", cls=phrases.TakesIds, short_help="Consent to a request, once it was shown.")
@_answering
def approve(typed: str, **how: Any) -> int:
    """Consent to a request, once it was shown: the agent is granted it when it asks again.

    What is signed is what was shown. Exit code 1 says that nothing was: it may not be answered so, or by this person,
    or they did not mean it.

    Example: capx requests approve "$request" --as lea --key-file lea.key --yes
    """
    return give_answer(typed, Answer(yes=True, **how))


@requests.command("deny", cls=phrases.TakesIds, short_help="Refuse a request, for good.")
@_answering
def deny(typed: str, **how: Any) -> int:
    """Refuse a request, for good: the same one is refused from then on. It is shown before.

    Exit code 1 says that nothing was signed, as with approve.

    Example: capx requests deny "$request" --as lea --key-file lea.key --yes
    """
    return give_answer(typed, Answer(yes=False, **how))


@requests.command("watch", short_help="Show what waits, and what comes, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON: a request a line, whenever it stands otherwise.")
@target.authority_option
def watch(as_json: bool) -> None:
    """Show what waits for a person, then what agents ask for from now on and what becomes of it, until Ctrl-C.

    Example: capx requests watch
    """
    with contextlib.suppress(KeyboardInterrupt):
        with target.authority() as authority:
            mark = tail.end_of(authority)
            for request in authority.requests(pending=True):
                _tell(authority, request.id, as_json)
        tail.on(mark, lambda authority, read: _tell_news(authority, read, as_json))


def _tell_news(authority: "target.Operations", read: tail.Read, as_json: bool) -> None:
    told: set[str] = set()
    for event in read.events:
        about = event.read_if(_About) if event.kind in _NEWS else None
        # However often it changed since, it is told as it stands now.
        if about is not None and about.request is not None and about.request not in told:
            told.add(about.request)
            _tell(authority, about.request, as_json)


def _tell(authority: "target.Operations", request_id: str, as_json: bool) -> None:
    """Tell of a request that somebody has to answer, or had to; what the policy gives by itself is no news."""
    from capx.errors import InvalidRequest

    with contextlib.suppress(InvalidRequest):
        inquiry = authority.inquiry(request_id)
        request = inquiry.request
        if not request.approvers:
            return
        if as_json:
            screen.as_json_line(inbox.as_json(request))
        elif request.state == "pending":
            inbox.show(inquiry)
        else:
            inbox.tell(request)
        sys.stdout.flush()
