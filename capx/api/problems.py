"""Errors as problem details (RFC 9457), and back.

Laws: a problem carries only sentences of capx's own errors. It says nothing about any other error. A client raises the
error that the authority raised. A denial of a bearer has the same form as at every guard. What a sender wrote into a
denial is read as text for people: without control characters, and up to a length.
"""

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from msgspec import Struct

from capx.api.messages.agents import Reason, SuggestedAsk
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
from capx.verify.ask import Ask
from capx.verify.decision import Decision, Denied
from capx.verify.evaluator import MAX_REPORTED
from capx.verify.problem_details import problem_details
from capx_caveats import Refusal
from capx_caveats.values import printable

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""The errors of reading JSON that is not what belongs there."""

_MOST: Final = 2000
"""Characters of a sender's sentence that a denial repeats."""

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

STATUSES = {status: HTTPStatus(status).phrase.lower() for status in (400, 401, 403, 404, 405, 408, 413, 415, 500, 503)}
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
    """Return the error that a problem describes; a StoreProblem if the answer is not a problem of capx."""
    if problem is None:
        return StoreProblem(f"the server at {where} is not a capx authority: it answered {status}")
    if problem.code == "broken_log" and problem.position is not None:
        return BrokenLog(problem.position, problem.why or problem.detail)
    for kind, _, code in _CODES:
        # A BrokenLog needs a position, which this problem lacks.
        if code == problem.code and kind is not BrokenLog:
            return kind(problem.detail)
    kind = InvalidRequest if 400 <= status < 500 else StoreProblem
    return kind(problem.detail)


class _Reason(Reason, frozen=True):
    """A reason as any sender writes it. Only its code decides anything, so a missing sentence does not spoil it."""

    sentence: str = ""


class _DenialBody(Struct, frozen=True):
    reasons: tuple[_Reason, ...]
    decision: str = ""
    ask: Any = None
    advice: str = ""


def from_denial(content: bytes, audience: str) -> Denied | None:
    """Return the denial by this audience that an answer describes; None if it describes none.

    An ask that the agent cannot make, or that is for another audience, is left out.
    """
    try:
        found = msgspec.json.decode(content, type=_DenialBody)
    except UNREADABLE:
        return None
    # A denial of capx always has a reason, so something else has answered.
    if not found.reasons:
        return None
    refusals = tuple(map(_refusal, found.reasons[:MAX_REPORTED]))
    decision = Decision(
        id=_text(found.decision), at=int(time.time()), allowed=False, audience=audience, refusals=refusals
    )
    return Denied(decision, _suggested(found.ask, audience), _text(found.advice))


def _refusal(reason: _Reason) -> Refusal:
    read = reason.refusal()
    return Refusal(
        _text(read.code), _text(read.sentence or read.code), _text(read.wanted), read.given, read.hop, read.hop_name
    )


def _text(sent: str) -> str:
    return printable(sent[:_MOST])


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
