"""Gets a whole answer over HTTP within a time limit, whatever its sender does.

Laws: the limit is for the whole answer, head and body, and not for each piece. A watchdog enforces it. An answer that
is too long is not read to its end. The client asks for nothing compressed, and unpacks nothing. Each request has its
own connection, so the watchdog never shuts down one that another request uses.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
from msgspec import Struct

from capx.api.watchdog import Watchdog
from capx.errors import StoreProblem

SINGLE: Final = httpx.Limits(max_keepalive_connections=0)
"""The limits of a client that makes a new connection for each request."""

_PLAIN: Final = {"Accept-Encoding": "identity"}


class WholeResponse(Struct, frozen=True):
    """A whole answer."""

    status: int
    content: bytes


def whole_response(
    client: httpx.Client,
    method: str,
    path: str,
    *,
    seconds: float | None,
    most: int,
    watching: Callable[[str, Mapping[str, Any]], None] | None = None,
    **asked: Any,
) -> WholeResponse:
    """Return the answer, if it comes within `seconds` (None: no limit) and has at most `most` bytes.

    `watching` gets the events of httpx about its connections (its extension `trace`). Raises the errors of httpx,
    httpx.ReadTimeout when the time is over, and StoreProblem for an answer that is too long.
    """
    headers = {**_PLAIN, **asked.pop("headers", {})}
    limit = math.inf if seconds is None else seconds
    with Watchdog(limit, f"no whole answer came within {limit:g} s") as watchdog:

        def note(name: str, info: Mapping[str, Any]) -> None:
            if watching is not None:
                watching(name, info)
            watchdog.note(name, info)

        try:
            with client.stream(method, path, headers=headers, extensions={"trace": note}, **asked) as response:
                content = bytearray()
                for piece in response.iter_raw():
                    content += piece
                    if len(content) > most:
                        raise StoreProblem(f"{client.base_url} sends more than {most} bytes: it is not an authority")
                    _demand_in_time(watchdog)
        except (httpx.HTTPError, httpx.StreamError, OSError):
            # If the watchdog has caused this error, report that the time is over.
            _demand_in_time(watchdog)
            raise
        # A connection that the watchdog shut down can look like an answer that has ended.
        _demand_in_time(watchdog)
    return WholeResponse(response.status_code, bytes(content))


def seconds_of(timeout: Any) -> float | None:
    """Return the seconds for a whole answer: those that a timeout of httpx allows for one piece."""
    return httpx.Timeout(timeout).read


def _demand_in_time(watchdog: Watchdog) -> None:
    if watchdog.why is not None:
        raise httpx.ReadTimeout(watchdog.why)
