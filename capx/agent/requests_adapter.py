"""requests for agents: an adapter that presents each request to a configured origin, and sends no token anywhere else.

    import capx
    from capx.agent import requests_adapter

    agent = capx.Agent(capx.Authority.temporary().open(allow=["crm.read"]).bundle)
    session = requests_adapter.session({"https://crm.internal": "crm"}, agent)

Laws are those of `capx.agent.httpx_client`, and these:

- The origin of a request is the one that requests connects to, and not the prefix for which an adapter is mounted.
- The presentation is on a copy of the request. No response, no redirect and no error of requests holds it.
- What is digested is what is sent: the body is read into bytes, and the path is spelled as urllib3 sends it.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn, cast
from urllib.parse import urljoin, urlsplit

from capx.agent.actor import Actor
from capx.agent.library_version import demand_library
from capx.agent.presented_call import PassedCapabilities, PresentedCall
from capx.agent.presented_request import kind_of
from capx.agent.presenting_transport import MAX_BODY, Body, actor_at
from capx.agent.redirected import Redirected
from capx.agent.response_peek import MOST, unpacked
from capx.api.problems import from_denial
from capx.errors import InvalidRequest
from capx.tokens.binding import HttpRequest
from capx.tokens.capability import Presentation

demand_library("requests", at_least=(2, 32, 3), below=3, extra="requests")

import requests  # noqa: E402 # its version is checked first
import urllib3  # noqa: E402
from requests.adapters import HTTPAdapter  # noqa: E402
from urllib3.util import parse_url  # noqa: E402

__all__ = ["MAX_BODY", "CapxAdapter", "Redirected", "session"]

_Origin = tuple[str, str, int]
_PORTS: Final = {"http": 80, "https": 443}
_REFUSED: Final = frozenset({403})
_DENIED: Final = frozenset({401, 403, 503})
_CHUNK: Final = 1 << 14


def session(
    origins: Mapping[str, str],
    actor: Actor | None = None,
    *,
    max_body: int = MAX_BODY,
    raise_denied: bool = False,
) -> requests.Session:
    """Make a session that presents each request to an origin of the map, at the audience that the map names for it.

    It acts with this bundle, or as this agent; without one, with the actor of the `acting` block around each request.
    It reads no proxies and no passwords from the environment, unless you set `trust_env`. The rest is as in
    `CapxAdapter`.
    """
    made = requests.Session()
    # A proxy of the environment would get each presentation before the service does.
    made.trust_env = False
    adapter = CapxAdapter(origins, actor, max_body=max_body, raise_denied=raise_denied)
    for scheme in _PORTS:
        made.mount(f"{scheme}://", adapter)
    return made


class CapxAdapter(HTTPAdapter):
    """The adapter, for a session of your own: mount it at `http://` and at `https://`.

    If it is mounted for one origin only, other adapters of the session follow redirects, and one of these may choose
    what is presented. After a 403 of capx it tries the next capability, and an agent asks for more, as the httpx client
    does: see `capx.agent.httpx_client.client`. With `raise_denied` it raises what a guarded tool raises; without it,
    the response does not say what came of asking. The other keywords are those of HTTPAdapter. There are no
    `max_retries` (InvalidRequest): a presentation is good once, so a retry would be a replay.
    """

    def __init__(
        self,
        origins: Mapping[str, str],
        actor: Actor | None = None,
        *,
        max_body: int = MAX_BODY,
        raise_denied: bool = False,
        **settings: Any,
    ) -> None:
        if "max_retries" in settings:
            raise InvalidRequest("`max_retries` would send one presentation twice: call again instead")
        super().__init__(**settings)
        self._audiences = {_origin_of(origin): audience for origin, audience in origins.items()}
        self._actor = actor
        self._max_body = max_body
        self._raise_denied = raise_denied
        self._passed = PassedCapabilities()

    def send(  # noqa: PLR0917 # as in the base class
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # as in the base class
        timeout: Any = None,
        verify: Any = True,  # as in the base class
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send a request, presented if its origin is in the map."""

        def sent(one: requests.PreparedRequest) -> requests.Response:
            return self._sent(request, one, stream=stream, timeout=timeout, verify=verify, cert=cert, proxies=proxies)

        where, _ = self.build_connection_pool_key_attributes(request, verify, cert)
        audience = self._audiences.get(_origin(where["scheme"], where["host"], where["port"]))
        if audience is None:
            return sent(request)
        actor = actor_at(audience, self._actor)
        presentable = _presentable(request, self._max_body)
        received = _received(presentable, self.request_url(presentable, {}))
        kind = kind_of(received.method, received.target.partition("?")[0])
        call = PresentedCall(received, audience, actor, self._passed, kind)
        sending = _Sending(call, audience, lambda presentation: sent(_with(presentable, presentation)))
        return sending.answer(raise_denied=self._raise_denied)

    def _sent(
        self, original: requests.PreparedRequest, sent: requests.PreparedRequest, **settings: Any
    ) -> requests.Response:
        try:
            response = super().send(sent, **settings)
        except requests.RequestException as error:
            error.request = original
            raise
        response.request = original
        if response.is_redirect:
            response.close()
            raise Redirected(urljoin(response.url, response.headers["location"]))
        return response

    def __getstate__(self) -> NoReturn:
        raise InvalidRequest("a session of an agent cannot be pickled, because it holds a secret: make another one")


