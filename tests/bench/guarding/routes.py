"""A FastAPI route behind a guard, beside the same route without one.

Two things are measured. How long one request can hold an event loop, if the caveats of its token use all of the work
that a call may cost: the processor time of all threads, because each holds the interpreter lock. And how long a client
waits for an answer to a large body: by the clock on the wall, over HTTP.
"""

import http.client
import json
import random
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any, Final

from fastapi import Body, FastAPI
from pydantic import BaseModel, ConfigDict

from capx import AudienceKeys, RootKey, Verifier
from capx.guard.fastapi import FastAPIGuard
from capx.resource.recorder import StoreRecorder
from capx.store.protocols import Store
from capx.tokens.binding import HttpRequest
from capx.tokens.capability import Capability
from capx.verify.protocols import Liveness
from capx_caveats import JSON
from tests.bench.asgi_requests import BARE, App, answered
from tests.bench.authority.source import remembering
from tests.bench.guarding.worst import ACTION, AUDIENCE, FREE, HOPS, WORST, Worst
from tests.bench.measuring import Contender, Run
from tests.labs.serving import served

HOLD: Final = "hold"
LARGE: Final = "large body"
MOST_MS: Final = 50.0
"""The most milliseconds for which one request may hold the event loop."""
MOST_TIMES: Final = 3.0
"""The most times as long as without a guard that the answer to a large body may take."""
_PATH: Final = "/x"
_JSON: Final = "application/json"


class Item(BaseModel):
    """One of many models in a body, which callers may leave empty."""

    name: str = ""
    amount: float = 0.5
    urgent: bool = False
    note: str | None = None
    tags: list[str] = []
    count: int = 1
    size: int = 2
    place: str = "x"


class Members(BaseModel):
    """A body whose members nobody names."""

    model_config = ConfigDict(extra="allow")


class Routes:
    """Guarded and bare applications of one authority key."""

    def __init__(self, store: Store, liveness: Liveness) -> None:
        self._root = RootKey.generate()
        self._guard = FastAPIGuard(
            Verifier(
                AUDIENCE,
                AudienceKeys(AUDIENCE, [self._root.audience_key(AUDIENCE)]),
                liveness=liveness,
                replay=remembering(),
                recorder=StoreRecorder(store, 100_000),
                cache_size=0,
            )
        )

    def both(self, kind: Any, capability: Capability) -> list[tuple[App, Capability | None]]:
        """The guarded application, with what is presented to it, and the bare one."""
        return [(self._app(kind, guarded=True), capability), (self._app(kind, guarded=False), None)]

    def _app(self, kind: Any, *, guarded: bool) -> App:
        """Return an application with one route, whose body is an object: `data` of this kind, or any members."""
        app = FastAPI(openapi_url=None)
        if guarded:
            self._guard.protect(app)

        async def members(body: Members) -> int:
            return 1

        async def data(data: Annotated[Any, Body(embed=True)]) -> int:
            return 1

        endpoint: Callable[..., Any] = members
        if kind is not Members:
            data.__annotations__["data"] = Annotated[kind, Body(embed=True)]
            endpoint = data
        app.post(_PATH)(self._guard.action(ACTION)(endpoint) if guarded else endpoint)
        return app

    def capability(self, worst: Worst, hops: int = HOPS) -> Capability:
        """Return a capability that its holders spoiled in this way."""
        return worst.capability(self._root, hops)


def holding(routes: Routes) -> Generator[list[Contender]]:
    """Yield what holds an event loop, one list for each way to use the budget: the guarded route, and the bare one."""
    for worst in WORST:
        capability = routes.capability(worst)
        args = worst.largest(capability)
        body = json.dumps(args, separators=(",", ":")).encode()
        kind = Members if "data" not in args else Any
        yield [
            _beside_bare(HOLD, len(capability.hops), worst.name, _held(app, body, held), held)
            for app, held in routes.both(kind, capability)
        ]


def _beside_bare(op: str, at: int, name: str, run: Run, capability: Capability | None) -> Contender:
    bare = f"{name}, {BARE}"
    return Contender(op, at, bare if capability is None else name, run, {BARE: (op, at, bare)})


def _held(app: App, body: bytes, capability: Capability | None) -> Run:
    """Serve requests on an event loop of this thread, each with a fresh presentation."""
    sent = {"content-type": _JSON, "content-length": str(len(body))}

    def run(count: int) -> float:
        heads = [{**sent, **_presented(body, capability)} for _ in range(count)]
        return answered(app, heads, 1, target=("POST", _PATH, ""), body=body, statuses=(200, 403))

    return run


def _presented(body: bytes, capability: Capability | None) -> dict[str, str]:
    if capability is None:
        return {}
    sent = HttpRequest(method="POST", target=_PATH, content_type=_JSON, body=body)
    return {"Authorization": capability.present(sent).authorization}


def _bodies() -> Mapping[str, tuple[Any, JSON]]:
    """Bodies of a MiB or nearly, with the type of `data`."""
    some = random.Random(0)
    empty: list[JSON] = [{}] * 30_000
    return {
        "one text": (str, {"data": "a" * 1_048_000}),
        "350 000 numbers": (list[int], {"data": [some.randrange(100) for _ in range(350_000)]}),
        "120 000 objects": (list[dict[str, int]], {"data": [{"a": some.randrange(10)} for _ in range(120_000)]}),
        "120 000 objects of any type": (Any, {"data": [{"a": some.randrange(10)} for _ in range(120_000)]}),
        "30 000 empty models": (list[Item], {"data": empty}),
        "50 000 members": (Members, {f"member{at}": some.randrange(10) for at in range(50_000)}),
    }


@contextmanager
def large_bodies(routes: Routes) -> Generator[list[Contender]]:
    """Yield what answers large bodies over HTTP, while its servers run."""
    capability = routes.capability(FREE, 1)
    contenders: list[Contender] = []
    with ExitStack() as stack:
        for name, (kind, value) in _bodies().items():
            body = json.dumps(value, separators=(",", ":")).encode()
            for app, held in routes.both(kind, capability):
                run = _answered(stack.enter_context(served(app)), body, held)
                contenders.append(_beside_bare(LARGE, len(body), name, run, held))
        yield contenders


def _answered(origin: str, body: bytes, capability: Capability | None) -> Run:
    address = origin.partition("//")[2]

    def run(count: int) -> float:
        taken = 0.0
        for _ in range(count):
            head = {"Content-Type": _JSON, **_presented(body, capability)}
            connection = http.client.HTTPConnection(address)
            connection.connect()
            began = time.perf_counter()
            connection.request("POST", _PATH, body, head)
            answer = connection.getresponse()
            answer.read()
            taken += time.perf_counter() - began
            connection.close()
            if answer.status != 200:
                raise AssertionError(f"answered {answer.status}")
        return taken

    return run
