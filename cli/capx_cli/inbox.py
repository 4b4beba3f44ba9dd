"""Show requests to people and programs: what agents ask for at run time, and the answers.

Law: a person sees all that they would consent to, and who asks for it. What agents and others chose (labels, words,
arguments) is in quotes, or after the columns that a script cuts.
"""

import json
from typing import TYPE_CHECKING, Any, Final

import click
from msgspec import to_builtins

from capx_cli import intents, phrases, screen, target
from capx_cli.view import View

if TYPE_CHECKING:
    from collections.abc import Iterable

    from capx.authority.people.messages import InboxItem
    from capx.authority.requests.answers import GivenAnswer
    from capx.authority.requests.inquiry import Inquiry
    from capx.store.records import RequestRecord
    from capx_cli.target import Anyone

LAST: Final = "last"
"""The name of the request that a person was asked for last."""
NOTHING_WAITS: Final = "Nothing waits for a person. To see earlier requests: capx requests list --all"
STYLES: Final = {
    "pending": screen.STRONG,
    "approved": screen.GOOD,
    "granted": screen.GOOD,
    "denied": screen.BAD,
    "expired": screen.QUIET,
    "ended": screen.QUIET,
}
_ID_LENGTH: Final = 22
_SHORTEST: Final = 6
"""The fewest characters of an id that identify a request."""
_FACTS: Final = (
    *("id", "state", "task", "node", "path", "hops", "audience", "action", "pinned", "args"),
    *("keys", "asked", "until", "approvers", "approver", "answered", "ended", "lapse", "capability"),
)
"""The members of a request as JSON, in this order."""


def request_id(authority: "Anyone", typed: str) -> str:
    """Return the id that is meant: an id, its first characters, or `last`: the last that a person was asked for."""
    if typed == LAST:
        asked = [id_ for id_, asks in _known(authority) if asks]
        if not asked:
            raise click.UsageError("no request needs an answer from a person")
        return asked[-1]
    if not _SHORTEST <= len(typed) < _ID_LENGTH:
        return typed
    found = [id_ for id_, _ in _known(authority) if id_.startswith(typed)]
    if len(found) > 1:
        raise click.UsageError(f"{len(found)} requests begin with {typed}: type more of the id")
    return found[0] if found else typed


def _known(authority: "Anyone") -> list[tuple[str, bool]]:
    """Return the ids of requests, each with whether it asks a person; for a person, those in their inbox."""
    if (me := target.as_person(authority)) is not None:
        return [(item.id, item.mine) for item in me.inbox().items]
    return [(request.id, bool(request.approvers)) for request in authority.requests()]


def show(inquiry: "Inquiry", *, on_stderr: bool = False) -> None:
    """Show what a request would add and to whom, as the person who signs the answer sees it, and its state."""
    request = inquiry.request
    intents.say(f"request {request.id}: {state_phrase(request)}", STYLES.get(request.state, ""), on_stderr=on_stderr)
    for sentence in inquiry.sentences():
        intents.say(f"  {sentence}", on_stderr=on_stderr)


def tell(request: "RequestRecord") -> None:
    """Show the state of a request, in one line."""
    intents.say(f"request {request.id} {state_phrase(request)}", STYLES.get(request.state, ""))


def answered(request: "RequestRecord", *, yes: bool) -> str | None:
    """Return why this answer cannot be given any more, and who answered; None if the request waits."""
    if request.state == "pending":
        return None
    if request.state == "expired":
        return f"request {request.id} {state_phrase(request)}"
    if not (by := _by(request)):
        return f"request {request.id} was granted at once: it needs no answer"
    was = "denied" if request.state == "denied" else "approved"
    said = f"request {request.id} was {was}{by} already"
    if yes == (was == "approved"):
        return said
    dead = "" if (given := _given(request)) is None else f"; to revoke what was granted: capx revoke {given}"
    return f"{said}: it can no longer be {'approved' if yes else 'denied'}{dead}"


def _given(request: "RequestRecord") -> str | None:
    """Return the id by which what was granted or approved can be revoked."""
    if request.state != "granted" or request.discharge is None:
        return request.capability if request.state == "granted" else None
    from capx.crypto.base64url import b64u
    from capx.tokens.discharge import Discharge

    return b64u(Discharge.parse(request.discharge).id)


def state_phrase(request: "RequestRecord") -> str:
    """Return the state of a request, in words."""
    by = _by(request)
    granted = f"was approved{by}, and granted" if by else "was granted by the policy"
    if request.to_approve is not None:
        granted = f"was approved{by}: its agent gets the approval when it asks again"
    waits = "waits for an answer" if request.discharge is None else f"was signed{by}, and waits for the others who must"
    return {
        "pending": waits,
        "approved": f"was approved{by}, and is granted when its agent asks again",
        "granted": granted,
        "denied": f"was denied{by}",
        "expired": _over(request),
        "ended": (f"was approved{by}" if request.capability is None else granted) + _dead(request),
    }[request.state]