class _Sending:
    """One request that is sent until it passes, or nothing more can be asked for."""

    def __init__(self, call: PresentedCall, audience: str, send: Callable[[Presentation], requests.Response]) -> None:
        self._call = call
        self._audience = audience
        self._send = send
        self._refusal: requests.Response | None = None
        """The most informative refusal of those that were read whole."""

    def answer(self, *, raise_denied: bool) -> requests.Response:
        """Send it, and return the answer; with `raise_denied`, raise the error with which a denied call ends."""
        while True:
            response = self._tried()
            wanted = self._call.next_asks() if _says(response, _REFUSED) else None
            if wanted is None or not self._call.gained(self._call.asks.seek(wanted)):
                break
        if raise_denied and _says(response, _DENIED):
            problem = _peeked(response)
            denied = None if problem is None else from_denial(problem, self._audience)
            if denied is not None:
                self._call.asks.raise_denied(denied)
        if _says(response, _REFUSED):
            self._call.asks.failed()
        return response

    def _tried(self) -> requests.Response:
        unread: requests.Response | None = None
        for presentation in self._call.attempts():
            # A denial that was not read whole holds its connection. Free it before the next attempt.
            if unread is not None:
                unread.close()
            if presentation is None:
                raise AssertionError("an adapter demands a capability for its audience first")
            response = self._send(presentation)
            if not _says(response, _REFUSED):
                if response.ok:
                    self._call.succeeded()
                return response
            problem = _peeked(response)
            unread = response if problem is None else None
            if problem is None:
                self._call.unreadable()
            elif self._call.refused(from_denial(problem, self._audience)):
                self._refusal = response
        answer = self._refusal if unread is None else unread
        if answer is None:
            raise AssertionError("a bundle always has a candidate")
        return answer


def _says(response: requests.Response, statuses: frozenset[int]) -> bool:
    """Whether the head of a response looks like an answer of capx with one of these; its body decides."""
    return response.status_code in statuses and response.headers.get("www-authenticate") == "Capx"


def _presentable(request: requests.PreparedRequest, limit: int) -> requests.PreparedRequest:
    """Return a copy of a request as it will be sent: its body is bytes, its path is spelled as urllib3 sends it."""
    if request.body is not None:
        body = Body(limit)
        for chunk in _chunks(request.body):
            body.add(chunk)
        # Put it back: a stream can be read once, and somebody may send this request again.
        request.body = body.whole()
        request.headers.pop("Transfer-Encoding", None)
        request.headers["Content-Length"] = str(len(request.body))
    copy = request.copy()
    url = urlsplit(_url(request))
    # urllib3 spells each escape in upper case, and escapes what may not stand in a path.
    copy.url = f"{url.scheme}://{url.netloc}{parse_url(f'http://host{request.path_url}').request_uri}"
    return copy


