"""The transports under an HTTP client of an agent: they present each request to a configured origin.

Laws: the audience comes from the caller's own map of origins, never from a response or a redirect. A request to any
other origin gets no token. The transport sees each single request with its final body, below everything that a client
does with a request. A redirect raises an error.
"""

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from capx.agent.actor import Actor, current_actor, why_nobody_acts
from capx.agent.http_library import HttpLibrary
from capx.agent.presented_call import PassedCapabilities
from capx.agent.presented_request import PresentedRequest, is_denial, is_refusal
from capx.agent.redirected import Redirected
from capx.agent.response_peek import peeked, peeked_async
from capx.errors import InvalidRequest
from capx.tokens.bundle import Bundle

if TYPE_CHECKING:
    import httpx

MAX_BODY: Final = 1 << 20
"""The most bytes of a request's body: the client buffers it to digest it."""

_TRANSPORT_SETTINGS: Final[tuple[str, ...]] = ("verify", "cert", "http1", "http2", "limits", "proxy")
_Origin = tuple[str, bytes, int | None]
_PORTS: Final = {"http": 80, "https": 443}


class Presenter:
    """The parts that both transports share; no I/O."""

    def __init__(
        self,
        library: HttpLibrary,
        origins: Mapping[str, str],
        actor: Actor | None,
        max_body: int,
        *,
        raise_denied: bool,
    ) -> None:
        self.library = library
        self._audiences = {demand_origin(origin, library): audience for origin, audience in origins.items()}
        self._actor = actor
        self.max_body = max_body
        self.raise_denied = raise_denied
        self._passed = PassedCapabilities()

    def presented(self, request: "httpx.Request", audience: str, body: bytes, actor: Actor) -> PresentedRequest:
        """Return a request that is about to be presented."""
        return PresentedRequest(request, audience, body, actor, passed=self._passed, library=self.library)

    def audience(self, request: "httpx.Request") -> str | None:
        """Return the audience of the request's origin; None if the map has none."""
        return self._audiences.get(_origin(request.url))

    def actor(self, audience: str) -> Actor:
        """Return who acts at this audience."""
        return actor_at(audience, self._actor)


class PresentingTransport:
    """Presents each request, and sends it with the transport in it."""

    def __init__(self, presenter: Presenter, inner: "httpx.BaseTransport") -> None:
        self._presenter = presenter
        self._inner = inner

    def handle_request(self, request: "httpx.Request") -> "httpx.Response":
        """Send a request, presented if its origin is in the map."""
        audience = self._presenter.audience(request)
        if audience is None:
            return self._sent(request)
        stream = request.stream
        if not isinstance(stream, Iterable):
            raise InvalidRequest("this client cannot send an async body: use an async client")
        actor = self._presenter.actor(audience)
        body = Body(self._presenter.max_body)
        for chunk in stream:
            body.add(chunk)
        sending = self._presenter.presented(request, audience, body.whole(), actor)
        while True:
            response = self._presented(sending)
            wanted = sending.next_asks(response)
            if wanted is None or not sending.gained(sending.asks.seek(wanted), response):
                break
        if self._presenter.raise_denied and is_denial(response):
            sending.raise_denial(peeked(response, self._presenter.library))
        return sending.ended(response)

    def _presented(self, sending: PresentedRequest) -> "httpx.Response":
        unread: httpx.Response | None = None
        for attempt in sending.attempts():
            # A denial that was not read whole holds its connection. Free it before the next attempt.
            if unread is not None:
                unread.close()
            response = self._sent(attempt)
            if not is_refusal(response):
                return sending.answered(response)
            problem = peeked(response, self._presenter.library)
            unread = response if problem is None else None
            sending.refused(response, problem)
        return _demand_response(unread or sending.refusal)

    def _sent(self, request: "httpx.Request") -> "httpx.Response":
        response = self._inner.handle_request(request)
        # Here, below httpx: a caller may set `follow_redirects` for the client or for one request.
        if response.has_redirect_location:
            response.close()
            raise _redirected(request, response, self._presenter.library)
        return response

    def close(self) -> None:
        """Close the transport in it."""
        self._inner.close()


