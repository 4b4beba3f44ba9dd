"""Requests as people and programs read them: what agents ask for at run time, and what became of it.

Law: a person is shown all that they would consent to, and who asks for it. What agents and others chose, labels, words
and arguments, stands in quotes or behind the columns that a script cuts.
"""

import json
from typing import TYPE_CHECKING, Any, Final

import click

from capx_cli import intents, phrases, screen

if TYPE_CHECKING:
    from collections.abc import Sequence

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
_SPARE: Final = ("TASK", "APPROVERS", "LEFT", "WHO")


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


def table(requests: "Sequence[RequestRecord]", *, with_state: bool) -> None:
    """Draw requests, a row each, with what whoever has to answer chooses by."""
    state = ("STATE",) if with_state else ()
    screen.table(
        ("REQUEST", *state, "ACTION", "WHO", "LEFT", "APPROVERS", "TASK"),
        (
            (
                request.id,
                *((request.state,) if with_state else ()),
                f"{request.action}@{request.audience}",
                phrases.holder(request.labels).removeprefix("task > "),
                phrases.time_left(request.until) if request.state == "pending" else "-",
                ", ".join(request.approvers) or "-",
                request.task,
            )
            for request in requests
        ),
        STYLES,
        spare=_SPARE,
    )


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
    from capx.tokens.wording import label
    from capx_caveats import shown_instant

    if request.approver is None or request.answered is None:
        how = (
            "was not answered in time" if request.state == "expired" else "was granted at once: nobody has to answer it"
        )
        return f"request {request.id} {how}"
    was = "denied" if request.state == "denied" else "approved"
    said = f"request {request.id} was {was} by {label(request.approver)} at {shown_instant(request.answered)} already"
    if yes == (was == "approved"):
        return said
    dead = "" if request.capability is None else f"; capx revoke {request.capability} kills what was granted"
    return f"{said}: it can no longer be {'approved' if yes else 'denied'}{dead}"


def state_phrase(request: "RequestRecord") -> str:
    """How a request stands, in words."""
    from capx.tokens.wording import label
    from capx_caveats import shown_instant

    at = "" if request.answered is None else f" at {shown_instant(request.answered)}"
    by = "" if request.approver is None else f" by {label(request.approver)}{at}"
    return {
        "pending": "waits for an answer",
        "approved": f"was approved{by}, and is granted once its agent asks again",
        "granted": f"was approved{by}, and granted" if by else "was granted, as the policy has it",
        "denied": f"was denied{by}",
        "expired": "was not answered in time",
    }[request.state]


def as_json(request: "RequestRecord") -> dict[str, Any]:
    """A request as JSON values."""
    args = None if request.args is None else json.loads(request.args)
    said = {
        "id": request.id,
        "state": request.state,
        "task": request.task,
        "node": request.node,
        "path": list(request.path),
        "hops": list(request.labels),
        "audience": request.audience,
        "action": request.action,
        "pinned": request.args is not None,
        "args": args,
        "asked": request.asked,
        "until": request.until,
        "approvers": list(request.approvers),
        "approver": request.approver,
        "answered": request.answered,
        "capability": request.capability,
    }
    # What an agent has sent stays as it is.
    return {**phrases.with_instants(said), "args": args}


def inquiry_as_json(inquiry: "Inquiry") -> dict[str, Any]:
    """A request as JSON values, with what it is signed over."""
    from capx.crypto.base64url import b64u
    from capx_caveats.values import whole

    with whole():
        would_say = [caveat.sentence() for caveat in inquiry.caveats]
    return {
        **as_json(inquiry.request),
        "intent": {"digest": inquiry.intent.digest, "document": inquiry.intent.document()},
        "would_say": would_say,
        "shown": list(inquiry.sentences()),
        "digest": b64u(inquiry.digest),
    }