def _chunks(body: Any) -> Iterator[bytes]:
    """Yield the bytes that requests would send of a body: a text, bytes, a file, or an iterable of these."""
    if isinstance(body, str | bytes | bytearray):
        chunks: Iterable[str | bytes | bytearray] = [body]
    elif hasattr(body, "read"):
        chunks = _read(body)
    else:
        chunks = body
    for chunk in chunks:
        yield chunk.encode() if isinstance(chunk, str) else bytes(chunk)


def _read(file: Any) -> Iterator[str | bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _received(request: requests.PreparedRequest, target: str) -> HttpRequest:
    """Return what the service will see of a request."""
    return HttpRequest(
        method=request.method or "GET",
        target=target,
        content_type=_header(request, "Content-Type"),
        content_encoding=_header(request, "Content-Encoding"),
        body=cast("bytes", request.body or b""),
    )


def _header(request: requests.PreparedRequest, name: str) -> str | None:
    # A caller may set bytes, although the types do not say so.
    value: Any = request.headers.get(name)
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return None if text is None else text.strip(" \t")


def _with(request: requests.PreparedRequest, presentation: Presentation) -> requests.PreparedRequest:
    copy = request.copy()
    # The service has its own use for Authorization: do not change it.
    if "Authorization" in copy.headers:
        copy.headers["Capx-Token"] = presentation.text
    else:
        copy.headers["Authorization"] = presentation.authorization
    return copy


def _url(request: requests.PreparedRequest) -> str:
    if request.url is None:
        raise InvalidRequest("this request has no URL")
    return request.url


def _origin(scheme: str, host: str | None, port: int | None) -> _Origin:
    return scheme, host or "", port or _PORTS.get(scheme, 0)


def _origin_of(origin: str) -> _Origin:
    """Return the scheme, host and port of an origin; InvalidRequest if it is not an origin."""
    try:
        # As requests will spell the URLs of this origin.
        url = urlsplit(_url(requests.Request("GET", origin).prepare()))
        found = _origin(url.scheme, url.hostname, url.port)
    except ValueError as error:
        raise InvalidRequest(f"{origin!r:.80} is not an origin: {error}") from None
    if url.scheme not in _PORTS or url.path not in ("", "/") or url.query or url.fragment or "@" in url.netloc:
        raise InvalidRequest(f"{origin!r:.80} is not an origin: write it like http://127.0.0.1:8001, without a path")
    return found


# What comes back.


def _peeked(response: requests.Response) -> bytes | None:
    """Return the body of a denial, unpacked, and put it back; None if it is larger than a denial can be."""
    raw: urllib3.HTTPResponse = response.raw
    chunks, rest = bytearray(), raw.stream(_CHUNK, decode_content=False)
    is_whole = True
    for chunk in rest:
        chunks += chunk
        if len(chunks) > MOST:
            is_whole = False
            break
    body = io.BytesIO(chunks) if is_whole else io.BufferedReader(_Rest(bytes(chunks), rest, raw))
    response.raw = urllib3.HTTPResponse(
        body,
        headers=raw.headers,
        status=raw.status,
        version=raw.version,
        reason=raw.reason,
        preload_content=False,
        decode_content=False,
        # In it, requests finds the cookies.
        original_response=getattr(raw, "_original_response", None),
        request_method=response.request.method,
    )
    return unpacked(bytes(chunks), response.headers.get("content-encoding", "identity")) if is_whole else None


class _Rest(io.RawIOBase):
    """A body whose beginning was read: what was read, then the rest."""

    def __init__(self, read: bytes, rest: Iterator[bytes], raw: urllib3.HTTPResponse) -> None:
        self._read = read
        self._rest = rest
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._read:
            self._read = next(self._rest, b"")
        size = min(len(buffer), len(self._read))
        buffer[:size], self._read = self._read[:size], self._read[size:]
        return size

    def close(self) -> None:
        super().close()
        self._raw.close()
