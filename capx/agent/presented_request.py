"""One HTTP request to one audience: what a client sends for each attempt, and what its answers say.

Law: no I/O.
"""

from typing import TYPE_CHECKING, Final

from capx.agent.actor import Actor
from capx.agent.http_library import HttpLibrary
from capx.agent.next_asks import AskOutcome, NextAsks
from capx.agent.presented_call import PassedCapabilities, PresentedCall
from capx.api.problems import from_denial
from capx.errors import InvalidRequest
from capx.tokens.binding import HttpRequest
from capx.tokens.capability import Presentation
from capx.verify.ask import Approved, Granted

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

ASK_EXTENSION: Final = "capx_ask"
"""The extension of a 403 response that says why nothing was granted: capx.Refused, or the error of the ask."""

GRANTED_EXTENSION: Final = "capx_granted"
"""The extension of a 403 response with the asks that were granted and not enough: a tuple of capx.verify.Ask."""

NOTES_EXTENSION: Final = "capx_notes"
"""The extension of a 403 response with the sentences that `Denied.notes` has: a tuple of texts."""


class PresentedRequest:
    """One request to one audience, presented as `PresentedCall` says.

    Requests are of one kind if they have the same audience and method, and the same path except segments with a digit.
    """

    def __init__(
        self,
        request: "httpx.Request",
        audience: str,
        body: bytes,
        actor: Actor,
        *,
        passed: PassedCapabilities,
        library: HttpLibrary,
    ) -> None:
        self._library = library
        self._request = request
        self._received = HttpRequest(
            method=request.method,
            target=_target(request.url),
            content_type=_single(request, "content-type"),
            content_encoding=_single(request, "content-encoding"),
            body=body,
        )
        self._audience = audience
        kind = kind_of(request.method, request.url.path)
        self._presented = PresentedCall(self._received, audience, actor, passed, kind)
        self.asks = self._presented.asks
        self.refusal: httpx.Response | None = None
        """The most informative refusal of those that were read whole."""

    def attempts(self) -> "Iterator[httpx.Request]":
        """Yield the request with each presentation in turn."""
        for presentation in self._presented.attempts():
            if presentation is None:
                raise AssertionError("a client demands a capability for its audience first")
            yield self._with(presentation)

    def answered(self, response: "httpx.Response") -> "httpx.Response":
        """Note which capability the request passed with."""
        if response.is_success:
            self._presented.succeeded()
        return response

    def refused(self, response: "httpx.Response", problem: bytes | None) -> None:
        """Note what a denial says.

        A body that was not read whole is not kept, and the agent then asks for nothing.
        """
        if problem is None:
            self._presented.unreadable()
        elif self._presented.refused(from_denial(problem, self._audience)):
            self.refusal = response

    def next_asks(self, response: "httpx.Response") -> NextAsks | None:
        """Return what to ask for after a response; None if there is nothing to ask for."""
        return self._presented.next_asks() if is_refusal(response) else None

    def gained(self, outcome: AskOutcome | None, response: "httpx.Response") -> bool:
        """Return whether there is a new capability to present; if not, note the reason on the response.

        Raises Unavailable if the authority has not answered.
        """
        gained = self._presented.gained(outcome)
        if outcome is not None and not isinstance(outcome.answer, Granted | Approved):
            response.extensions[ASK_EXTENSION] = outcome.answer
        return gained

    def ended(self, response: "httpx.Response") -> "httpx.Response":
        """Return the response of the call; a denial gets the notes why the call stays denied."""
        if is_refusal(response):
            self.asks.failed()
            if self.asks.granted:
                response.extensions[GRANTED_EXTENSION] = self.asks.granted
            if self.asks.notes:
                response.extensions[NOTES_EXTENSION] = self.asks.notes
        return response

    def raise_denial(self, content: bytes | None) -> None:
        """Raise the error with which a denied call ends; return if this is no denial."""
        denied = None if content is None else from_denial(content, self._audience)
        if denied is not None:
            self.asks.raise_denied(denied)

    def _with(self, presentation: Presentation) -> "httpx.Request":
        headers = self._request.headers.copy()
        # The service has its own use for Authorization: do not change it.
        if "authorization" in headers:
            headers["Capx-Token"] = presentation.text
        else:
            headers["Authorization"] = presentation.authorization
        return self._library.request(
            self._request.method,
            self._request.url,
            headers=headers,
            stream=self._library.byte_stream(self._received.body),
            extensions=self._request.extensions,
        )


def is_refusal(response: "httpx.Response") -> bool:
    """Whether capx denied the request. A 403 of the service itself may come after effects: never repeat that."""
    return response.status_code == 403 and response.headers.get("www-authenticate") == "Capx"


def is_denial(response: "httpx.Response") -> bool:
    """Whether the head of a response looks like a denial of capx; its body decides."""
    return response.status_code in (401, 403, 503) and response.headers.get("www-authenticate") == "Capx"


def kind_of(method: str, path: str) -> tuple[str, ...]:
    """Return the kind of a request, for `PassedCapabilities`."""
    return method, *filter(_is_fixed, path.split("/"))


def _is_fixed(segment: str) -> bool:
    """Whether a segment of a path may be the same for all requests of a kind: one with a digit names one row."""
    return not any(map(str.isdigit, segment))


def _single(request: "httpx.Request", name: str) -> str | None:
    wanted = name.encode()
    values = [value for key, value in request.headers.raw if key.lower() == wanted]
    if len(values) > 1:
        raise InvalidRequest(f"cannot present a request with several {name} headers: send one")
    return values[0].decode("latin-1").strip(" \t") if values else None


def _target(url: "httpx.URL") -> str:
    # A service sees no difference between an empty query and none, so the presentation must not have one either.
    path, _, query = url.raw_path.decode("ascii").partition("?")
    return f"{path}?{query}" if query else path
