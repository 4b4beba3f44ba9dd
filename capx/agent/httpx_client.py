"""HTTP clients for agents: each single request to a configured origin is presented, no other gets a token.

Laws: the audience comes from the caller's own map of origins, never from a response or a redirect. A redirect
raises: whoever answers does not choose where authority goes next. What is digested is what is sent. A capability that
passed before is no reason not to try a newer one first. An agent that is refused asks for what it lacks, no more than
twice and at that audience, and presents the request again after each grant.
"""

from collections.abc import AsyncIterable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import httpx

from capx.agent.actor import Actor, bundle_of, current_actor
from capx.agent.next_asks import AskOutcome, DenialSummary, NextAsks, next_asks
from capx.agent.response_peek import peeked, peeked_async
from capx.errors import CapxError, InvalidRequest
from capx.tokens.binding import HttpRequest
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.verify.ask import Ask, Granted

MAX_BODY: Final = 1 << 20
"""Bytes of a request's body: it is buffered, to be digested."""

ASK_EXTENSION: Final = "capx_ask"
"""The extension of a response of 403 that says why nothing was granted: capx.Refused, or the error of asking."""

GRANTED_EXTENSION: Final = "capx_granted"
"""The extension of a response of 403 with what was granted and did not suffice: a tuple of capx.verify.Ask."""

_ALIKE: Final = 256
"""For how many kinds of requests a client remembers which capability passed."""

_OF_TRANSPORT = ("verify", "cert", "http1", "http2", "limits", "proxy")
_Origin = tuple[str, bytes, int | None]
_PORTS = {"http": 80, "https": 443}


class Redirected(CapxError):
    """A service answered with a redirect; `url` is where to. Ask there on purpose, if it is known to be right."""

    def __init__(self, url: str) -> None:
        super().__init__(f"the service redirects to {url}, which is not followed: ask there if that is right")
        self.url = url


def client(
    origins: Mapping[str, str], actor: Actor | None = None, *, max_body: int = MAX_BODY, **client: Any
) -> httpx.Client:
    """A client that presents each request to an origin of the map, at the audience the map names for it.

    It acts with this bundle, or as this agent; without one, as the `acting` block around each request says. The other
    keywords are httpx's. A response of 403 that capx gave is tried again with the next capability. If all are refused,
    the first answer is returned that says more than that the action is not allowed, else the first. Before that, an
    agent asks for what all of them lack: see `capx.Agent`.
    """
    presenter = _Presenter(origins, actor, max_body)
    settings = _settings(client)
    inner = client.pop("transport", None) or httpx.HTTPTransport(**settings)
    return httpx.Client(transport=_Transport(presenter, inner), **client)


def async_client(
    origins: Mapping[str, str], actor: Actor | None = None, *, max_body: int = MAX_BODY, **client: Any
) -> httpx.AsyncClient:
    """`client` for async code."""
    presenter = _Presenter(origins, actor, max_body)
    settings = _settings(client)
    inner = client.pop("transport", None) or httpx.AsyncHTTPTransport(**settings)
    return httpx.AsyncClient(transport=_AsyncTransport(presenter, inner), **client)


def _settings(client: dict[str, Any]) -> dict[str, Any]:
    """What configures the transport, taken out where httpx would ignore it beside one, or go around ours."""
    if client.get("mounts"):
        raise InvalidRequest("mounted transports would go around this one: make a client of its own for them")
    settings = {name: client.pop(name) for name in _OF_TRANSPORT if name in client}
    if settings and client.get("transport"):
        raise InvalidRequest(f"{', '.join(settings)}: configure the transport that is passed, it is used as it is")
    if "trust_env" in client:
        settings["trust_env"] = client["trust_env"]
    return settings


class _Presenter:
    """What both transports share; no I/O."""

    def __init__(self, origins: Mapping[str, str], actor: Actor | None, max_body: int) -> None:
        self._audiences = {demand_origin(origin): audience for origin, audience in origins.items()}
        self._actor = actor
        self.max_body = max_body
        self.passed = _Passed()

    def audience(self, request: httpx.Request) -> str | None:
        return self._audiences.get(_origin(request.url))

    def actor(self, audience: str) -> Actor:
        """Who acts now, and holds something for the audience."""
        actor = self._actor or current_actor()
        if actor is None:
            raise InvalidRequest("no bundle to act with: pass one, or send within `with capx.acting(bundle):`")
        if not isinstance(actor, Bundle) and audience not in actor.bundle.audiences:
            raise InvalidRequest(
                f"nothing is held for {audience!r} yet, so nobody there says what is needed: "
                f"agent.ask(ACTION, audience={audience!r}) asks for an action"
            )
        return actor


