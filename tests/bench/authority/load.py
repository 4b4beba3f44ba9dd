"""A load generator: connections that each ask again once they are answered (a closed loop), over TCP or a Unix socket.

Law: each connection has a thread; requests are made by one thread at a time.

It is the tests' own, since each request to the authority must be presented anew, and since some go over a Unix socket.
Bytes go out as they are; of an answer its status and length are read, and nothing else.
"""

import re
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain
from threading import Lock
from typing import Final

from msgspec import Struct

from tests.bench.authority.figures import GENERATOR, P50, P99, REQUESTS, SERVE, Figure, figure, latencies
from tests.bench.findings import Findings
from tests.bench.measuring import Unmeasurable

CONNECTIONS: Final = (1, 16)
Target = tuple[str, int] | str
"""Host and port, or the path of a socket."""
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_STATUS: Final = len("HTTP/1.1 ")
_PATIENCE: Final = 10.0
"""Seconds for an answer."""
_PIECE: Final = 65_536


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
    with ExitStack() as stack:
        opened = [stack.enter_context(_connected(target)) for _ in range(connections)]
        threads = stack.enter_context(ThreadPoolExecutor(connections))
        making = Lock()

        def made() -> bytes:
            with making:
                return request()

        began, computed = time.perf_counter(), time.process_time()
        asking = [threads.submit(_ask, one, made, began + seconds) for one in opened]
        try:
            taken = [one.result() for one in asking]
        except OSError as error:
            raise Unmeasurable(f"the connection was lost: {error}") from None
        return Load(list(chain(*taken)), time.perf_counter() - began, time.process_time() - computed)


def _connected(target: Target) -> socket.socket:
    made = socket.socket(socket.AF_UNIX if isinstance(target, str) else socket.AF_INET)
    made.settimeout(_PATIENCE)
    made.connect(target)
    return made


def _ask(connection: socket.socket, request: Callable[[], bytes], until: float) -> list[float]:
    """Ask over one connection until then; gives the seconds until each answer."""
    latencies: list[float] = []
    now = 0.0
    while now < until:
        asks = request()
        asked = time.perf_counter()
        connection.sendall(asks)
        _read(connection)
        now = time.perf_counter()
        latencies.append(now - asked)
    return latencies


def _read(connection: socket.socket) -> None:
    """Read one answer; Unmeasurable if it is none of success."""
    said = bytearray()
    while (head := said.find(b"\r\n\r\n")) < 0:
        said += _piece(connection)
    length = _LENGTH.search(said, 0, head + 2)
    if not said.startswith(b"2", _STATUS) or length is None:
        raise Unmeasurable(f"answered {bytes(said[:200])!r}")
    while len(said) < head + 4 + int(length[1]):
        said += _piece(connection)


def _piece(connection: socket.socket) -> bytes:
    if not (piece := connection.recv(_PIECE)):
        raise ConnectionError("the server closed it")
    return piece
