"""The guarded route behind uvicorn: each contender is a process, and has its turn with one connection and with several.

The generator keeps to the last core, and the services to the others, if there are any. Each request to
capx has a presentation of its own, made before the turn. What cannot be measured is told, and the rest goes on.
"""

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from tests.bench.asgi_requests import BARE, PATH, QUERY
from tests.bench.authority.child import Child
from tests.bench.authority.figures import FEED
from tests.bench.authority.load import Endpoint, measure_load
from tests.bench.authority.places import Places
from tests.bench.findings import Findings
from tests.bench.guarding.requests import MEMORY, RECORDED, capability_of, presenting, store_of
from tests.bench.measuring import Unmeasurable, cores, on_cores
from tests.bench.peers.routes import BARE_THERE, PYJWT, TENUO

SERVED: Final = "served"
TIMES: Final = "times bare"
_AT_MOST: Final = 8_000
"""Requests a second that are made ready: more than a service of one process answers."""

Heads = Callable[[int], Iterable[dict[str, str]]]
"""Makes the headers of so many requests."""


def measure_served(found: Findings, folder: Path, peers: Path | None) -> None:
    """Each contender with each number of connections."""
    folder.mkdir()
    mine = {max(cores())}
    with ExitStack() as stack:
        with on_cores(cores() - mine or mine):
            services = _ours(stack, Places(folder, stack))
            services += [] if peers is None else _theirs(found, stack, peers)
        stack.enter_context(on_cores(mine))
        found.figures += measure_load(found, SERVED, services, TIMES)


def _ours(stack: ExitStack, places: Places) -> list[Endpoint]:
    made: list[Endpoint] = []
    for who in (BARE, MEMORY, RECORDED, *places.stores, FEED):
        place = stack.enter_context(places.served() if who == FEED else places.authority(store_of(who)))
        settings = replace(place.source, who=who).settings()
        child = stack.enter_context(Child("tests.bench.guarding.service", **settings))
        head = dict if who == BARE else presenting(capability_of(place.authority))
        made.append(_service(who, child, partial(_heads, head), BARE))
    return made


def _heads(head: Callable[[], dict[str, str]], count: int) -> list[dict[str, str]]:
    return [head() for _ in range(count)]


def _theirs(found: Findings, stack: ExitStack, peers: Path) -> list[Endpoint]:
    made: list[Endpoint] = []
    for who in (BARE_THERE, PYJWT, TENUO):
        child = stack.enter_context(Child("tests.bench.peers.service", peers, who=who))
        try:
            made.append(_service(who, child, child.ask, BARE_THERE))
        except Unmeasurable as reason:
            found.missing[f"{who}: {SERVED}"] = str(reason)
    return made


def _service(who: str, child: Child, heads: Heads, bare: str) -> Endpoint:
    """A process that serves the route, with requests that wait for its turn."""
    waiting: deque[bytes] = deque()

    def ready(seconds: float) -> None:
        waiting.clear()
        waiting.extend(map(_request, heads(int(_AT_MOST * seconds))))

    def following() -> bytes:
        if not waiting:
            raise Unmeasurable("more requests are answered than are ready")
        return waiting.popleft()

    return Endpoint(who, ("127.0.0.1", int(child.hear())), following, None if who == bare else bare, ready)


def _request(head: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"GET {PATH}?{QUERY} HTTP/1.1\r\nHost: crm.example\r\nAccept: application/json\r\n{lines}\r\n".encode()
