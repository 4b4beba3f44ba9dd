"""Reads the answer of an authority over HTTP: a value, or the error that it describes."""

import time
from typing import Final, NoReturn, TypeVar

import httpx
import msgspec
from msgspec import Struct

from capx.api.deadline import WholeResponse
from capx.api.messages.agents import Reason
from capx.api.messages.base import Problem, decode
from capx.api.problems import from_problem
from capx.errors import InvalidRequest, StoreProblem, Unavailable
from capx.tokens.lineage import AUTHORITY
from capx.verify.decision import Decision, Denied
from capx_caveats.values import printable

T = TypeVar("T")

# Characters of a sender's sentence that an error repeats.
_MOST: Final = 300
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def read_response(answer: WholeResponse, kind: type[T], url: str) -> T:
    """Return the value; raises Denied, InvalidRequest or StoreProblem, as the authority answered."""
    if answer.status != 200:
        _refuse(answer, url)
    try:
        return decode(answer.content, kind)
    except InvalidRequest as error:
        raise StoreProblem(f"the authority at {url} is of another version: {error}") from None


class _RefusalBody(Struct, frozen=True):
    decision: str
    reasons: tuple[Reason, ...]


def _refuse(answer: WholeResponse, url: str) -> NoReturn:
    try:
        refused = msgspec.json.decode(answer.content, type=_RefusalBody)
    except _UNREADABLE:
        raise from_problem(answer.status, problem_of(answer), url) from None
    # A denial of capx always has a reason, so something else has answered.
    if not refused.reasons:
        raise from_problem(answer.status, None, url)
    refusals = tuple(reason.refusal() for reason in refused.reasons)
    raise Denied(
        Decision(id=refused.decision, at=int(time.time()), allowed=False, audience=AUTHORITY, refusals=refusals)
    )


def problem_of(answer: WholeResponse) -> Problem | None:
    """Return the problem in an answer; None if it is not a problem of capx."""
    try:
        return msgspec.json.decode(answer.content, type=Problem)
    except _UNREADABLE:
        return None


def detail(answer: WholeResponse) -> str:
    """Return the sentence of a problem, or the status of an answer that is not one."""
    problem = problem_of(answer)
    # Printable: it goes to a log, and a hostile sender must not write lines of its own there.
    return f"it answered {answer.status}" if problem is None else printable(problem.detail[:_MOST])


class NoAnswer(StoreProblem):
    """The request was sent and no answer came: the authority may have done what it was asked."""


def unreachable(url: str, error: httpx.HTTPError) -> StoreProblem:
    """Return the error for a request without an answer."""
    # Without a connection nothing was done: Unavailable. After it, the authority may have done the work.
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return Unavailable(f"no authority answers at {url}: is capx serve running there?")
    return NoAnswer(
        f"the authority at {url} did not answer ({type(error).__name__}): it may have done what it was asked"
    )
