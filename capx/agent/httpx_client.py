"""HTTP clients for agents: they present each request to a configured origin, and send no token anywhere else.

Laws: the audience comes from the caller's own map of origins, never from a response or a redirect. A redirect raises an
error, because a server must not choose where authority goes next. The client sends exactly the bytes that it digested.
It tries a newer capability before one that passed earlier. When a request is denied, an agent asks for what it lacks,
at most twice and only at that audience, and the client presents the request again with each grant. So whatever a
service answers, one call sends it at most MAX_ATTEMPTS + 2 requests. A call that nobody can allow or refuse now is
Unavailable.
"""

from collections.abc import AsyncIterable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import httpx

from capx.agent.actor import Actor, bundle_of, current_actor, demand_open_block, why_nobody_acts
from capx.agent.call_asks import CallAsks
from capx.agent.next_asks import AskOutcome, DenialSummary, NextAsks
from capx.agent.response_peek import peeked, peeked_async
from capx.api import remote_text
from capx.api.problems import from_denial
from capx.errors import CapxError, InvalidRequest
from capx.tokens.binding import HttpRequest
from capx.tokens.bundle import Bundle, is_ruled_out, permits
from capx.tokens.capability import Capability
from capx.tokens.lineage import AUTHORITY
from capx.verify.ask import Granted
from capx.verify.decision import Denied
from capx_caveats import Call

MAX_BODY: Final = 1 << 20
"""The most bytes of a request's body: the client buffers it to digest it."""

ASK_EXTENSION: Final = "capx_ask"
"""The extension of a 403 response that says why nothing was granted: capx.Refused, or the error of the ask."""

GRANTED_EXTENSION: Final = "capx_granted"
"""The extension of a 403 response with the asks that were granted and not enough: a tuple of capx.verify.Ask."""

NOTES_EXTENSION: Final = "capx_notes"
"""The extension of a 403 response with the sentences that `Denied.notes` has: a tuple of texts."""

MAX_ATTEMPTS: Final = 8
"""With how many capabilities a client presents one request, besides what is granted for it."""

_MAX_KINDS: Final = 256
"""For how many kinds of requests a client remembers which capability passed."""

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
        self.passed = _Passed()

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


