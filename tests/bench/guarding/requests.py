"""A guarded request: a FastAPI route behind a guard, by where the guard burns, records and learns of revocations.

Laws: each request has a presentation of its own, made before the clock runs; its chain was seen before. The time is
that of the processor, in all threads of this process. What waits to be written is written before the clock stops.
"""

import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from msgspec.structs import replace

from capx import Authority, Capability, RemoteAuthority
from capx.crypto.keys import AudienceKeys
from capx.guard.fastapi import FastAPIGuard
from capx.resource.connection import connect
from capx.resource.recorder import StoreRecorder
from capx.resource.revocations import StoreLiveness
from capx.store.factory import open_store
from capx.tokens.binding import HttpRequest
from capx.verify.verifier import Verifier
from capx_caveats import action, anything
from tests.bench.asgi_requests import BARE, HOPS, PATH, PATTERN, QUERY, REQUEST, App, answered
from tests.bench.authority.figures import FEED, POSTGRES, SQLITE
from tests.bench.authority.places import AUDIENCE, Places
from tests.bench.authority.source import Source, remembering
from tests.bench.measuring import Contender, Run
from tests.labs.waiting import eventually

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
        bare = route(None)
        contenders = [Contender(REQUEST, at, BARE, _asking(bare, dict, at, lambda: None)) for at in (1, CROWD)]
        for who in (MEMORY, RECORDED, *places.stores, FEED):
            place = stack.enter_context(places.served() if who == FEED else places.authority(store_of(who)))
            made, flush = verifier(stack, replace(place.source, who=who))
            app, head = route(FastAPIGuard(made)), presenting(capability_of(place.authority))
            contenders += [
                Contender(REQUEST, at, who, _asking(app, head, at, flush), {BARE: (REQUEST, at, BARE)})
                for at in (1, CROWD)
            ]
        yield contenders


def store_of(who: str) -> str:
    """The kind of store that a contender needs."""
    return who if who == POSTGRES else SQLITE


def verifier(stack: ExitStack, source: Source) -> tuple[Verifier, Callable[[], object]]:
    """A verifier in the way that `who` of the source says, and what writes the decisions that it left waiting."""
    who, place, keys = source.who, source.address, AudienceKeys.load(source.keys)
    if who in {SQLITE, POSTGRES, FEED}:
        connection = stack.enter_context(
            closing(connect(keys, feed=place) if who == FEED else connect(keys, store=place))
        )
        assert isinstance(connection.recorder, StoreRecorder)
        eventually(lambda: connection.liveness.age() <= _AN_HOUR, within=10)
        # A feed's memory of presentations is one of this process, too.
        settings: dict[str, Any] = {"replay": remembering()} if who == FEED else {}
        return connection.verifier(**settings), connection.recorder.flush
    liveness = stack.enter_context(closing(StoreLiveness(Path(place))))
    settings = {"liveness": liveness, "replay": remembering()}
    if who == MEMORY:
        return Verifier(AUDIENCE, keys, **settings), lambda: None
    recorder = stack.enter_context(closing(StoreRecorder(stack.enter_context(closing(open_store(place))))))
    return Verifier(AUDIENCE, keys, recorder=recorder, **settings), recorder.flush


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


def presenting(capability: Capability) -> Callable[[], dict[str, str]]:
    """What makes the headers of one more request."""
    sent = HttpRequest(method="GET", target=f"{PATH}?{QUERY}")
    return lambda: {"authorization": capability.present(sent).authorization}


def _asking(app: App, head: Callable[[], dict[str, str]], at_once: int, flush: Callable[[], object]) -> Run:
    def run(count: int) -> float:
        requests = max(count, at_once)
        taken = answered(app, [head() for _ in range(requests)], at_once)
        began = time.process_time()
        flush()
        return (taken + time.process_time() - began) * count / requests

    return run
