"""`capx requests`: the inbox of the people who answer what agents ask for at run time."""

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from capx_cli import arguments, call_approval, completion, inbox, phrases, screen, tail, target
from capx_cli.approve import give as give_answer
from capx_cli.token_output import Output, demand_free
from capx_cli.view import json_option

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from capx.authority.people.messages import Inbox
    from capx.store.records import RequestCounts

_NEWS = frozenset(
    {
        *("request_made", "request_approved", "request_denied", "request_expired"),
        *("approval_signed", "approval_made", "capability_minted"),
    }
)
"""Events that change the state of a request."""


class _About(Struct):
    request: str | None = None


@click.group(cls=phrases.InOrder)
def requests() -> None:
    """List, show and answer what agents ask for at run time, if the policy leaves it to a person.

    The person signs the answer with their own key. Before that, they see what the request would add, and to whom. A
    person cannot approve what an agent asks for in their own work.

    REQUEST is the id of a request, or its first six characters or more, or `last` for the newest request that a person
    was asked for.

    Example: capx requests list
    """


@requests.command("list", short_help="List what waits for a person.")
@click.option("--all", "with_answered", is_flag=True, help="Also show those that were answered, or granted at once.")
@click.option(
    "--task", "task_id", metavar="TASK", shell_complete=completion.tasks, help="Only the requests of one task."
)
@json_option
@target.person_options
def list_(with_answered: bool, task_id: str | None, as_json: bool) -> None:
    """List the requests that wait for a person, the oldest first.

    At an authority elsewhere, these are what asks you, and what is about your work; with --task, the requests of one
    task of yours. TASK is a task id, or `last` for the task that was opened last.

    Example: capx requests list --task last --all
    """
    with target.anyone() as authority:
        if task_id is None and not with_answered and (me := target.as_person(authority)) is not None:
            _list_inbox(me.inbox(), as_json)
            return
        task = None if task_id is None else phrases.task_id(authority, task_id)
        found = authority.requests(task=task, pending=not with_answered)
    nothing = "No agent has asked for anything." if with_answered else inbox.NOTHING_WAITS
    inbox.REQUESTS.show(found, as_json, nothing=nothing, without=None if with_answered else "STATE")


def _list_inbox(found: "Inbox", as_json: bool) -> None:
    inbox.WAITING.show(found.items, as_json, nothing="Nothing waits for you, and nothing of your work waits.")
    if found.more:
        screen.note(f"{found.more} more wait: answer some of these first", "yellow")


@requests.command("show", cls=phrases.TakesIds, short_help="Show who asks, for what, and its state.")
@click.argument("request_id", metavar="REQUEST", shell_complete=completion.requests)
@json_option
@target.person_options
def show(request_id: str, as_json: bool) -> None:
    """Show a request: who asks, on whose intent, what it would add, with which restrictions, and its state.

    Example: capx requests show last
    """
    counts: Sequence[RequestCounts] = ()
    with target.anyone() as authority:
        meant = inbox.request_id(authority, request_id)
        if (me := target.as_person(authority)) is None:
            found = authority.inquiry(meant)
        else:
            shown = me.shown(meant)
            found, counts = shown.inquiry, shown.counts
    if as_json:
        screen.as_json({**inbox.inquiry_as_json(found), **({"counts": counts} if counts else {})})
        return
    inbox.show(found)
    if counts:
        asked = phrases.counted(counts[-1].of_all, "request")
        at = f"{counts[-1].of_audience} of them at {found.request.audience}"
        screen.say(f"  the agent that asks has made {asked}, {at}")


def _answering(command: "Callable[..., int]") -> "Callable[..., int]":
    """The argument and options of a command that answers a request."""
    return arguments.with_options(
        command,
        click.argument("typed", metavar="[REQUEST]", required=False, shell_complete=completion.requests),
        click.option(
            "--file",
            metavar="FILE",
            help="A request for an approval that came as a file, in place of REQUEST; - is standard input.",
        ),
        click.option(
            "--as",
            "name",
            metavar="NAME",
            help="Who answers: a principal of the policy. Default: the owner of the key.",
        ),
        click.option("--yes", "sure", is_flag=True, help="Do not ask for confirmation."),
        click.option("--json", "as_json", is_flag=True, help="Write JSON. What is signed goes to standard error."),
        target.person_options,
    )


