"""Reads the answer of an authority over HTTP: a value, or the error that it describes. Says why none came."""

from typing import TypeVar

import httpx
import msgspec

from capx.api import remote_text
from capx.api.deadline import WholeResponse
from capx.api.messages.base import Problem, decode
from capx.api.problems import UNREADABLE, from_denial_by_authority, from_problem
from capx.api.tls import tls_problem
from capx.errors import InvalidRequest, StoreProblem, Unavailable

T = TypeVar("T")


def read_response(answer: WholeResponse, kind: type[T], url: str, *, status: int = 200) -> T:
    """Return the value of an answer with this status, or raise the error that it describes.

    Raises Denied, InvalidRequest, StoreProblem or HttpRefusal, as the authority answered.
    """
    if answer.status != status:
        denied = from_denial_by_authority(answer.status, answer.content)
        raise denied or from_problem(answer.status, problem_of(answer), url)
    try:
        return decode(answer.content, kind)
    except InvalidRequest as error:
        # The error repeats words of the answer.
        why = remote_text.text(str(error), remote_text.DETAIL)
        raise StoreProblem(f"the authority at {url} is of another version: {why}") from None


def problem_of(answer: WholeResponse) -> Problem | None:
    """Return the problem in an answer; None if it is not a problem of capx."""
    try:
        return msgspec.json.decode(answer.content, type=Problem)
    except UNREADABLE:
        return None


def detail(answer: WholeResponse) -> str:
    """Return the sentence of a problem, or the status of an answer that is not one."""
    problem = problem_of(answer)
    # It goes to a log, and a hostile sender must not write lines of its own there.
    return f"it answered {answer.status}" if problem is None else remote_text.text(problem.detail, remote_text.DETAIL)


class NoAnswer(StoreProblem):
    """The request was sent and no answer came: the authority may have done what it was asked."""


def unreachable(url: str, error: Exception) -> StoreProblem:
    """Return the error for a request without an answer."""
    # Without a connection nothing was done: Unavailable. After it, the authority may have done the work.
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        if (problem := tls_problem(error)) is not None:
            return Unavailable(f"{url} {problem}")
        return Unavailable(f"no authority answers at {url}: is capx serve running there?")
    # A server of TLS breaks off, or answers what is no HTTP.
    is_plain = url.startswith("http://") and isinstance(error, httpx.RemoteProtocolError)
    hint = ", or it speaks https and not http" if is_plain else ""
    return NoAnswer(
        f"the authority at {url} did not answer ({type(error).__name__}): it may have done what it was asked{hint}"
    )
