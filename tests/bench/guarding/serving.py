"""The guarded route behind uvicorn: each contender is a process, and has its turn with one connection and with several.

The generator keeps to the last core, and the services to the others, if there are any. Each request to
capx has a presentation of its own, made before the turn. What cannot be measured is told, and the rest goes on.
"""

import statistics
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from capx import Capability
from capx.tokens.binding import HttpRequest
from tests.bench.asgi_requests import BARE, PATH, QUERY
from tests.bench.authority.child import Child
from tests.bench.authority.figures import FEED, P50, P99, REQUESTS, Figure, percentile
from tests.bench.authority.load import Load, drive
from tests.bench.authority.places import Places
from tests.bench.guarding.requests import CROWD, MEMORY, RECORDED, capability_of, store_of
from tests.bench.measuring import Unmeasurable, cores, on_cores, rounded
from tests.bench.peers.routes import BARE_THERE, PYJWT, TENUO

SERVED: Final = "served"
TIMES: Final = "times bare"
CONNECTIONS: Final = (1, CROWD)
_AT_MOST: Final = 8_000
"""Requests a second that are made ready: more than a service of one process answers."""
_TARGET: Final = f"{PATH}?{QUERY}"


class Service:
    """A process that serves the route, and the requests that wait for its turn."""

    def __init__(self, who: str, child: Child, more: "Callable[[int], Sequence[dict[str, str]]]") -> None:
        self.who = who
        self._more = more
        self._ready: deque[bytes] = deque()
        self._target = ("127.0.0.1", int(child.hear()))
        self.loads: dict[int, list[Load]] = {at: [] for at in CONNECTIONS}

    @property
    def bare(self) -> str:
        """The same route without a guard, in the same environment."""
        return BARE_THERE if self.who in {PYJWT, TENUO, BARE_THERE} else BARE

    def turn(self, connections: int, seconds: float) -> Load:
        """Ask for so long."""
        self._ready = deque(map(_request, self._more(int(_AT_MOST * seconds))))
        return drive(self._target, self._next, connections=connections, seconds=seconds)

    def _next(self) -> bytes:
        if not self._ready:
            raise Unmeasurable("more requests are answered than are ready")
        return self._ready.popleft()


def measure_served(
    folder: Path, peers: Path | None, rounds: int, seconds: float, told: Callable[[], None]
) -> tuple[list[Figure], dict[str, str]]:
    """Each contender with each number of connections, and what could not be measured; `told` after each round."""
    folder.mkdir(exist_ok=True)
    mine, missing = {max(cores())}, dict[str, str]()
    with ExitStack() as stack:
        with on_cores(cores() - mine or mine):
            services = _services(stack, folder, peers, missing)
        stack.enter_context(on_cores(mine))
        for connections in CONNECTIONS:
            # The first round warms up, and does not count.
            for counts in (False, *[True] * rounds):
                for one in [one for one in services if f"{one.who}: {SERVED}" not in missing]:
                    try:
                        load = one.turn(connections, seconds)
                    except Unmeasurable as reason:
                        missing[f"{one.who}: {SERVED}"] = str(reason)
                    else:
                        one.loads[connections] += [load] * counts
                told()
        measured = {one.who: one for one in services if f"{one.who}: {SERVED}" not in missing}
        return [_figure(one, measured.get(one.bare), at) for at in CONNECTIONS for one in measured.values()], missing


def _services(stack: ExitStack, folder: Path, peers: Path | None, missing: dict[str, str]) -> list[Service]:
    places = Places(folder, stack)
    made: list[Service] = []
    for who in (BARE, MEMORY, RECORDED, *places.stores, FEED):
        place = stack.enter_context(places.served() if who == FEED else places.authority(store_of(who)))
        settings = {"who": who, "keys": str(place.source.keys), "place": place.source.address}
        child = stack.enter_context(Child("tests.bench.guarding.service", **settings))
        made.append(Service(who, child, _plain if who == BARE else _presented(capability_of(place.authority))))
    for who in (BARE_THERE, PYJWT, TENUO) if peers is not None else ():
        child = stack.enter_context(Child("tests.bench.peers.service", peers or "", who=who))
        try:
            made.append(Service(who, child, _from(child)))
        except Unmeasurable as reason:
            missing[f"{who}: {SERVED}"] = str(reason)
    return made


def _plain(count: int) -> list[dict[str, str]]:
    return [{}] * count


def _presented(capability: Capability) -> "Callable[[int], Sequence[dict[str, str]]]":
    sent = HttpRequest(method="GET", target=_TARGET)
    return lambda count: [{"authorization": capability.present(sent).authorization} for _ in range(count)]


def _from(child: Child) -> "Callable[[int], Sequence[dict[str, str]]]":
    def more(count: int) -> list[dict[str, str]]:
        child.tell(count)
        return list(child.hear())

    return more


def _request(head: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"GET {_TARGET} HTTP/1.1\r\nHost: crm.example\r\nAccept: application/json\r\n{lines}\r\n".encode()


def _figure(one: Service, bare: Service | None, connections: int) -> Figure:
    mine = one.loads[connections]
    latencies = sorted(latency for load in mine for latency in load.latencies)
    found = {
        REQUESTS: statistics.median(map(_rate, mine)),
        P50: percentile(latencies, 50) * 1000,
        P99: percentile(latencies, 99) * 1000,
    }
    if bare is not None and one is not bare:
        # Within a round, so that a machine that gets slower does not count.
        pairs = zip(mine, bare.loads[connections], strict=True)
        found[TIMES] = statistics.median(_rate(theirs) / _rate(ours) for ours, theirs in pairs)
    return Figure(SERVED, one.who, connections, {name: rounded(value) for name, value in found.items()})


def _rate(load: Load) -> float:
    return len(load.latencies) / load.seconds
