"""`capx.agent.httpx_client` for httpx2: the same clients, made of the classes of that library.

The laws are those of `httpx_client`, and the code is the same: `capx.agent.presenting_transport`.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

from capx.agent.actor import Actor
from capx.agent.http_library import AsyncRest, HttpLibrary, Rest
from capx.agent.library_version import demand_library
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

demand_library("httpx2", at_least=(2, 16), below=3, extra="httpx2")

import httpx2  # noqa: E402 # its version is checked first

__all__ = [
    "ASK_EXTENSION",
    "GRANTED_EXTENSION",
    "MAX_ATTEMPTS",
    "MAX_BODY",
    "NOTES_EXTENSION",
    "Redirected",
    "async_client",
    "client",
]


def client(
    origins: Mapping[str, str],
    actor: Actor | None = None,
    *,
    max_body: int = MAX_BODY,
    raise_denied: bool = False,
    **client: Any,
) -> httpx2.Client:
    """Make a client that presents each request to an origin of the map, as `capx.agent.httpx_client.client` does.

    The other keywords are those of httpx2.
    """
    presenter = Presenter(LIBRARY, origins, actor, max_body, raise_denied=raise_denied)
    settings = transport_settings(client)
    inner = client.pop("transport", None) or httpx2.HTTPTransport(**settings)
    return httpx2.Client(transport=_Transport(PresentingTransport(presenter, cast("Any", inner))), **client)


def async_client(
    origins: Mapping[str, str],
    actor: Actor | None = None,
    *,
    max_body: int = MAX_BODY,
    raise_denied: bool = False,
    **client: Any,
) -> httpx2.AsyncClient:
    """`client` for async code."""
    presenter = Presenter(LIBRARY, origins, actor, max_body, raise_denied=raise_denied)
    settings = transport_settings(client)
    inner = client.pop("transport", None) or httpx2.AsyncHTTPTransport(**settings)
    presenting = AsyncPresentingTransport(presenter, cast("Any", inner))
    return httpx2.AsyncClient(transport=_AsyncTransport(presenting), **client)


# The types of the shared code say httpx. The classes of httpx2 have the same names and methods: tests run both. So the
# casts in this module change the name of a type, and nothing else.


class _Transport(httpx2.BaseTransport):
    def __init__(self, presenting: PresentingTransport) -> None:
        self._presenting = presenting

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return cast("httpx2.Response", self._presenting.handle_request(cast("Any", request)))

    def close(self) -> None:
        self._presenting.close()


class _AsyncTransport(httpx2.AsyncBaseTransport):
    def __init__(self, presenting: AsyncPresentingTransport) -> None:
        self._presenting = presenting

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return cast("httpx2.Response", await self._presenting.handle_async_request(cast("Any", request)))

    async def aclose(self) -> None:
        await self._presenting.aclose()


class _Rest(Rest, httpx2.SyncByteStream):
    """A stream as httpx2 wants it."""


class _AsyncRest(AsyncRest, httpx2.AsyncByteStream):
    """An async stream as httpx2 wants it."""


_library: Any = httpx2
LIBRARY: Final = HttpLibrary(
    _library.Request,
    _library.URL,
    _library.InvalidURL,
    _library.ByteStream,
    cast("Any", _Rest),
    cast("Any", _AsyncRest),
)
"""What presenting needs of httpx2."""
