"""Reads the answer of an authority over HTTP: a value, or the error that it describes. Says why none came."""

import ssl
from collections.abc import Generator
from contextlib import contextmanager
from typing import TypeVar

import httpx
import msgspec

from capx.api import remote_text
from capx.api.deadline import WholeResponse
from capx.api.messages.base import Problem, decode
from capx.api.problems import UNREADABLE, from_denial_by_authority, from_problem
from capx.errors import ConfigurationProblem, InvalidRequest, StoreProblem, Unavailable

T = TypeVar("T")

_OTHER_NAME = 62
"""X509_V_ERR_HOSTNAME_MISMATCH of OpenSSL."""


@contextmanager
def reads_certificates() -> Generator[None]:
    """A block that makes a client of httpx: ConfigurationProblem if the certificates to trust cannot be read."""
    try:
        yield
    except OSError as error:  # ssl.SSLError is one too
        why = "there is no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror or error
        raise ConfigurationProblem(
            f"the file of the certificates to trust cannot be used ({why}): write the full path of a file of PEM into "
            "SSL_CERT_FILE, or of a folder into SSL_CERT_DIR"
        ) from None


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
        return Unavailable(_untrusted(url, error) or f"no authority answers at {url}: is capx serve running there?")
    hint = ", or it serves https and not http" if url.startswith("http://") else ""
    return NoAnswer(
        f"the authority at {url} did not answer ({type(error).__name__}): it may have done what it was asked{hint}"
    )


def _untrusted(url: str, error: BaseException | None) -> str | None:
    """Say what is wrong with the TLS of a server; None if a connection failed for another reason."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    if error is None:
        return None
    if not isinstance(error, ssl.SSLCertVerificationError):
        return f"{url} does not speak TLS as it must ({error.reason or 'no reason'}): does it serve http?"
    if error.verify_code == _OTHER_NAME:
        return f"{url} has a certificate for another name: dial the name in it"
    return (
        f"{url} has a certificate that is not trusted here ({error.verify_message}): name the file of its certificate "
        "authority in SSL_CERT_FILE"
    )
