"""A FastAPI route behind a guard, beside the same route without one.

Two things are measured. How long one request can hold an event loop, if the caveats of its token use all of the work
that a call may cost: the processor time of all threads, because each holds the interpreter lock. And how long a client
waits for an answer to a large body: by the clock on the wall, over HTTP.
"""

import asyncio
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
from capx.guard.asgi.messages import App, Message
from capx.guard.fastapi import FastAPIGuard
from capx.resource.recorder import StoreRecorder
from capx.resource.replay import Replay
from capx.store.protocols import Store
from capx.tokens.binding import HttpRequest
from capx.tokens.capability import Capability
from capx.verify.protocols import Liveness
from capx_caveats import JSON
from tests.bench.guarding.worst import ACTION, AUDIENCE, FREE, HOPS, WORST, Worst
from tests.bench.measuring import Contender, Run
from tests.labs.serving import served

HOLD: Final = "hold"
LARGE: Final = "large body"
BARE: Final = "the same route without a guard"
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
        an_hour_ago = time.time() - 3600
        self._guard = FastAPIGuard(
            Verifier(
                AUDIENCE,
                AudienceKeys(AUDIENCE, [self._root.audience_key(AUDIENCE)]),
                liveness=liveness,
                replay=Replay.process(10_000_000, clock=lambda: an_hour_ago),
                recorder=StoreRecorder(store, 100_000),
                cache_size=0,
            )
        )

    def app(self, kind: Any, *, guarded: bool) -> App:
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
        hops = len(capability.hops)
        yield [
            Contender(HOLD, hops, worst.name, _held(routes.app(kind, guarded=True), body, capability)),
            Contender(HOLD, hops, f"{worst.name}, {BARE}", _held(routes.app(kind, guarded=False), body, None)),
        ]


def _held(app: App, body: bytes, capability: Capability | None) -> Run:
    """Serve requests on an event loop of this thread, each with a fresh presentation."""

    def run(count: int) -> float:
        scopes = [_scope(body, capability) for _ in range(count)]
        return asyncio.run(_serve(app, scopes, body))

    return run


async def _serve(app: App, scopes: list[dict[str, Any]], body: bytes) -> float:
    taken = 0.0
    for scope in scopes:
        answers: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body}

        async def send(message: Message, answers: list[Message] = answers) -> None:
            answers.append(message)

        began = time.process_time()
        await app(scope, receive, send)
        taken += time.process_time() - began
        if answers[0]["status"] not in {200, 403}:
            raise AssertionError(f"answered {answers}")
    return taken


def _scope(body: bytes, capability: Capability | None) -> dict[str, Any]:
    head = {"content-type": _JSON, "content-length": str(len(body)), **_presented(body, capability)}
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": _PATH,
        "raw_path": _PATH.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in head.items()],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
    }


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
            for who, held in ((name, capability), (f"{name}, {BARE}", None)):
                origin = stack.enter_context(served(routes.app(kind, guarded=held is not None)))
                contenders.append(Contender(LARGE, len(body), who, _answered(origin, body, held)))
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


def against(contenders: list[Contender]) -> Callable[[Contender], Mapping[str, Contender]]:
    """Each guarded route to the bare one."""
    by_name = {one.who: one for one in contenders}

    def to(one: Contender) -> Mapping[str, Contender]:
        bare = by_name.get(f"{one.who}, {BARE}")
        return {} if bare is None else {BARE: bare}

    return to
