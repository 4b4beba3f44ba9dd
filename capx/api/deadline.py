"""An answer over HTTP that has to be there, whole, by a certain time, whatever its sender does.

Laws: the time is for the whole, head and body, and not for each piece: a watchdog keeps it. What is longer than was
agreed is not read to its end. Nothing compressed is asked for, nor unpacked. Each question has a connection of its own,
so that none is shut down that another one uses.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
from msgspec import Struct

from capx.api.watchdog import Watchdog
from capx.errors import StoreProblem

SINGLE: Final = httpx.Limits(max_keepalive_connections=0)
"""For a client whose every question is to have a connection of its own."""

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
    """What is answered within so many seconds (None: whenever) in at most so many bytes.

    `watching` is called with what httpx tells of its connections (its extension `trace`). Raises what httpx raises,
    httpx.ReadTimeout when the time is over, and StoreProblem for what is too long.
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
                        raise StoreProblem(f"{client.base_url} answers with more than {most} bytes: it is no authority")
                    _demand_in_time(watchdog)
        except (httpx.HTTPError, httpx.StreamError, OSError):
            _demand_in_time(watchdog)
            raise
        # What was cut may look like what has ended.
        _demand_in_time(watchdog)
    return WholeResponse(response.status_code, bytes(content))


def seconds_of(timeout: Any) -> float | None:
    """The seconds for a whole answer that a timeout of httpx means: those for which it would wait for a piece."""
    return httpx.Timeout(timeout).read


def _demand_in_time(watchdog: Watchdog) -> None:
    if watchdog.why is not None:
        raise httpx.ReadTimeout(watchdog.why)
