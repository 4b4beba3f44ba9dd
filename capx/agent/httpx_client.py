"""HTTP clients for agents: they present each request to a configured origin, and send no token anywhere else.

Laws: the audience comes from the caller's own map of origins, never from a response or a redirect. A redirect raises an
error, because a server must not choose where authority goes next. When a request is denied, an agent asks for what it
lacks, only at that audience: at most twice for more, and once for each approval that its token demands. The client
presents the request again with each grant and each approval. So whatever a service answers, one call sends it at most
MAX_ATTEMPTS + 3 requests, and one for each of at most 8 approvals. A call that nobody can allow or deny now is
Unavailable.
"""

from collections.abc import Mapping
from typing import Any, Final

import httpx

from capx.agent import presenting_transport
from capx.agent.actor import Actor
from capx.agent.http_library import AsyncRest, HttpLibrary, Rest
from capx.agent.presented_call import MAX_ATTEMPTS
from capx.agent.presented_request import ASK_EXTENSION, GRANTED_EXTENSION, NOTES_EXTENSION
from capx.agent.presenting_transport import (
    MAX_BODY,
    AsyncPresentingTransport,
    Presenter,
    PresentingTransport,
    transport_settings,
)
from capx.agent.redirected import Redirected

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
    presenter = Presenter(LIBRARY, origins, actor, max_body, raise_denied=raise_denied)
    settings = transport_settings(client)
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
    presenter = Presenter(LIBRARY, origins, actor, max_body, raise_denied=raise_denied)
    settings = transport_settings(client)
    inner = client.pop("transport", None) or httpx.AsyncHTTPTransport(**settings)
    return httpx.AsyncClient(transport=_AsyncTransport(presenter, inner), **client)


def demand_origin(origin: str) -> None:
    """Raise InvalidRequest if this is not an origin, such as http://127.0.0.1:8001."""
    presenting_transport.demand_origin(origin, LIBRARY)


class _Transport(PresentingTransport, httpx.BaseTransport):
    """The transport as httpx wants it."""


class _AsyncTransport(AsyncPresentingTransport, httpx.AsyncBaseTransport):
    """The async transport as httpx wants it."""


class _Rest(Rest, httpx.SyncByteStream):
    """A stream as httpx wants it."""


class _AsyncRest(AsyncRest, httpx.AsyncByteStream):
    """An async stream as httpx wants it."""


LIBRARY: Final = HttpLibrary(httpx.Request, httpx.URL, httpx.InvalidURL, httpx.ByteStream, _Rest, _AsyncRest)
"""What presenting needs of httpx."""