class AsyncPresentingTransport:
    """`PresentingTransport`, for async code."""

    def __init__(self, presenter: Presenter, inner: "httpx.AsyncBaseTransport") -> None:
        self._presenter = presenter
        self._inner = inner

    async def handle_async_request(self, request: "httpx.Request") -> "httpx.Response":
        """Send a request, presented if its origin is in the map."""
        audience = self._presenter.audience(request)
        if audience is None:
            return await self._sent(request)
        stream = request.stream
        if not isinstance(stream, AsyncIterable):
            raise InvalidRequest("an async client cannot send this body: pass bytes or an async iterable")
        actor = self._presenter.actor(audience)
        body = Body(self._presenter.max_body)
        async for chunk in stream:
            body.add(chunk)
        sending = self._presenter.presented(request, audience, body.whole(), actor)
        while True:
            response = await self._presented(sending)
            wanted = sending.next_asks(response)
            if wanted is None:
                break
            if not sending.gained(await sending.asks.seek_async(wanted), response):
                break
        if self._presenter.raise_denied and is_denial(response):
            sending.raise_denial(await peeked_async(response, self._presenter.library))
        return sending.ended(response)

    async def _presented(self, sending: PresentedRequest) -> "httpx.Response":
        unread: httpx.Response | None = None
        for attempt in sending.attempts():
            if unread is not None:
                await unread.aclose()
            response = await self._sent(attempt)
            if not is_refusal(response):
                return sending.answered(response)
            problem = await peeked_async(response, self._presenter.library)
            unread = response if problem is None else None
            sending.refused(response, problem)
        return _demand_response(unread or sending.refusal)

    async def _sent(self, request: "httpx.Request") -> "httpx.Response":
        response = await self._inner.handle_async_request(request)
        if response.has_redirect_location:
            await response.aclose()
            raise _redirected(request, response, self._presenter.library)
        return response

    async def aclose(self) -> None:
        """Close the transport in it."""
        await self._inner.aclose()


def actor_at(audience: str, actor: Actor | None) -> Actor:
    """Return this actor, or the current one; InvalidRequest for nobody, and for an agent that has nothing there."""
    actor = actor or current_actor()
    if actor is None:
        raise InvalidRequest(f"there is no bundle to act with: pass one to the client. Otherwise {why_nobody_acts()}")
    if not isinstance(actor, Bundle) and audience not in actor.bundle.audiences:
        # Without a capability there is nothing to present, so no denial can say what the call needs.
        ask = f"agent.ask(ACTION, audience={audience!r}, args={{…}})"
        raise InvalidRequest(f"the agent has no capability for {audience!r} yet: ask for an action with {ask}")
    return actor


class Body:
    """A body that is collected in memory, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._room = limit
        self._chunks: list[bytes] = []

    def add(self, chunk: bytes) -> None:
        """Add the next part; InvalidRequest if that is too much."""
        self._room -= len(chunk)
        if self._room < 0:
            raise InvalidRequest(f"the body is larger than {self._limit} bytes, too much to buffer: raise max_body")
        self._chunks.append(chunk)

    def whole(self) -> bytes:
        """Return all of it."""
        return b"".join(self._chunks)


def _redirected(request: "httpx.Request", response: "httpx.Response", library: HttpLibrary) -> Redirected:
    location = response.headers["location"]
    try:
        return Redirected(str(request.url.join(location)))
    except library.invalid_url:
        return Redirected(repr(location))


def _demand_response(response: "httpx.Response | None") -> "httpx.Response":
    if response is None:
        raise AssertionError("a bundle always has a candidate")
    return response


def _origin(url: "httpx.URL") -> _Origin:
    return url.scheme, url.raw_host, url.port or _PORTS.get(url.scheme)


def transport_settings(client: dict[str, Any]) -> dict[str, Any]:
    """Take the settings of the transport out of the keywords of a client.

    The library would ignore them, because it gets a transport, or would use transports that do not present.
    """
    if client.get("mounts"):
        raise InvalidRequest("`mounts` would send requests without a presentation: make another client for them")
    settings = {name: client.pop(name) for name in _TRANSPORT_SETTINGS if name in client}
    if settings and client.get("transport"):
        raise InvalidRequest(f"the transport is passed, so set {', '.join(settings)} on it and not here")
    if "trust_env" in client:
        settings["trust_env"] = client["trust_env"]
    return settings


def demand_origin(origin: str, library: HttpLibrary) -> _Origin:
    """Return the scheme, host and port of an origin; InvalidRequest if it is not an origin."""
    try:
        url = library.url(origin)
    except library.invalid_url as error:
        raise InvalidRequest(f"{origin!r:.80} is not an origin: {error}") from None
    if url.scheme not in _PORTS or not url.host or url.raw_path != b"/" or url.userinfo or url.fragment:
        raise InvalidRequest(f"{origin!r:.80} is not an origin: write it like http://127.0.0.1:8001, without a path")
    return _origin(url)
