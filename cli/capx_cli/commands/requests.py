"""`capx requests`: the inbox of those who answer what agents ask for at run time."""

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
from msgspec import Struct

from capx_cli import completion, following, inbox, reached, screen, words
from capx_cli.escape import clean
from capx_cli.failure import DONE, NOTHING

if TYPE_CHECKING:
    from capx_cli.reached import Operations

_NEWS = frozenset({"request_made", "request_approved", "request_refused", "request_expired", "capability_minted"})
"""Events after which a request stands otherwise than before."""


class _About(Struct):
    request: str | None = None


@click.group(cls=words.InOrder)
def requests() -> None:
    """List, show and answer what agents ask for at run time, where the policy has a person decide.

    Whoever answers signs it with their own key, and sees before what it would add and to whom. Nobody answers for an
    agent that works on their own behalf.

    Example: capx requests list
    """


@requests.command("list")
@click.option("--all", "with_answered", is_flag=True, help="Also those that were answered, or granted at once.")
@click.option("--task", "task_id", metavar="TASK", shell_complete=completion.tasks, help="Only those of one task.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@reached.authority_option
def list_(with_answered: bool, task_id: str | None, as_json: bool) -> None:
    """List the requests that wait for a person, the oldest first.

    TASK is a task id, or `last` for the task that was opened last.

    Example: capx requests list --task last --all
    """
    with reached.authority() as authority:
        task = None if task_id is None else words.task_id(authority, task_id)
        found = authority.requests(task=task, pending=not with_answered)
    if as_json:
        screen.as_json([inbox.as_json(request) for request in found])
    elif found:
        inbox.table(found)
    else:
        screen.say("No agent has asked for anything." if with_answered else inbox.NOTHING_WAITS)


@requests.command("show", context_settings=words.IDS)
@click.argument("request_id", metavar="REQUEST")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@reached.authority_option
def show(request_id: str, as_json: bool) -> None:
    """Show a request: who asks, on whose intent, what it would add, with which restrictions, and how it stands.

    Example: capx requests show "$request"
    """
    with reached.authority() as authority:
        found = authority.inquiry(request_id)
    if as_json:
        screen.as_json(inbox.inquiry_as_json(found))
    else:
        inbox.show(found)


_AS = click.option("--as", "name", required=True, metavar="NAME", help="Who answers: a principal of the policy.")
_KEY_FILE = click.option(
    "--key-file",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Their key, as capx principal new has made it.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Write JSON; what is signed is shown on standard error.")
_YES = click.option("--yes", is_flag=True, help="Do not ask again before it is signed.")


@requests.command("approve", context_settings=words.IDS)
@click.argument("request_id", metavar="REQUEST")
@_AS
@_KEY_FILE
@_YES
@_JSON
@reached.authority_option
def approve(request_id: str, name: str, key_file: Path, *, yes: bool, as_json: bool) -> int:
    """Consent to a request, once it was shown: the agent is granted it when it asks again.

    What is signed is what was shown. Exit code 1 says that it may not be answered so, or by this person.

    Example: capx requests approve "$request" --as lea --key-file lea.key --yes
    """
    return _answer(request_id, _Answer(name, key_file, yes=True, sure=yes, as_json=as_json))


@requests.command("deny", context_settings=words.IDS)
@click.argument("request_id", metavar="REQUEST")
@_AS
@_KEY_FILE
@_JSON
@reached.authority_option
def deny(request_id: str, name: str, key_file: Path, *, as_json: bool) -> int:
    """Refuse a request, for good: the same one is refused from then on.

    Example: capx requests deny "$request" --as lea --key-file lea.key
    """
    return _answer(request_id, _Answer(name, key_file, yes=False, sure=True, as_json=as_json))


@requests.command("watch")
@click.option("--json", "as_json", is_flag=True, help="Write JSON: a request a line, whenever it stands otherwise.")
@reached.authority_option
def watch(as_json: bool) -> None:
    """Show what waits for a person, then what agents ask for from now on and what becomes of it, until Ctrl-C.

    Example: capx requests watch
    """
    with contextlib.suppress(KeyboardInterrupt):
        with reached.authority() as authority:
            mark = following.end_of(authority)
            for request in authority.requests(pending=True):
                _tell(authority, request.id, as_json)
        following.on(mark, lambda authority, read: _tell_news(authority, read, as_json))


class _Answer(NamedTuple):
    """Who answers what; `sure` needs no asking before it is signed."""

    name: str
    key_file: Path
    yes: bool
    sure: bool
    as_json: bool


def _answer(request_id: str, answer: _Answer) -> int:
    from capx.errors import InvalidRequest
    from capx.principal_key import PrincipalKey
    from capx.verdict import Verdict

    key = PrincipalKey.load(answer.key_file)
    if key.name != answer.name:
        raise click.UsageError(f"{answer.key_file} is the key of {key.name}, not of {answer.name:.80}")
    with reached.authority() as authority:
        inquiry = authority.inquiry(request_id)
        inbox.show(inquiry, screen.note if answer.as_json else screen.say)
        if inquiry.request.state != "pending":
            screen.note(f"capx: request {inquiry.request.id} waits for nobody", screen.BAD)
            return NOTHING
        if not answer.sure:
            _demand_consent(answer.name)
        verdict = Verdict.sign(inquiry, key, yes=answer.yes, at=int(time.time()))
        try:
            decided = authority.decide(verdict)
        except InvalidRequest as problem:
            screen.note(f"capx: {problem}", screen.BAD)
            return NOTHING
    if answer.as_json:
        screen.as_json(inbox.as_json(decided))
    else:
        style = screen.GOOD if answer.yes else screen.BAD
        screen.say(f"request {decided.id} {inbox.became(decided)}", style)
    return DONE


def _demand_consent(name: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here: read what capx requests show says, then give --yes")
    if not click.confirm(f"Consent to all of this as {clean(name)}?", err=True):
        raise click.Abort


def _tell_news(authority: "Operations", read: following.Read, as_json: bool) -> None:
    told: set[str] = set()
    for event in read.events:
        about = event.told(_About) if event.kind in _NEWS else None
        # However often it changed since, it is told as it stands now.
        if about is not None and about.request is not None and about.request not in told:
            told.add(about.request)
            _tell(authority, about.request, as_json)


def _tell(authority: "Operations", request_id: str, as_json: bool) -> None:
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
            screen.say(f"request {request.id} {inbox.became(request)}", inbox.STYLES.get(request.state, ""))
        sys.stdout.flush()
