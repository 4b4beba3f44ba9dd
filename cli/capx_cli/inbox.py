"""Requests as people and programs read them: what agents ask for at run time, and what became of it.

Law: a person is shown all that they would consent to, and who asks for it. What agents and others chose, labels, words
and arguments, stands in quotes or behind the columns that a script cuts.
"""

import json
from typing import TYPE_CHECKING, Any, Final

from capx_cli import screen, words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from capx.store import RequestRecord
    from capx.verdict import Inquiry

NOTHING_WAITS: Final = "Nothing waits for a person. What was asked for before: capx requests list --all"
STYLES: Final = {
    "pending": screen.STRONG,
    "approved": screen.GOOD,
    "granted": screen.GOOD,
    "refused": screen.BAD,
    "expired": screen.QUIET,
}
_SPARE: Final = ("APPROVERS", "WHO", "UNTIL", "TASK")


def table(requests: "Sequence[RequestRecord]") -> None:
    """Draw requests, a row each."""
    from capx_caveats import shown_instant

    screen.table(
        ("REQUEST", "STATE", "TASK", "UNTIL", "ACTION", "WHO", "APPROVERS"),
        (
            (
                request.id,
                request.state,
                request.task,
                shown_instant(request.until),
                f"{request.action}@{request.audience}",
                words.holder(request.labels),
                ", ".join(request.approvers) or "-",
            )
            for request in requests
        ),
        STYLES,
        spare=_SPARE,
    )


def show(inquiry: "Inquiry", say: "Callable[[str, str], None]" = screen.say) -> None:
    """Say what a request would add and to whom, as whoever signs an answer is shown it, and how it stands."""
    say(f"request {inquiry.request.id}: {became(inquiry.request)}", STYLES.get(inquiry.request.state, ""))
    for sentence in inquiry.sentences():
        say(f"  {sentence}", "")


def became(request: "RequestRecord") -> str:
    """How a request stands, in words."""
    from capx.decision import label
    from capx_caveats import shown_instant

    at = "" if request.answered is None else f" at {shown_instant(request.answered)}"
    by = "" if request.approver is None else f" by {label(request.approver)}{at}"
    return {
        "pending": "waits for an answer",
        "approved": f"was approved{by}, and is granted once its agent asks again",
        "granted": f"was approved{by}, and granted" if by else "was granted, as the policy has it",
        "refused": f"was refused{by}",
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
    return {**words.with_instants(said), "args": args}


def inquiry_as_json(inquiry: "Inquiry") -> dict[str, Any]:
    """A request as JSON values, with what it is signed over."""
    from capx.chain import b64u

    return {
        **as_json(inquiry.request),
        "intent": {"digest": inquiry.intent.digest, "document": inquiry.intent.document()},
        "would_say": [caveat.sentence() for caveat in inquiry.caveats],
        "shown": list(inquiry.sentences()),
        "digest": b64u(inquiry.digest),
    }
