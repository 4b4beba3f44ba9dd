"""A load generator: connections that each ask again once they are answered (a closed loop), over TCP or a Unix socket.

It is the tests' own, since each request to the authority must be presented anew, and since some go over a Unix socket.
Bytes go out as they are; of an answer its status and length are read, and nothing else.
"""

import asyncio
import re
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final, Self

from msgspec import Struct

from tests.bench.authority.figures import GENERATOR, P50, P99, REQUESTS, SERVE, Figure, figure, latencies
from tests.bench.findings import Findings
from tests.bench.measuring import Unmeasurable

CONNECTIONS: Final = (1, 16)
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

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds


class Endpoint(Struct, frozen=True):
    """What is asked, where, and what it is compared with; `ready` is done before a turn of so many seconds."""

    who: str
    target: Target
    request: Callable[[], bytes]
    to: str | None = None
    ready: Callable[[float], None] = lambda seconds: None


def measure_load(found: Findings, of: str, endpoints: Sequence[Endpoint], times: str) -> list[Figure]:
    """Each endpoint in turn with each number of connections; `times` names the ratio to what it is compared with."""
    rounds, seconds = (2, 0.1) if found.options.quick else (8, 0.5)
    told = found.told(of, len(CONNECTIONS) * (1 + rounds))
    loads: dict[tuple[str, int], list[Load]] = {}
    able = list(endpoints)
    for connections in CONNECTIONS:
        # The first round warms up, and does not count.
        for counts in (False, *[True] * rounds):
            for one in list(able):
                try:
                    one.ready(seconds)
                    load = drive(one.target, one.request, connections=connections, seconds=seconds)
                except Unmeasurable as reason:
                    found.missing[f"{one.who}: {of}"] = str(reason)
                    able.remove(one)
                else:
                    loads.setdefault((one.who, connections), []).extend([load] * counts)
            told()
    names = {one.who for one in able}
    figures: list[Figure] = []
    for at in CONNECTIONS:
        for one in able:
            values = _values(loads[one.who, at])
            if of == SERVE:
                values[GENERATOR] = 100 * statistics.median(load.computed / load.seconds for load in loads[one.who, at])
            if one.to in names:
                # Within a round, so that a machine that gets slower does not count.
                pairs = zip(loads[one.who, at], loads[one.to, at], strict=True)
                values[times] = statistics.median(bare.rate / mine.rate for mine, bare in pairs)
            figures.append(figure(of, one.who, at, values))
    return figures


def _values(loads: list[Load]) -> dict[str, float]:
    of_all = latencies(latency for load in loads for latency in load.latencies)
    return {REQUESTS: statistics.median(load.rate for load in loads), P50: of_all[P50], P99: of_all[P99]}


def drive(target: Target, request: Callable[[], bytes], *, connections: int, seconds: float) -> Load:
    """Ask for so long over so many connections; Unmeasurable for an answer that is none of success."""
    return asyncio.run(_drive(target, request, connections, seconds))


async def _drive(target: Target, request: Callable[[], bytes], connections: int, seconds: float) -> Load:
    loop = asyncio.get_running_loop()
    made = [_Connection(request, loop.create_future()) for _ in range(connections)]
    async with asyncio.timeout(_TO_CONNECT):
        for one in made:
            if isinstance(target, str):
                await loop.create_unix_connection(one.itself, target)
            else:
                await loop.create_connection(one.itself, *target)
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

    def itself(self) -> Self:
        """What asyncio asks for: the protocol of a connection."""
        return self

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