class _Passed:
    """Remembers which capability passed for the last request of a kind, to try it first, after all newer ones.

    Requests are of one kind if they have the same audience and method, and the same path except segments with a digit.
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
        # Forgetting all is enough: the only cost is one more denied attempt for each kind.
        if len(self._ids) >= _MAX_KINDS:
            self._ids.clear()
        self._ids[kind] = newest, passed


class _Sending:
    """One request to one audience: the denials that it got, and what the actor asks for because of them."""

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
        self._asks = CallAsks(actor, audience)
        self._tried: list[Capability] = []
        self._grant: Capability | None = None
        self._newest = b""
        self._denials: list[Denied] | None = []
        self._told = 0
        self.refusal: httpx.Response | None = None
        """The most informative refusal of those that were read whole."""

    def attempts(self) -> Iterator[httpx.Request]:
        """Yield the request, presented with each capability in turn that may allow it; after a grant, with that one."""
        # After a grant, only a refusal that says more replaces the one before.
        self._denials, self._told = [], min(self._told, 1)
        newest_first = bundle_of(self._actor).candidates(self._audience, self._received)
        self._newest = newest_first[0].id
        if self._grant is not None:
            yield self._attempt(self._grant)
            return
        untried = self._passed.order(self._kind, newest_first)
        while untried and (left := MAX_ATTEMPTS - len(self._tried)) > 0:
            # Too many to try all: half of those tried are the newest, and half the oldest, which often allow most.
            yield self._attempt(untried.pop(-1 if len(untried) > left <= MAX_ATTEMPTS // 2 else 0))
            # The service has named the action now, and perhaps the arguments.
            untried = [one for one in untried if _may_allow(one, self._denials)]
        if untried:
            self._asks.note(f"{len(untried)} more capabilities for {self._audience} were not tried")

    def answered(self, response: httpx.Response) -> httpx.Response:
        """Note which capability the request passed with."""
        if response.is_success:
            self._passed.note(self._kind, self._newest, self._tried[-1].id)
            self._asks.passed(self._tried[-1])
        return response

    def refused(self, response: httpx.Response, problem: bytes | None) -> None:
        """Note what a denial says.

        A body that was not read whole is not kept, and the agent then asks for nothing.
        """
        if problem is None:
            self._denials = None
            return
        denied = from_denial(problem, self._audience)
        told = 0 if denied is None else 1 if DenialSummary.of(denied).of_action_only else 2
        if self.refusal is None or told > self._told:
            self.refusal, self._told = response, told
        if denied is not None and self._denials is not None:
            self._denials.append(denied)

    def next_asks(self, response: httpx.Response) -> NextAsks | None:
        """Return what to ask for after a response; None if there is nothing to ask for."""
        if not _refused(response) or not self._denials:
            return None
        return self._asks.next(self._denials)

    def gained(self, outcome: AskOutcome | None, response: httpx.Response) -> bool:
        """Return whether there is a new capability to present; if not, note the reason on the response.

        Raises Unavailable if the authority has not answered.
        """
        # Before the asks are counted: a call that has ended has not failed.
        self._demand_open_block()
        self._grant = self._asks.gained(outcome, self._tried)
        if outcome is not None and not isinstance(outcome.answer, Granted):
            response.extensions[ASK_EXTENSION] = outcome.answer
        return self._grant is not None

    def ended(self, response: httpx.Response) -> httpx.Response:
        """Return the response of the call; a denial gets the notes why the call stays denied."""
        if _refused(response):
            self._asks.failed()
            if self._asks.granted:
                response.extensions[GRANTED_EXTENSION] = self._asks.granted
            if self._asks.notes:
                response.extensions[NOTES_EXTENSION] = self._asks.notes
        return response

    def raise_denial(self, content: bytes | None) -> None:
        """Raise the error with which a denied call ends; return if this is no denial."""
        denied = None if content is None else from_denial(content, self._audience)
        if denied is not None:
            self._asks.raise_denied(denied)

    def _attempt(self, capability: Capability) -> httpx.Request:
        self._demand_open_block()
        self._tried.append(capability)
        return _presented(self._request, capability, self._received)

    def _demand_open_block(self) -> None:
        # The caller may have been cancelled while a person decided. At the authority it must still clean up: revoke its
        # sub-agents, and end its task.
        if self._audience != AUTHORITY:
            demand_open_block()


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
        sending = _Sending(request, audience, body.whole(), actor, self._presenter.passed)
        while True:
            response = self._presented(sending)
            wanted = sending.next_asks(response)
            if wanted is None or isinstance(actor, Bundle) or not sending.gained(actor.seek(wanted), response):
                break
        if self._presenter.raise_denied and _is_denial(response):
            sending.raise_denial(peeked(response))
        return sending.ended(response)

    def _presented(self, sending: _Sending) -> httpx.Response:
        unread: httpx.Response | None = None
        for attempt in sending.attempts():
            # A denial that was not read whole holds its connection. Free it before the next attempt.
            if unread is not None:
                unread.close()
            response = self._sent(attempt)
            if not _refused(response):
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
        sending = _Sending(request, audience, body.whole(), actor, self._presenter.passed)
        while True:
            response = await self._presented(sending)
            wanted = sending.next_asks(response)
            if wanted is None or isinstance(actor, Bundle):
                break
            if not sending.gained(await actor.seek_async(wanted), response):
                break
        if self._presenter.raise_denied and _is_denial(response):
            sending.raise_denial(await peeked_async(response))
        return sending.ended(response)

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


def _presented(request: httpx.Request, capability: Capability, received: HttpRequest) -> httpx.Request:
    headers = request.headers.copy()
    presentation = capability.present(received)
    # The service has its own use for Authorization: do not change it.
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
    """Whether capx denied the request. A 403 of the service itself may come after effects: never repeat that."""
    return response.status_code == 403 and response.headers.get("www-authenticate") == "Capx"


def _is_denial(response: httpx.Response) -> bool:
    """Whether the head of a response looks like a denial of capx; its body decides."""
    return response.status_code in (401, 403, 503) and response.headers.get("www-authenticate") == "Capx"


def _may_allow(capability: Capability, denials: Sequence[Denied] | None) -> bool:
    """Whether a capability may allow what the last denial names. A service that lies wastes only its own answer."""
    ask = denials[-1].ask if denials else None
    if ask is None:
        return True
    if ask.args is None:
        return permits(capability, ask.action)
    return not is_ruled_out(capability, Call(ask.action, ask.args))


def _redirected(request: httpx.Request, response: httpx.Response) -> Redirected:
    location = response.headers["location"]
    try:
        return Redirected(str(request.url.join(location)))
    except httpx.InvalidURL:
        return Redirected(repr(location))


def _is_fixed(segment: str) -> bool:
    """Whether a segment of a path may be the same for all requests of a kind: one with a digit names one row."""
    return not any(map(str.isdigit, segment))


def _demand_response(response: httpx.Response | None) -> httpx.Response:
    if response is None:
        raise AssertionError("a bundle always has a candidate")
    return response


def _single(request: httpx.Request, name: str) -> str | None:
    wanted = name.encode()
    values = [value for key, value in request.headers.raw if key.lower() == wanted]
    if len(values) > 1:
        raise InvalidRequest(f"cannot present a request with several {name} headers: send one")
    return values[0].decode("latin-1").strip(" \t") if values else None


def _target(url: httpx.URL) -> str:
    # A service sees no difference between an empty query and none, so the presentation must not have one either.
    path, _, query = url.raw_path.decode("ascii").partition("?")
    return f"{path}?{query}" if query else path


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