class _Passed:
    """Which capability passed for the last request of a kind: next time it is tried before all that is not newer.

    Of a kind are requests to one audience by one method, whose paths have the same segments but for those with a digit.
    """

    def __init__(self) -> None:
        self._ids: dict[tuple[str, ...], tuple[bytes, bytes]] = {}

    def order(self, kind: tuple[str, ...], newest_first: Sequence[Capability]) -> list[Capability]:
        ids = [capability.id for capability in newest_first]
        newest, passed = self._ids.get(kind, (b"", b""))
        newer = ids.index(newest) if newest in ids else len(ids)
        rest = sorted(newest_first[newer:], key=lambda capability: capability.id != passed)
        return [*newest_first[:newer], *rest]

    def note(self, kind: tuple[str, ...], newest: bytes, passed: bytes) -> None:
        if len(self._ids) >= _ALIKE:
            self._ids.clear()
        self._ids[kind] = newest, passed


class _Sending:
    """One request on its way to one audience: what refuses it, and what whoever acts asks for because of that."""

    def __init__(self, request: httpx.Request, audience: str, body: bytes, actor: Actor, passed: _Passed) -> None:
        self._request = request
        self._received = HttpRequest(
            method=request.method,
            target=_target(request.url),
            content_type=_single(request, "content-type"),
            content_encoding=_single(request, "content-encoding"),
            body=body,
        )
        self._audience = audience
        self._actor = actor
        self._passed = passed
        self._kind = (audience, request.method, *filter(_is_fixed, request.url.path.split("/")))
        self._held = bundle_of(actor)
        self._newest = self._tried = b""
        self._granted: tuple[Ask, ...] = ()
        self._told: list[DenialSummary] | None = []
        self._telling = False
        self.refusal: httpx.Response | None = None
        """The most telling refusal of those that were read whole."""

    def attempts(self) -> Iterator[httpx.Request]:
        """The request, presented with one capability after the other, as many as are held now."""
        self._held = bundle_of(self._actor)
        self._told, self._telling, self.refusal = [], False, None
        newest_first = self._held.candidates(self._audience, self._received)
        self._newest = newest_first[0].id
        for capability in self._passed.order(self._kind, newest_first):
            self._tried = capability.id
            yield _presented(self._request, capability, self._received)

    def answered(self, response: httpx.Response) -> httpx.Response:
        """Note with what the request passed."""
        if response.is_success:
            self._passed.note(self._kind, self._newest, self._tried)
        return response

    def refused(self, response: httpx.Response, problem: bytes | None) -> None:
        """Note what a refusal says; one that was not read whole is not kept, and no reason to ask for anything."""
        if problem is None:
            self._told = None
            return
        told = DenialSummary.parse(problem)
        telling = told is not None and not told.of_action_alone
        if self.refusal is None or (telling and not self._telling):
            self.refusal, self._telling = response, telling
        if told is not None and self._told is not None:
            self._told.append(told)

    def next_asks(self, response: httpx.Response) -> NextAsks | None:
        """What to ask for after a response; on one that refuses it is noted what was granted in vain."""
        if not _refused(response):
            return None
        if self._granted:
            response.extensions[GRANTED_EXTENSION] = self._granted
        if not self._told:
            return None
        return next_asks(self._audience, self._told, self._granted[-1] if self._granted else None)

    def gained(self, outcome: AskOutcome | None, response: httpx.Response) -> bool:
        """Whether there is something new to present; why not is noted on the response."""
        if outcome is None:
            return False
        if not isinstance(outcome.answer, Granted):
            response.extensions[ASK_EXTENSION] = outcome.answer
            return False
        self._granted = (*self._granted, outcome.ask)
        if outcome.answer.capability in self._held:
            response.extensions[GRANTED_EXTENSION] = self._granted
            return False
        return True


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
            raise InvalidRequest("an async body cannot be sent by a client that is not")
        actor = self._presenter.actor(audience)
        body = _Body(self._presenter.max_body)
        for chunk in stream:
            body.add(chunk)
        sending = _Sending(request, audience, body.whole(), actor, self._presenter.passed)
        while True:
            response = self._presented(sending)
            wanted = sending.next_asks(response)
            if wanted is None or isinstance(actor, Bundle):
                return response
            if not sending.gained(actor.seek(wanted), response):
                return response

    def _presented(self, sending: _Sending) -> httpx.Response:
        unread: httpx.Response | None = None
        for attempt in sending.attempts():
            if unread is not None:
                unread.close()
            response = self._sent(attempt)
            if not _refused(response):
                return sending.answered(response)
            problem = peeked(response)
            unread = response if problem is None else None
            sending.refused(response, problem)
        return _some(unread or sending.refusal)

    def _sent(self, request: httpx.Request) -> httpx.Response:
        response = self._inner.handle_request(request)
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
            raise InvalidRequest("a body that is not async cannot be sent by an async client")
        actor = self._presenter.actor(audience)
        body = _Body(self._presenter.max_body)
        async for chunk in stream:
            body.add(chunk)
        sending = _Sending(request, audience, body.whole(), actor, self._presenter.passed)
        while True:
            response = await self._presented(sending)
            wanted = sending.next_asks(response)
            if wanted is None or isinstance(actor, Bundle):
                return response
            if not sending.gained(await actor.seek_async(wanted), response):
                return response

    async def _presented(self, sending: _Sending) -> httpx.Response:
        unread: httpx.Response | None = None
        for attempt in sending.attempts():
            if unread is not None:
                await unread.aclose()
            response = await self._sent(attempt)
            if not _refused(response):
                return sending.answered(response)
            problem = await peeked_async(response)
            unread = response if problem is None else None
            sending.refused(response, problem)
        return _some(unread or sending.refusal)

    async def _sent(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        if response.has_redirect_location:
            await response.aclose()
            raise _redirected(request, response)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Body:
    """A body as it is gathered, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._room = limit
        self._chunks: list[bytes] = []

    def add(self, chunk: bytes) -> None:
        self._room -= len(chunk)
        if self._room < 0:
            raise InvalidRequest(f"the body is larger than {self._limit} bytes, and is digested before it is sent")
        self._chunks.append(chunk)

    def whole(self) -> bytes:
        return b"".join(self._chunks)


def _presented(request: httpx.Request, capability: Capability, received: HttpRequest) -> httpx.Request:
    headers = request.headers.copy()
    presentation = capability.present(received)
    if "authorization" in headers:
        headers["Capx-Token"] = presentation.text
    else:
        headers["Authorization"] = presentation.authorization
    return httpx.Request(
        request.method,
        request.url,
        headers=headers,
        stream=httpx.ByteStream(received.body),
        extensions=request.extensions,
    )


def _refused(response: httpx.Response) -> bool:
    """Whether it is capx that refused: a service's own 403 may come after effects."""
    return response.status_code == 403 and response.headers.get("www-authenticate") == "Capx"


def _redirected(request: httpx.Request, response: httpx.Response) -> Redirected:
    location = response.headers["location"]
    try:
        return Redirected(str(request.url.join(location)))
    except httpx.InvalidURL:
        return Redirected(repr(location))


def _is_fixed(segment: str) -> bool:
    """Whether a segment of a path may be the same for all requests of a kind: one with a digit names one thing."""
    return not any(map(str.isdigit, segment))


def _some(response: httpx.Response | None) -> httpx.Response:
    if response is None:
        raise AssertionError("a bundle always has a candidate")
    return response


def _single(request: httpx.Request, name: str) -> str | None:
    wanted = name.encode()
    values = [value for key, value in request.headers.raw if key.lower() == wanted]
    if len(values) > 1:
        raise InvalidRequest(f"a request with several {name} headers has no presentation")
    return values[0].decode("latin-1").strip(" \t") if values else None


def _target(url: httpx.URL) -> str:
    path, _, query = url.raw_path.decode("ascii").partition("?")
    return f"{path}?{query}" if query else path


def _origin(url: httpx.URL) -> _Origin:
    return url.scheme, url.raw_host, url.port or _PORTS.get(url.scheme)


def demand_origin(origin: str) -> _Origin:
    """Scheme, host and port of an origin; InvalidRequest for what is none."""
    try:
        url = httpx.URL(origin)
    except httpx.InvalidURL as error:
        raise InvalidRequest(f"{origin!r:.80} is no origin: {error}") from None
    if url.scheme not in _PORTS or not url.host or url.raw_path != b"/" or url.userinfo or url.fragment:
        raise InvalidRequest(
            f"{origin!r:.80} is no origin: write it like https://crm.internal or http://127.0.0.1:8001"
        )
    return _origin(url)
