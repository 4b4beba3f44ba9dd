"""A guarded request: a FastAPI route behind a guard, by where the guard burns, records and learns of revocations.

Laws: each request has a presentation of its own, made before the clock runs; its chain was seen before. The time is
that of the processor, in all threads of this process. What waits to be written is written before the clock stops.
"""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI

from capx import Authority, Capability, RemoteAuthority
from capx.crypto.keys import AudienceKeys
from capx.guard.fastapi import FastAPIGuard
from capx.resource.connection import connect
from capx.resource.recorder import StoreRecorder
from capx.resource.replay import Replay
from capx.resource.revocations import StoreLiveness
from capx.tokens.binding import HttpRequest
from capx.verify.verifier import Verifier
from capx_caveats import action, anything
from tests.bench.asgi_requests import BARE, HOPS, PATH, PATTERN, QUERY, REQUEST, App, answered
from tests.bench.authority.figures import FEED, POSTGRES, SQLITE
from tests.bench.authority.places import AUDIENCE, Places
from tests.bench.measuring import Contender, Run
from tests.bench.peers.routes import BARE_THERE, PYJWT, TENUO

ACTION: Final = "crm.accounts.read"
MEMORY, RECORDED = "in memory", "recorded"
TIMES_BARE: Final = {MEMORY: 2.0, RECORDED: 2.5, SQLITE: 4.0, FEED: 3.0, POSTGRES: 10.0}
"""How many times the bare route a guarded one may cost."""
CROWD: Final = 16
_AN_HOUR: Final = 3_600


@contextmanager
def guarded_requests(folder: Path) -> Generator[list[Contender]]:
    """The bare route, and the guarded one in each way, alone and in a crowd."""
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        places = Places(folder, stack)
        contenders = [Contender(REQUEST, at, BARE, _bare(at)) for at in (1, CROWD)]
        for who in (MEMORY, RECORDED, *places.stores, FEED):
            place = stack.enter_context(places.served() if who == FEED else places.authority(store_of(who)))
            keys = AudienceKeys.load(place.source.keys)
            made, flush = verifier(stack, who, keys, place.source.address)
            app, capability = route(FastAPIGuard(made)), capability_of(place.authority)
            contenders += [Contender(REQUEST, at, who, _guarded(app, capability, at, flush)) for at in (1, CROWD)]
        yield contenders


def store_of(who: str) -> str:
    """The kind of store that a contender needs."""
    return who if who == POSTGRES else SQLITE


def verifier(stack: ExitStack, who: str, keys: AudienceKeys, place: str) -> tuple[Verifier, Callable[[], object]]:
    """A verifier, and what writes the decisions that it left waiting."""
    if who in {SQLITE, POSTGRES, FEED}:
        connection = connect(keys, feed=place) if who == FEED else connect(keys, store=place)
        stack.callback(connection.close)
        recorder = connection.recorder
        assert isinstance(recorder, StoreRecorder)
        started = time.time() + 10
        while connection.liveness.age() > _AN_HOUR and time.time() < started:
            time.sleep(0.01)
        return _warm(connection.verifier(), who), recorder.flush
    liveness = StoreLiveness(Path(place))
    stack.callback(liveness.close)
    settings: dict[str, Any] = {"liveness": liveness, "replay": _process_memory()}
    if who == MEMORY:
        return Verifier(AUDIENCE, keys, **settings), lambda: None
    from capx.store.factory import open_store

    store = open_store(place)
    stack.callback(store.close)
    kept = StoreRecorder(store)
    stack.callback(kept.close)
    return Verifier(AUDIENCE, keys, recorder=kept, **settings), kept.flush


def _process_memory() -> Replay:
    # A memory of this process refuses what may have been presented before it was there.
    began = time.time() - _AN_HOUR
    return Replay.process(10_000_000, clock=lambda: began)


def _warm(verifier: Verifier, who: str) -> Verifier:
    if who == FEED:
        # Its memory of presentations is one of this process, too.
        verifier._replay, verifier._awaited = _process_memory(), None
    return verifier


def route(guard: FastAPIGuard | None) -> App:
    """The application with the route, guarded or bare."""
    app = FastAPI(openapi_url=None)

    async def read(account: str, limit: int) -> dict[str, Any]:
        return {"account": account, "limit": limit}

    endpoint: Callable[..., Any] = read
    if guard is not None:
        guard.protect(app)
        endpoint = guard.action(ACTION)(read)
    app.get(PATTERN)(endpoint)
    return app


def capability_of(authority: Authority | RemoteAuthority) -> Capability:
    """A capability for the route, three hops below its root."""
    bundle = authority.open(allow=[f"{ACTION}@{AUDIENCE}"], expires="1h").bundle
    for number in range(HOPS):
        bundle = bundle.delegate(to=f"agent {number}", allow=[action(ACTION, account=anything(), limit=anything())])
    (capability,) = [one for one in bundle if one.audience == AUDIENCE]
    return capability


def _bare(at_once: int) -> Run:
    app = route(None)
    head: dict[str, str] = {}
    return lambda count: answered(app, [head] * max(count, at_once), at_once) * count / max(count, at_once)


def _guarded(app: App, capability: Capability, at_once: int, flush: Callable[[], object]) -> Run:
    def head() -> dict[str, str]:
        sent = HttpRequest(method="GET", target=f"{PATH}?{QUERY}")
        return {"authorization": capability.present(sent).authorization}

    def run(count: int) -> float:
        requests = max(count, at_once)
        heads = [head() for _ in range(requests)]
        taken = answered(app, heads, at_once)
        began = time.process_time()
        flush()
        return (taken + time.process_time() - began) * count / requests

    return run


def against(contenders: list[Contender]) -> Callable[[Contender], Mapping[str, Contender]]:
    """Each to the bare route of its own environment, with as many requests at once."""
    bare = {(one.at, one.who): one for one in contenders if one.who in {BARE, BARE_THERE}}

    def to(one: Contender) -> Mapping[str, Contender]:
        found = bare.get((one.at, BARE_THERE if one.who in {PYJWT, TENUO} else BARE))
        return {} if found is None or one.who in {BARE, BARE_THERE} else {BARE: found}

    return to
