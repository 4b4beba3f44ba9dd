"""A load generator: connections that each ask again once they are answered (a closed loop), over TCP or a Unix socket.

It is the tests' own, since each request to the authority must be presented anew, and since some go over a Unix socket.
Bytes go out as they are; of an answer its status and length are read, and nothing else.
"""

import asyncio
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from msgspec import Struct

from tests.bench.measuring import Unmeasurable

Target = tuple[str, int] | str
"""Host and port, or the path of a socket."""
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_STATUS: Final = slice(9, 12)
_TO_CONNECT: Final = 10.0


class Load(Struct, frozen=True):
    """The seconds until each answer, how long it all took, and how long this process computed meanwhile."""

    latencies: list[float]
    seconds: float
    computed: float


def drive(target: Target, request: Callable[[], bytes], *, connections: int, seconds: float) -> Load:
    """Ask for so long over so many connections; Unmeasurable for an answer that is none of success."""
    return asyncio.run(_drive(target, request, connections, seconds))


async def _drive(target: Target, request: Callable[[], bytes], connections: int, seconds: float) -> Load:
    loop = asyncio.get_running_loop()
    made = [_Connection(request, loop.create_future()) for _ in range(connections)]
    async with asyncio.timeout(_TO_CONNECT):
        for one in made:
            if isinstance(target, str):
                await loop.create_unix_connection(partial(_itself, one), target)
            else:
                await loop.create_connection(partial(_itself, one), *target)
    try:
        began, computed = time.perf_counter(), time.process_time()
        for one in made:
            one.begin(began + seconds)
        async with asyncio.timeout(seconds + _TO_CONNECT):
            await asyncio.gather(*(one.done for one in made))
        took, computed = time.perf_counter() - began, time.process_time() - computed
    finally:
        for one in made:
            one.close()
        # Transports are closed in the next turn of the loop.
        await asyncio.sleep(0)
    return Load([latency for one in made for latency in one.latencies], took, computed)


def _itself(one: "_Connection") -> "_Connection":
    return one


class _Connection(asyncio.Protocol):
    """One connection: asks, reads the answer, asks again."""

    def __init__(self, request: Callable[[], bytes], done: "asyncio.Future[None]") -> None:
        self.latencies: list[float] = []
        self.done = done
        self._request = request
        self._until = 0.0
        self._asked = 0.0
        self._read = bytearray()
        self._whole = 0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def begin(self, until: float) -> None:
        """Ask until then."""
        self._until = until
        self._ask()

    def close(self) -> None:
        """Leave, whatever came of it."""
        if not self.done.cancel() and not self.done.cancelled():
            # Of several that failed, one is told of.
            self.done.exception()
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.done.done():
            return
        self._read += data
        if not self._whole and (head := self._read.find(b"\r\n\r\n")) >= 0:
            status, length = bytes(self._read[_STATUS]), _LENGTH.search(self._read, 0, head + 2)
            if not status.startswith(b"2") or length is None:
                self._fail(f"answered {bytes(self._read[:200])!r}")
                return
            self._whole = head + 4 + int(length[1])
        if self._whole and len(self._read) >= self._whole:
            now = time.perf_counter()
            self.latencies.append(now - self._asked)
            self._read.clear()
            self._whole = 0
            if now < self._until:
                self._ask()
            else:
                self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and not isinstance(exc, OSError) and not self.done.done():
            self.done.set_exception(exc)
        self._fail(f"the connection was lost: {exc}")

    def _ask(self) -> None:
        assert self._transport is not None
        asked = self._request()
        self._asked = time.perf_counter()
        self._transport.write(asked)

    def _fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(Unmeasurable(why))