def _over(request: "RequestRecord") -> str:
    from capx.store.lifecycle import LAPSES

    lapse = request.lapse or "unanswered"
    if lapse == "unanswered":
        return "was not answered in time"
    at = request.answered if request.ended is None else request.ended
    return f"needs no answer: {LAPSES[lapse]}" + ("" if at is None else f" ({phrases.instant(at)})")


def _dead(request: "RequestRecord") -> str:
    ended = request.ended if request.state == "ended" else None
    return "" if ended is None else f"; its task, its agent or the grant ended at {phrases.instant(ended)}"


def _by(request: "RequestRecord") -> str:
    """Return who answered a request and when; an empty text if nobody did."""
    if request.approver is None or request.answered is None:
        return ""
    return f" {_by_whom(request.approver, request.answered)}"


def _by_whom(approver: str, at: int) -> str:
    from capx.tokens.wording import label

    return f"by {label(approver)} at {phrases.instant(at)}"


def answer_phrase(answer: "GivenAnswer", requests: "Iterable[RequestRecord]") -> str:
    """Return what was answered to one round of a request, in words; `requests` are those of its agent or task."""
    if answer.approver is None:
        return "was granted by the policy"
    by = _by_whom(answer.approver, answer.at)
    if not answer.yes:
        return f"was denied {by}"
    if answer.approval is not None:
        return f"was signed {by}: approval {answer.approval}"
    dead = next((_dead(one) for one in requests if one.id == answer.request), "")
    granted = ", and granted" if answer.given else "" if dead else ", and is granted when its agent asks again"
    return f"was approved {by}{granted}{dead}"


def of_people(answers: "Iterable[GivenAnswer]") -> "list[GivenAnswer]":
    """Return the answers of people; what the policy granted by itself is left out."""
    return [one for one in answers if one.approver is not None]


def unanswered(requests: "Iterable[RequestRecord]") -> "list[RequestRecord]":
    """Return the requests that wait, or that nobody answered in time."""
    return [one for one in requests if one.state in {"pending", "expired"}]


def answer_as_json(answer: "GivenAnswer") -> dict[str, Any]:
    """Return an answer as JSON values."""
    facts = phrases.with_instants(answer)
    labels = facts.pop("labels")
    return {**facts, "hops": labels}


def as_json(request: "RequestRecord") -> dict[str, Any]:
    """Return a request as JSON values."""
    # A record lacks three of these fields: they are added below.
    facts = phrases.with_instants({name: getattr(request, name, None) for name in _FACTS})
    # The arguments stay as the agent sent them, even if they look like times.
    args = _args(request)
    approval = None if request.to_approve is None else {"demand": request.cid, "revoke": _given(request)}
    return {**facts, "hops": request.labels, "pinned": request.args is not None, "args": args, "approval": approval}


def _args(request: "RequestRecord | InboxItem") -> Any:
    """Return the arguments of a request; StoreProblem if they are no JSON."""
    from capx.errors import StoreProblem

    try:
        return None if request.args is None else json.loads(request.args)
    except (ValueError, RecursionError):
        raise StoreProblem(f"request {request.id!r:.80} has arguments that are no JSON: do not answer it") from None


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
"""Requests, with what an approver needs to choose one."""


def _item_as_json(item: "InboxItem") -> dict[str, Any]:
    return {**phrases.with_instants(to_builtins(item)), "args": _args(item)}


WAITING: "View[InboxItem]" = View(
    _item_as_json,
    {
        "REQUEST": "id",
        "ACTION": lambda item: f"{item.action}@{item.audience}",
        "WHO": lambda item: phrases.holder(item.labels).removeprefix("task > "),
        "LEFT": lambda item: phrases.time_left(item.until),
        "ANSWERS": lambda item: "you" if item.mine else "others",
        "WORK": lambda item: "yours" if item.yours else "of others",
        "TASK": "task",
    },
    spare=("TASK", "WORK", "LEFT", "WHO"),
)
"""What waits for a person elsewhere, or is about their work."""


def inquiry_as_json(inquiry: "Inquiry") -> dict[str, Any]:
    """Return a request as JSON values, with what the signature covers."""
    from capx.crypto.base64url import b64u
    from capx_caveats.shown_values import whole

    with whole():
        would_say = [caveat.sentence() for caveat in inquiry.caveats]
    return {
        **as_json(inquiry.request),
        "intent": intents.as_json(inquiry.intent),
        "would_say": would_say,
        "shown": list(inquiry.sentences()),
        "digest": b64u(inquiry.digest),
    }
