"""Requests as people and programs read them: what agents ask for at run time, and what became of it.

Law: a person is shown all that they would consent to, and who asks for it. What agents and others chose, labels, words
and arguments, stands in quotes or behind the columns that a script cuts.
"""

import json
from typing import TYPE_CHECKING, Any, Final

import click

from capx_cli import intents, phrases, screen
from capx_cli.view import View

if TYPE_CHECKING:
    from capx.authority.requests.verdict import Inquiry
    from capx.store.records import RequestRecord
    from capx_cli.target import Operations

LAST: Final = "last"
"""What the request is called that a person was asked for last."""
NOTHING_WAITS: Final = "Nothing waits for a person. What was asked for before: capx requests list --all"
STYLES: Final = {
    "pending": screen.STRONG,
    "approved": screen.GOOD,
    "granted": screen.GOOD,
    "denied": screen.BAD,
    "expired": screen.QUIET,
}
_ID_LENGTH: Final = 22
_SHORTEST: Final = 6
"""Characters of an id that may stand for it."""
_FACTS: Final = (
    *("id", "state", "task", "node", "path", "hops", "audience", "action", "pinned", "args"),
    *("asked", "until", "approvers", "approver", "answered", "capability"),
)
"""What programs are given of a request, in this order."""


def request_id(authority: "Operations", typed: str) -> str:
    """The request meant: an id, or how it alone begins; or `last` for the one that a person was asked for last."""
    if typed == LAST:
        asked = [request.id for request in authority.requests() if request.approvers]
        if not asked:
            raise click.UsageError("no agent has asked for anything that a person answers")
        return asked[-1]
    if not _SHORTEST <= len(typed) < _ID_LENGTH:
        return typed
    found = [request.id for request in authority.requests() if request.id.startswith(typed)]
    if len(found) > 1:
        raise click.UsageError(f"{len(found)} requests begin with {typed}: type more of the id")
    return found[0] if found else typed


def show(inquiry: "Inquiry", *, on_stderr: bool = False) -> None:
    """Say what a request would add and to whom, as whoever signs an answer is shown it, and how it stands."""
    request = inquiry.request
    intents.say(f"request {request.id}: {state_phrase(request)}", STYLES.get(request.state, ""), on_stderr=on_stderr)
    for sentence in inquiry.sentences():
        intents.say(f"  {sentence}", on_stderr=on_stderr)


def tell(request: "RequestRecord") -> None:
    """Say how a request stands, in a line."""
    intents.say(f"request {request.id} {state_phrase(request)}", STYLES.get(request.state, ""))


def answered(request: "RequestRecord", *, yes: bool) -> str | None:
    """Why a request can be answered so no more, and by whom it was; None if it waits."""
    if request.state == "pending":
        return None
    if not (by := _by(request)):
        how = (
            "was not answered in time" if request.state == "expired" else "was granted at once: nobody has to answer it"
        )
        return f"request {request.id} {how}"
    was = "denied" if request.state == "denied" else "approved"
    said = f"request {request.id} was {was}{by} already"
    if yes == (was == "approved"):
        return said
    dead = "" if request.capability is None else f"; capx revoke {request.capability} kills what was granted"
    return f"{said}: it can no longer be {'approved' if yes else 'denied'}{dead}"


def state_phrase(request: "RequestRecord") -> str:
    """How a request stands, in words."""
    by = _by(request)
    return {
        "pending": "waits for an answer",
        "approved": f"was approved{by}, and is granted once its agent asks again",
        "granted": f"was approved{by}, and granted" if by else "was granted, as the policy has it",
        "denied": f"was denied{by}",
        "expired": "was not answered in time",
    }[request.state]


def _by(request: "RequestRecord") -> str:
    """By whom and when a request was answered; nothing where nobody did."""
    from capx.tokens.wording import label

    if request.approver is None or request.answered is None:
        return ""
    return f" by {label(request.approver)} at {phrases.instant(request.answered)}"


def as_json(request: "RequestRecord") -> dict[str, Any]:
    """A request as JSON values."""
    # A record has no field for three of them: they are made below.
    facts = phrases.with_instants({name: getattr(request, name, None) for name in _FACTS})
    # What an agent has sent stays as it is.
    args = None if request.args is None else json.loads(request.args)
    return {**facts, "hops": request.labels, "pinned": request.args is not None, "args": args}


REQUESTS: "View[RequestRecord]" = View(
    as_json,
    {
        "REQUEST": "id",
        "STATE": "state",
        "ACTION": lambda request: f"{request.action}@{request.audience}",
        "WHO": lambda request: phrases.holder(request.labels).removeprefix("task > "),
        "LEFT": lambda request: phrases.time_left(request.until) if request.state == "pending" else None,
        "APPROVERS": "approvers",
        "TASK": "task",
    },
    STYLES,
    spare=("TASK", "APPROVERS", "LEFT", "WHO"),
)
"""Requests, with what whoever has to answer chooses by."""


def inquiry_as_json(inquiry: "Inquiry") -> dict[str, Any]:
    """A request as JSON values, with what it is signed over."""
    from capx.crypto.base64url import b64u
    from capx_caveats.values import whole

    with whole():
        would_say = [caveat.sentence() for caveat in inquiry.caveats]
    return {
        **as_json(inquiry.request),
        "intent": intents.as_json(inquiry.intent),
        "would_say": would_say,
        "shown": list(inquiry.sentences()),
        "digest": b64u(inquiry.digest),
    }
