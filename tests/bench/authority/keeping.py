"""What is kept, timed in turn by the clock on the wall: tasks, and what a resource burns, records and spends.

Beside each store a bare one, by the same library, which commits one row as often, durably.
"""

import os
import time
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from decimal import Decimal
from itertools import islice
from typing import Any, Final

from capx import Authority
from capx.store.factory import open_store
from capx.store.protocols import Store
from capx.verify.meter import Spend
from tests.bench.authority.bare import bare
from tests.bench.authority.figures import BARE, COMMIT, COMMITS, COMMITS_AT_OPEN, GRANTS, SQLITE, TASK
from tests.bench.authority.places import Places
from tests.bench.authority.size import decisions
from tests.bench.measuring import Contender, Run
from tests.bench.timing import Step, each
from tests.labs.payers import payer

GRANTED: Final = ("crm.read", "slides.write", "support.tickets.read")
BATCH: Final = 100
"""Decisions that are recorded at once, where there are many."""
_PLENTY: Final = Decimal(10**12)


@contextmanager
def tasks(places: Places) -> Generator[list[Contender]]:
    """A task with its three grants, at each store and as bare commits."""
    with ExitStack() as stack:
        contenders: list[Contender] = []
        for who in places.stores:
            authority = stack.enter_context(places.local(who))
            plain = stack.enter_context(closing(bare(places.new_bare(who))))
            contenders += [
                kept(TASK, at, name, timed(step))
                for at, granted in ((COMMITS, _granted_while_it_runs), (COMMITS_AT_OPEN, _granted_at_open))
                for name, step in ((who, granted(authority)), (f"{who}, {BARE}", _commits(plain, at)))
            ]
        yield contenders


@contextmanager
def resources(places: Places) -> Generator[list[Contender]]:
    """What a resource asks of each store."""
    with ExitStack() as stack:
        contenders: list[Contender] = []
        for who in places.stores:
            store = stack.enter_context(closing(open_store(places.new(who))))
            plain = stack.enter_context(closing(bare(places.new_bare(who))))
            steps = {
                ("burn", 1): burning(store),
                ("record", 1): _record(store, 1),
                ("record", BATCH): _record(store, BATCH),
                ("spend", 1): _spend(store),
                (COMMIT, 1): _commits(plain, 1),
            }
            contenders += [kept(op, at, who, timed(step)) for (op, at), step in steps.items()]
        yield contenders


def kept(op: str, at: int, who: str, run: Run) -> Contender:
    """A contender beside the bare commits of its store, and beside what SQLite takes for the same."""
    commits = (TASK, at, f"{who}, {BARE}") if op == TASK else (COMMIT, 1, who)
    return Contender(op, at, who, run, {BARE: commits, SQLITE: (op, at, SQLITE)})


def timed(step: Step) -> Run:
    """A step by the clock on the wall: a disk is waited for, and PostgreSQL works in other processes."""
    return lambda count: each(lambda _: step(), range(count), time.perf_counter)


def _granted_while_it_runs(authority: Authority) -> Step:
    def step() -> None:
        task = authority.open(allow=GRANTED[:1], tenant="Acme", purpose="qbr")
        for number in range(GRANTS):
            authority.mint(task.id, allow=GRANTED[number : number + 1])
        authority.complete(task.id)

    return step


def _granted_at_open(authority: Authority) -> Step:
    return lambda: authority.complete(authority.open(allow=GRANTED, tenant="Acme", purpose="qbr").id)


def _commits(connection: Any, count: int) -> Step:
    def step() -> None:
        for _ in range(count):
            connection.execute("INSERT INTO bare VALUES (0)")

    return step


def burning(store: Store) -> Step:
    """One more presentation, which is new."""

    def step() -> None:
        now = int(time.time())
        if not store.burn(os.urandom(16), until=now + 60, now=now).new:
            raise AssertionError("a presentation that is new was not")

    return step


def _record(store: Store, count: int) -> Step:
    made = decisions()
    return lambda: store.record(list(islice(made, count)))


def _spend(store: Store) -> Step:
    spends = [Spend("counter", "calls", Decimal(1), _PLENTY)]

    def step() -> None:
        if store.spend(payer(), spends, now=int(time.time())).exhausted:
            raise AssertionError("a counter that has plenty is exhausted")

    return step
