"""`capx serve` under load, beside the bare framework: each thing in turn, over one connection and over several.

The generator keeps to the last core, and both servers to the others, if there are any.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final

import httpx

from capx import Bundle
from capx.authority.remote.client import RemoteAuthority
from capx.tokens.binding import HttpRequest, Received, ToolCall
from capx.tokens.grants import ASK
from capx.tokens.lineage import AUTHORITY
from tests.bench.authority.asking import POLICY, Asking, new_asks
from tests.bench.authority.child import Child
from tests.bench.authority.figures import SERVE, TIMES_FRAMEWORK, Figure
from tests.bench.authority.keeping import GRANTED
from tests.bench.authority.load import Endpoint, measure_load
from tests.bench.authority.places import AUDIENCE, Places, bury
from tests.bench.findings import Findings
from tests.bench.measuring import Unmeasurable, cores, on_cores
from tests.bench.table import spaced

PAGE: Final = 10_000
"""Deaths in the page that is full."""
_ASK: Final = "/agent/ask"
_JSON: Final = "application/json"
BARE_GET: Final = "bare framework, GET"
BARE_POST: Final = "bare framework, POST over a Unix socket"
BARE_ASK: Final = "bare framework, POST of the size of an ask"
_PLENTY: Final = 3_000
"""Asks that are made ready for a turn."""


def measure_serve(found: Findings, places: Places) -> list[Figure]:
    """Each endpoint with each number of connections."""
    mine = {max(cores())}
    dead = min(found.options.dead, PAGE)
    with on_cores(cores() - mine or mine), _endpoints(places, dead) as endpoints, on_cores(mine):
        return measure_load(found, SERVE, endpoints, TIMES_FRAMEWORK)


@contextmanager
def _endpoints(places: Places, dead: int) -> Generator[Sequence[Endpoint]]:
    own = places.folder / "bare.sock"
    with (
        places.served(lambda store: bury(store, dead, int(time.time())), POLICY) as place,
        Child("tests.bench.authority.framework", socket=str(own)) as framework,
    ):
        assert isinstance(place.authority, RemoteAuthority)
        url, bare = httpx.URL(place.source.address), ("127.0.0.1", int(framework.hear()))
        network, socket = (url.host, url.port or 80), place.authority.place.removeprefix("unix:")
        bundle = place.authority.open(allow=GRANTED, expires="1h").bundle
        stands = httpx.get(f"{place.source.address}/readyz", trust_env=False).json()
        last = f"/feed?since={stands['deaths']}&position={stands['position']}&epoch={stands['epoch']}"
        task = json.dumps({"allow": list(GRANTED), "tenant": "Acme", "purpose": "qbr"}).encode()

        asks = _NewAsks(place.authority)
        again = next(new_asks(place.authority))
        size = _size_of_an_answer(place.source.address, again)

        def status() -> bytes:
            received = HttpRequest(method="GET", target="/agent/status")
            return _get("/agent/status", _presented(bundle, received))

        yield (
            Endpoint(BARE_GET, bare, _always(_get("/"))),
            Endpoint(BARE_POST, str(own), _always(_post("/", task))),
            Endpoint("GET /healthz", network, _always(_get("/healthz")), BARE_GET),
            Endpoint("GET /feed, nobody new", network, _always(_get(last)), BARE_GET),
            Endpoint(f"GET /feed, {spaced(dead)} dead", network, _always(_get("/feed")), BARE_GET),
            Endpoint("GET /agent/status, presented", network, status, BARE_GET),
            Endpoint("POST /tasks over its Unix socket", socket, _always(_post("/tasks", task)), BARE_POST),
            Endpoint(BARE_ASK, bare, _always(_asked(again, f"/{size}"))),
            Endpoint("POST /agent/ask, something new", network, asks.next, BARE_ASK, asks.ready),
            Endpoint("POST /agent/ask, the same again", network, lambda: _asked(again), BARE_ASK),
        )


class _NewAsks:
    """Asks for something new each time, by tasks that are opened before they are needed."""

    def __init__(self, authority: RemoteAuthority) -> None:
        self._coming = new_asks(authority)
        self._ready: deque[Asking] = deque()

    def ready(self, _: float) -> None:
        self._ready.extend(islice(self._coming, _PLENTY - len(self._ready)))

    def next(self) -> bytes:
        return _asked(self._ready.popleft() if self._ready else next(self._coming))


def _ask(asking: Asking) -> tuple[Bundle, ToolCall, bytes]:
    bundle, action = asking
    args = {"audience": AUDIENCE, "action": action}
    return bundle, ToolCall(ASK, args), json.dumps(args).encode()


def _asked(asking: Asking, target: str = _ASK) -> bytes:
    bundle, call, body = _ask(asking)
    return _post(target, body, _presented(bundle, call))


def _size_of_an_answer(url: str, asking: Asking) -> int:
    bundle, call, body = _ask(asking)
    headers = {"authorization": bundle.present(AUTHORITY, call).authorization, "content-type": _JSON}
    answer = httpx.post(f"{url}{_ASK}", content=body, headers=headers, trust_env=False)
    if answer.json().get("answer") != "granted":
        raise Unmeasurable(f"an ask was answered {answer.text:.200}")
    return len(answer.content)


def _presented(bundle: Bundle, received: Received) -> str:
    return f"Authorization: {bundle.present(AUTHORITY, received).authorization}\r\n"


def _always(request: bytes) -> Callable[[], bytes]:
    return lambda: request


def _get(target: str, more: str = "") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: authority\r\nAccept: application/json\r\n{more}\r\n".encode()


def _post(target: str, body: bytes, more: str = "") -> bytes:
    head = f"POST {target} HTTP/1.1\r\nHost: authority\r\nContent-Type: {_JSON}\r\n{more}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
