"""HTTP clients for agents: they present each request to a configured origin, and send no token anywhere else.

Laws: the audience comes from the caller's own map of origins, never from a response or a redirect. A redirect raises an
error, because a server must not choose where authority goes next. When a request is denied, an agent asks for what it
lacks, only at that audience: at most twice for more, and once for each approval that its token demands. The client
presents the request again with each grant and each approval. So whatever a service answers, one call sends it at most
MAX_ATTEMPTS + 3 requests, and one for each of at most 8 approvals. A call that nobody can allow or deny now is
Unavailable.
"""

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any, Final

import httpx

from capx.agent.actor import Actor, current_actor, why_nobody_acts
from capx.agent.presented_call import MAX_ATTEMPTS, PassedCapabilities
from capx.agent.presented_request import (
    ASK_EXTENSION,
    GRANTED_EXTENSION,
    NOTES_EXTENSION,
    PresentedRequest,
    is_denial,
    is_refusal,
)
from capx.agent.response_peek import peeked, peeked_async
from capx.api import remote_text
from capx.errors import CapxError, InvalidRequest
from capx.tokens.bundle import Bundle

__all__ = [
    "ASK_EXTENSION",
    "GRANTED_EXTENSION",
    "MAX_ATTEMPTS",
    "MAX_BODY",
    "NOTES_EXTENSION",
    "Redirected",
    "async_client",
    "client",
    "demand_origin",
]

MAX_BODY: Final = 1 << 20
"""The most bytes of a request's body: the client buffers it to digest it."""

_TRANSPORT_SETTINGS = ("verify", "cert", "http1", "http2", "limits", "proxy")
_Origin = tuple[str, bytes, int | None]
_PORTS = {"http": 80, "https": 443}


class Redirected(CapxError):
    """A service answered with a redirect to `url`. The client did not follow it. The text shows only its beginning."""

    def __init__(self, url: str) -> None:
        shown = remote_text.text(url, remote_text.DETAIL)
        super().__init__(
            f"the service redirects to {shown}, which this client does not follow: if it is right, call it"
        )
        self.url = url

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.url,), vars(self)


def client(
    origins: Mapping[str, str],
    actor: Actor | None = None,
    *,
    max_body: int = MAX_BODY,
    raise_denied: bool = False,
    **client: Any,
) -> httpx.Client:
    """Make a client that presents each request to an origin of the map, at the audience that the map names for it.

    It acts with this bundle, or as this agent; without one, with the actor of the `acting` block around each request.
    The other keywords are those of httpx. After a 403 response of capx, it tries the next capability that may allow
    what the response names, up to MAX_ATTEMPTS. If all are denied, it returns the first answer that says more than
    "this action is not allowed", otherwise the first one. Before that, an agent asks for what all of them lack: see
    `capx.Agent`. If the authority gives no answer, Unavailable is raised, caused by the Denied.

    With `raise_denied`, a client raises what a guarded tool raises: Denied for an answer of capx with 401 or 403, and
    Unavailable for one with 503.
    """
    presenter = _Presenter(origins, actor, max_body, raise_denied=raise_denied)
    settings = _settings(client)
    inner = client.pop("transport", None) or httpx.HTTPTransport(**settings)
    return httpx.Client(transport=_Transport(presenter, inner), **client)


def async_client(
    origins: Mapping[str, str],
    actor: Actor | None = None,
    *,
    max_body: int = MAX_BODY,
    raise_denied: bool = False,
    **client: Any,
) -> httpx.AsyncClient:
    """`client` for async code."""
    presenter = _Presenter(origins, actor, max_body, raise_denied=raise_denied)
    settings = _settings(client)
    inner = client.pop("transport", None) or httpx.AsyncHTTPTransport(**settings)
    return httpx.AsyncClient(transport=_AsyncTransport(presenter, inner), **client)


def _settings(client: dict[str, Any]) -> dict[str, Any]:
    """Take the settings of the transport out of the keywords of a client.

    httpx would ignore them, because it gets a transport, or would use transports that do not present.
    """
    if client.get("mounts"):
        raise InvalidRequest("`mounts` would send requests without a presentation: make another httpx.Client for them")
    settings = {name: client.pop(name) for name in _TRANSPORT_SETTINGS if name in client}
    if settings and client.get("transport"):
        raise InvalidRequest(f"the transport is passed, so set {', '.join(settings)} on it and not here")
    if "trust_env" in client:
        settings["trust_env"] = client["trust_env"]
    return settings


class _Presenter:
    """The parts that both transports share; no I/O."""

    def __init__(self, origins: Mapping[str, str], actor: Actor | None, max_body: int, *, raise_denied: bool) -> None:
        self._audiences = {demand_origin(origin): audience for origin, audience in origins.items()}
        self._actor = actor
        self.max_body = max_body
        self.raise_denied = raise_denied
        self.passed = PassedCapabilities()

    def audience(self, request: httpx.Request) -> str | None:
        return self._audiences.get(_origin(request.url))

    def actor(self, audience: str) -> Actor:
        """Return the current actor; an agent must hold something for the audience."""
        actor = self._actor or current_actor()
        if actor is None:
            raise InvalidRequest(
                f"there is no bundle to act with: pass one to the client. Otherwise {why_nobody_acts()}"
            )
        if not isinstance(actor, Bundle) and audience not in actor.bundle.audiences:
            # Without a capability there is nothing to present, so no denial can say what the call needs.
            ask = f"agent.ask(ACTION, audience={audience!r}, args={{…}})"
            raise InvalidRequest(f"the agent has no capability for {audience!r} yet: ask for an action with {ask}")
        return actor