@requests.command("approve", cls=phrases.TakesIds, short_help="Show a request and consent to it.")
@_answering
@call_approval.signing_options
@arguments.out_option("With --file: write the approval to a new file that only you may read, not to standard output.")
def approve(
    typed: str | None, file: str | None, signing: "call_approval.Signing", out: "Path | None", **how: Any
) -> int:
    """Show a request and consent to it. The agent gets it when it asks again.

    If the request is for the approval of one call, you sign that call. With --file, you need no authority and no
    network: the approval goes to standard output, for the agent to add to its token.

    You sign what was shown. If the exit code is 1, nothing was signed: the request cannot be approved, or not by this
    person, or they said no to the question.

    Example: capx requests approve "$request" --key-file lea.key --yes
    """
    if file is None:
        if signing.cosign is not None or out is not None:
            raise click.UsageError("--cosign and --out go with --file")
        return give_answer(_demanded(typed), yes=True, signing=signing, **how)
    _demand_only_file(typed)
    output = Output(out, replace=False, as_json=how["as_json"] and out is not None)
    if how["as_json"] and out is None:
        raise click.UsageError("--json with --file needs --out FILE: the approval itself goes to standard output")
    if not how["sure"] and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: read capx approval show FILE, then give --yes")
    if out is not None:
        demand_free(out)
    chosen = {name: how[name] for name in ("name", "sure")}
    return call_approval.approve_file(file, signing=signing, output=output, **chosen)


@requests.command("deny", cls=phrases.TakesIds, short_help="Show a request and deny it, for good.")
@_answering
def deny(typed: str | None, file: str | None, **how: Any) -> int:
    """Show a request and deny it, for good: the same request is refused from then on.

    With --file there is nothing to sign: without an approval, the call stays denied.

    If the exit code is 1, nothing was signed, as with approve.

    Example: capx requests deny "$request" --key-file lea.key --yes
    """
    if file is not None:
        _demand_only_file(typed)
        return call_approval.deny_file(file, as_json=how["as_json"])
    return give_answer(_demanded(typed), yes=False, **how)


def _demanded(typed: str | None) -> str:
    if typed is None:
        raise click.UsageError("name a request: its id, as capx requests list shows it, or a file with --file")
    return typed


def _demand_only_file(typed: str | None) -> None:
    if typed is not None:
        raise click.UsageError("give only one of REQUEST and --file")
    if target.typed_place() is not None:
        raise click.UsageError("a request in a file needs no authority: leave out --authority")


@requests.command("watch", short_help="Show what waits, and what is new, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON: one request a line, whenever its state changes.")
@target.person_options
def watch(as_json: bool) -> None:
    """Show what waits for a person, then new requests and each change of a request, until Ctrl-C.

    Example: capx requests watch
    """
    with contextlib.suppress(KeyboardInterrupt):
        if target.origin() is not None:
            _watch_inbox(as_json)
        with target.authority() as authority:
            mark = tail.end_of(authority)
            for request in authority.requests(pending=True):
                _tell(authority, request.id, as_json)
        tail.on(mark, lambda authority, read: _tell_news(authority, read, as_json))


def _watch_inbox(as_json: bool) -> None:
    """Show the inbox of a person, then what is new in it, and how what has left it ended."""
    seen: dict[str, None] = {}
    with target.person() as me:
        for found in me.watch():
            now = dict.fromkeys(item.id for item in found.items)
            # What left it was answered, or its time is over.
            for id_ in (*(one for one in seen if one not in now), *(one for one in now if one not in seen)):
                _tell(me, id_, as_json)
            # Beyond 200, what leaves only makes room.
            seen = now


def _tell_news(authority: "target.Operations", read: tail.Read, as_json: bool) -> None:
    shown: set[str] = set()
    for event in read.events:
        about = event.read_if(_About) if event.kind in _NEWS else None
        # A request may have changed several times since. Show it once, as it is now.
        if about is not None and about.request is not None and about.request not in shown:
            shown.add(about.request)
            _tell(authority, about.request, as_json)


def _tell(authority: "target.Anyone", request_id: str, as_json: bool) -> None:
    """Show a request that a person must answer, or answered; what the policy grants by itself is not shown."""
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
