"""Errors as problem details (RFC 9457), and back.

Laws: a problem carries only sentences of capx's own errors. It says nothing about any other error. A client raises the
error that the authority raised. A denial of a bearer has the same form as at every guard. What a sender wrote into a
problem is read as text for people: without control characters, and up to a length. Only an answer that says that it is
of capx, with the status that belongs to its code, is an error of capx.
"""

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from msgspec import Struct

from capx.api import remote_text
from capx.api.messages.agents import Reason, SuggestedApproval, SuggestedAsk
from capx.api.messages.base import Problem
from capx.errors import (
    BrokenLog,
    CapxError,
    ConfigurationProblem,
    InvalidCaveat,
    InvalidRequest,
    MalformedToken,
    StoreProblem,
    Unavailable,
    UnknownRequest,
    UnknownTask,
)
from capx.tokens.approval_request import CallToApprove, approvable
from capx.tokens.lineage import AUTHORITY
from capx.verify.ask import Ask
from capx.verify.decision import Decision, Denied
from capx.verify.evaluator import MAX_REPORTED
from capx.verify.problem_details import problem_details
from capx_caveats import SAFE_INTEGER, is_action

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""The errors of reading JSON that is not what belongs there."""

_DENIALS: Final = (401, 403, 503)
"""The statuses of denials."""
OURS: Final = "urn:capx:"
"""How the type of each problem and denial of capx begins."""

RETRY_AFTER = 1
"""Seconds after which a client may try again."""


class NotThere(InvalidRequest):
    """There is no object with this id; `code` says of which kind."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class HttpRefusal(CapxError):
    """The authority does not serve this HTTP request: the status, code and sentence of its answer."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


class ProblemResponse(Struct, frozen=True):
    """A problem, and the headers that go with it."""

    problem: Problem
    headers: Mapping[str, str]


_CODES: tuple[tuple[type[CapxError], int, str], ...] = (
    (InvalidCaveat, 400, "invalid_caveat"),
    (UnknownTask, 404, "unknown_task"),
    (UnknownRequest, 404, "unknown_request"),
    (InvalidRequest, 400, "invalid_request"),
    (MalformedToken, 400, "malformed_token"),
    (BrokenLog, 503, "broken_log"),
    (Unavailable, 503, "unavailable"),
    (StoreProblem, 503, "store_problem"),
    (ConfigurationProblem, 503, "configuration_problem"),
)
"""The status and code of each error over HTTP; the first class that fits counts, so subclasses come first."""

STATUSES = {
    status: HTTPStatus(status).phrase.lower() for status in (400, 401, 403, 404, 405, 408, 411, 413, 415, 431, 500, 503)
}
"""The statuses of all problems, in words."""


def to_problem(error: Exception) -> ProblemResponse:
    """Return the answer to an error."""
    if isinstance(error, HttpRefusal):
        return _problem_response(error.status, error.code, str(error))
    if isinstance(error, NotThere):
        return _problem_response(404, error.code, str(error))
    for kind, status, code in _CODES:
        if isinstance(error, kind):
            place = (error.position, error.why) if isinstance(error, BrokenLog) else (None, None)
            return _problem_response(status, code, str(error), *place)
    # The text of a foreign error may hold paths, SQL or secrets: the client gets none of it.
    return _problem_response(500, "internal_error", "this authority failed: its own log says why")


def from_problem(status: int, problem: Problem | None, where: str) -> CapxError:
    """Return the error that a problem describes; a StoreProblem if the answer is not a problem of capx.

    HttpRefusal for 4xx with a code that stands for no other error: the request as such was not served.
    """
    if problem is None or not problem.type.startswith(OURS):
        return StoreProblem(f"the server at {where} is not a capx authority: it answered {status}")
    detail = remote_text.text(problem.detail)
    for kind, usual, code in _CODES:
        # A proxy may put a status of its own on an answer of capx. Then nobody knows what the authority said.
        if (usual, code) != (status, problem.code):
            continue
        if kind is not BrokenLog:
            return kind(detail)
        # A BrokenLog needs a position.
        if problem.position is not None and 0 <= problem.position <= SAFE_INTEGER:
            return BrokenLog(problem.position, remote_text.text(problem.why or problem.detail))
    if 400 <= status < 500:
        return HttpRefusal(status, remote_text.label(problem.code), detail)
    return StoreProblem(detail)


class _Reason(Reason, frozen=True):
    """A reason as any sender writes it. Only its code decides anything, so a missing sentence does not spoil it."""

    sentence: str = ""


class _DenialBody(Struct, frozen=True):
    reasons: tuple[_Reason, ...]
    type: str = ""
    decision: str = ""
    ask: Any = None
    approve: Any = None
    advice: str = ""


def from_denial_by_authority(status: int, content: bytes) -> Denied | None:
    """Return the denial that an authority answered with this status; None if the answer is none."""
    if status not in _DENIALS:
        return None
    denied = from_denial(content, AUTHORITY, only_ours=True)
    # 503 says that nobody can judge now, whatever else the answer says, and no other status says it.
    return None if denied is None or (denied.status == 503) != (status == 503) else denied


def from_denial(content: bytes, audience: str, *, only_ours: bool = False) -> Denied | None:
    """Return the denial by this audience that an answer describes; None if it describes none.

    An ask that the agent cannot make, or that is for another audience, is left out. `only_ours` demands that the type
    of the answer is one of capx.
    """
    try:
        found = msgspec.json.decode(content, type=_DenialBody)
    except UNREADABLE:
        return None
    # A denial of capx always has a reason, so something else has answered.
    if not found.reasons or (only_ours and not found.type.startswith(OURS)):
        return None
    refusals = tuple(reason.refusal() for reason in found.reasons[:MAX_REPORTED])
    id = remote_text.label(found.decision)
    decision = Decision(id=id, at=int(time.time()), allowed=False, audience=audience, refusals=refusals)
    # It was told to this bearer, so nothing is left to hide.
    advice, approve = remote_text.text(found.advice), _to_approve(found.approve, audience)
    return Denied(decision, _suggested(found.ask, audience), advice, sent=True, approve=approve)


def _to_approve(found: Any, audience: str) -> CallToApprove | None:
    try:
        said = msgspec.convert(found, SuggestedApproval)
        needed = CallToApprove(said.audience, said.action, approvable(said.action, said.args))
    except (msgspec.MsgspecError, RecursionError, CapxError):
        return None
    # As below: a service names calls at itself only.
    return needed if needed.audience == audience and is_action(needed.action) else None


def _suggested(found: Any, audience: str) -> Ask | None:
    try:
        ask = msgspec.convert(found, SuggestedAsk).ask()
    except (msgspec.MsgspecError, RecursionError, CapxError):
        return None
    # Any other audience is ignored: a hostile service must not choose where the agent gets authority.
    if ask.audience != audience:
        return None
    return ask


def _problem_response(
    status: int, code: str, detail: str, position: int | None = None, why: str | None = None
) -> ProblemResponse:
    problem = Problem(**problem_details("problem", status, code, detail), position=position, why=why)
    return ProblemResponse(problem, {"Retry-After": str(RETRY_AFTER)} if status == 503 else {})