class _Transport(httpx.BaseTransport):
    def __init__(self, presenter: _Presenter, inner: httpx.BaseTransport) -> None:
        self._presenter = presenter
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        audience = self._presenter.audience(request)
        if audience is None:
            return self._sent(request)
        stream = request.stream
        if not isinstance(stream, Iterable):
            raise InvalidRequest("this client cannot send an async body: use an async client")
        actor = self._presenter.actor(audience)
        body = _Body(self._presenter.max_body)
        for chunk in stream:
            body.add(chunk)
        sending = PresentedRequest(request, audience, body.whole(), actor, self._presenter.passed)
        while True:
            response = self._presented(sending)
            wanted = sending.next_asks(response)
            if wanted is None or not sending.gained(sending.asks.seek(wanted), response):
                break
        if self._presenter.raise_denied and is_denial(response):
            sending.raise_denial(peeked(response))
        return sending.ended(response)

    def _presented(self, sending: PresentedRequest) -> httpx.Response:
        unread: httpx.Response | None = None
        for attempt in sending.attempts():
            # A denial that was not read whole holds its connection. Free it before the next attempt.
            if unread is not None:
                unread.close()
            response = self._sent(attempt)
            if not is_refusal(response):
                return sending.answered(response)
            problem = peeked(response)
            unread = response if problem is None else None
            sending.refused(response, problem)
        return _demand_response(unread or sending.refusal)

    def _sent(self, request: httpx.Request) -> httpx.Response:
        response = self._inner.handle_request(request)
        # Here, below httpx: a caller may set `follow_redirects` for the client or for one request.
        if response.has_redirect_location:
            response.close()
            raise _redirected(request, response)
        return response

    def close(self) -> None:
        self._inner.close()


class _AsyncTransport(httpx.AsyncBaseTransport):
    def __init__(self, presenter: _Presenter, inner: httpx.AsyncBaseTransport) -> None:
        self._presenter = presenter
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        audience = self._presenter.audience(request)
        if audience is None:
            return await self._sent(request)
        stream = request.stream
        if not isinstance(stream, AsyncIterable):
            raise InvalidRequest("an async client cannot send this body: pass bytes or an async iterable")
        actor = self._presenter.actor(audience)
        body = _Body(self._presenter.max_body)
        async for chunk in stream:
            body.add(chunk)
        sending = PresentedRequest(request, audience, body.whole(), actor, self._presenter.passed)
        while True:
            response = await self._presented(sending)
            wanted = sending.next_asks(response)
            if wanted is None:
                break
            if not sending.gained(await sending.asks.seek_async(wanted), response):
                break
        if self._presenter.raise_denied and is_denial(response):
            sending.raise_denial(await peeked_async(response))
        return sending.ended(response)

    async def _presented(self, sending: PresentedRequest) -> httpx.Response:
        unread: httpx.Response | None = None
        for attempt in sending.attempts():
            if unread is not None:
                await unread.aclose()
            response = await self._sent(attempt)
            if not is_refusal(response):
                return sending.answered(response)
            problem = await peeked_async(response)
            unread = response if problem is None else None
            sending.refused(response, problem)
        return _demand_response(unread or sending.refusal)

    async def _sent(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        if response.has_redirect_location:
            await response.aclose()
            raise _redirected(request, response)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Body:
    """A body that is collected in memory, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._room = limit
        self._chunks: list[bytes] = []

    def add(self, chunk: bytes) -> None:
        self._room -= len(chunk)
        if self._room < 0:
            raise InvalidRequest(f"the body is larger than {self._limit} bytes, too much to buffer: raise max_body")
        self._chunks.append(chunk)

    def whole(self) -> bytes:
        return b"".join(self._chunks)


def _redirected(request: httpx.Request, response: httpx.Response) -> Redirected:
    location = response.headers["location"]
    try:
        return Redirected(str(request.url.join(location)))
    except httpx.InvalidURL:
        return Redirected(repr(location))


def _demand_response(response: httpx.Response | None) -> httpx.Response:
    if response is None:
        raise AssertionError("a bundle always has a candidate")
    return response


def _origin(url: httpx.URL) -> _Origin:
    return url.scheme, url.raw_host, url.port or _PORTS.get(url.scheme)


def demand_origin(origin: str) -> _Origin:
    """Return the scheme, host and port of an origin; InvalidRequest if it is not an origin."""
    try:
        url = httpx.URL(origin)
    except httpx.InvalidURL as error:
        raise InvalidRequest(f"{origin!r:.80} is not an origin: {error}") from None
    if url.scheme not in _PORTS or not url.host or url.raw_path != b"/" or url.userinfo or url.fragment:
        raise InvalidRequest(f"{origin!r:.80} is not an origin: write it like http://127.0.0.1:8001, without a path")
    return _origin(url)
