"""Presentations of one moment are burnt in one transaction, on the event loop if the store lets it."""

import asyncio
import gc
import sqlite3
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from contextvars import ContextVar
from pathlib import Path

import pytest
import trio

from capx.errors import StoreProblem, Unavailable
from capx.resource.burn_queue import MOST, BurnQueue, Presented
from capx.resource.replay import Replay, StoreReplay
from capx.store.factory import create_store
from capx.store.protocols import Store
from capx.store.records import Burn
from capx.store.sqlite.store import SQLiteStore
from capx.verify.protocols import burns_async
from tests.labs.postgres import shared_server

NOW = 1_800_000_000
UNTIL = NOW + 60


def an_id(number: int) -> bytes:
    return number.to_bytes(16)


class Counted:
    """A store that counts its transactions, by the thread in which they were asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.sizes: list[int] = []
        self.on_loop: list[bool] = []
        self.fails = False

    def burn_all(
        self,
        presented: Sequence[tuple[bytes, int]],
        *,
        now: int,
        remembered: tuple[bytes, int] | None = None,
        wait: bool = True,
    ) -> tuple[Burn, ...] | None:
        if self.fails:
            raise StoreProblem("the disk is gone")
        burnt = self._store.burn_all(presented, now=now, remembered=remembered, wait=wait)
        if burnt is not None:
            self.sizes.append(len(presented))
            self.on_loop.append(threading.current_thread() is threading.main_thread())
        return burnt


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "capx.db")
        return
    database = shared_server().database()
    yield shared_server().url(database)
    shared_server().give_back(database)


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    with closing(create_store(place)) as made:
        yield made


def memory(store: Store) -> tuple[Counted, StoreReplay]:
    counted = Counted(store)
    return counted, Replay.store(counted)  # type: ignore[arg-type] # only what a memory calls


@pytest.fixture(autouse=True)
def on_a_quick_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capx.resource.replay._SLOW", 60.0)


async def burnt(replay: StoreReplay, numbers: Sequence[int]) -> list[bool | BaseException]:
    return await asyncio.gather(*(replay.burn_async(an_id(one), UNTIL, NOW) for one in numbers), return_exceptions=True)


def test_what_comes_in_one_moment_is_one_transaction(store: Store) -> None:
    counted, replay = memory(store)
    assert asyncio.run(burnt(replay, range(100))) == 100 * [True]
    assert counted.sizes == [100]
    assert asyncio.run(burnt(replay, [100, *range(100)])) == [True, *(100 * [False])]
    assert counted.on_loop == 2 * [isinstance(store, SQLiteStore)]


def test_of_two_that_are_the_same_one_is_new(store: Store) -> None:
    _, replay = memory(store)
    assert asyncio.run(burnt(replay, [7, 3, 7, 7, 1])) == [True, True, False, False, True]


def test_a_large_crowd_is_burnt_in_several_transactions(tmp_path: Path) -> None:
    with closing(SQLiteStore.create(tmp_path / "capx.db")) as store:
        counted, replay = memory(store)
        assert asyncio.run(burnt(replay, range(MOST + 10))) == (MOST + 10) * [True]
        assert counted.sizes == [MOST, 10]


def test_while_another_process_writes_the_loop_goes_on(tmp_path: Path) -> None:
    with closing(SQLiteStore.create(tmp_path / "capx.db")) as store:
        counted, replay = memory(store)
        other = sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")

        async def run() -> list[bool | BaseException]:
            first = asyncio.create_task(burnt(replay, [1, 2]))
            for _ in range(10):
                await asyncio.sleep(0.01)
            assert not first.done()
            # These come while the first ones wait in a thread, and go together in the next transaction.
            second = asyncio.create_task(burnt(replay, [3, 4, 5]))
            await asyncio.sleep(0.01)
            other.execute("COMMIT")
            return [*await first, *await second]

        assert asyncio.run(run()) == 5 * [True]
        assert counted.sizes == [2, 3]
        assert counted.on_loop[0] is False
        other.close()


async def test_a_store_that_fails_fails_for_all_and_then_goes_on(store: Store) -> None:
    counted, replay = memory(store)
    counted.fails = True
    answers = await burnt(replay, range(3))
    assert [type(one) for one in answers] == 3 * [Unavailable]
    counted.fails = False
    assert await burnt(replay, range(3)) == 3 * [True]


async def test_whoever_is_cancelled_has_used_its_presentation(store: Store) -> None:
    _, replay = memory(store)
    task = asyncio.create_task(replay.burn_async(an_id(1), UNTIL, NOW))
    other = asyncio.create_task(replay.burn_async(an_id(2), UNTIL, NOW))
    await asyncio.sleep(0)
    task.cancel()
    assert await other
    assert not await replay.burn_async(an_id(1), UNTIL, NOW)


def test_a_copy_of_the_store_is_noticed_by_all_of_a_moment(tmp_path: Path) -> None:
    with closing(SQLiteStore.create(tmp_path / "capx.db")) as store:
        _, replay = memory(store)

        async def run() -> None:
            assert await burnt(replay, [1]) == [True]
            with closing(sqlite3.connect(store.path)) as connection, connection:
                connection.execute("DELETE FROM burnt")
            answers = await burnt(replay, [2, 3])
            assert [type(one) for one in answers] == 2 * [Unavailable]

        asyncio.run(run())


def test_each_event_loop_has_a_queue_of_its_own(store: Store) -> None:
    _, replay = memory(store)
    found: list[list[bool | BaseException]] = []

    def run() -> None:
        found.append(asyncio.run(burnt(replay, range(50))))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sum(one is True for one in of_loop) for of_loop in found) != [50, 50, 50, 50]
    assert sum(one is True for of_loop in found for one in of_loop) == 50


def test_trio_burns_in_its_own_threads(store: Store) -> None:
    _, replay = memory(store)

    async def run() -> list[bool]:
        return [await replay.burn_async(an_id(one), UNTIL, NOW) for one in (1, 1)]

    assert trio.run(run) == [True, False]


def test_who_only_burns_lets_the_file_not_grow_without_end(tmp_path: Path) -> None:
    with closing(SQLiteStore.create(tmp_path / "capx.db")) as store:
        counted, replay = memory(store)

        async def run() -> None:
            for number in range(2_500):
                assert await replay.burn_async(an_id(number), UNTIL, NOW)

        asyncio.run(run())
        assert counted.on_loop.count(False) == 24
        # Without a checkpoint, each transaction leaves at least two pages of 4 096 bytes in it.
        assert Path(f"{store.path}-wal").stat().st_size < 1_100 * 4_120 + 1_000_000


BURNER = f"""
import asyncio, sys
from capx.resource.replay import Replay, StoreReplay
from capx.store.factory import open_store
replay = Replay.store(open_store(sys.argv[1]))
async def run():
    ids = [number.to_bytes(16) for number in range(400)]
    if sys.argv[2] == "back":
        ids.reverse()
    won = 0
    for at in range(0, 400, 16):
        won += sum(await asyncio.gather(*(replay.burn_async(one, {UNTIL}, {NOW}) for one in ids[at:at + 16])))
    return won
print("ready", flush=True)
sys.stdin.readline()
print(asyncio.run(run()))
"""


def test_loops_of_several_processes_burn_each_once(store: Store, place: str) -> None:
    del store
    with ExitStack() as stack:
        racers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", BURNER, place, way],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for way in ("on", "back", "on")
        ]
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("\n")
            racer.stdin.flush()
        won = [int(racer.communicate(timeout=60)[0]) for racer in racers]
    assert sum(won) == 400


async def test_a_failure_of_one_transaction_is_not_that_of_the_next() -> None:
    # A future takes no StopIteration.
    failing: list[Exception] = [StopIteration(), RuntimeError("two")]

    def burn_all(presented: Sequence[object], wait: bool) -> Sequence[bool]:
        del wait
        if failing:
            raise failing.pop()
        return [True] * len(presented)

    queue = BurnQueue(burn_all)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await queue.burn(Presented(an_id(1), UNTIL, NOW))
    assert await queue.burn(Presented(an_id(1), UNTIL, NOW))


async def test_every_caller_gets_an_answer_however_a_transaction_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def burn_all(presented: Sequence[object], wait: bool) -> Sequence[bool] | None:
        return [True] * len(presented) if wait else None

    async def unstarted(work: object) -> None:
        del work
        raise RuntimeError("can't start new thread")

    queue = BurnQueue(burn_all)
    monkeypatch.setattr("capx.resource.burn_queue.in_pool", unstarted)
    with pytest.raises(RuntimeError, match="new thread"):
        await queue.burn(Presented(an_id(1), UNTIL, NOW))
    monkeypatch.undo()
    before = asyncio.all_tasks()
    waiting = asyncio.create_task(queue.burn(Presented(an_id(2), UNTIL, NOW)))
    while not (begun := asyncio.all_tasks() - before - {waiting}):
        await asyncio.sleep(0)
    for task in begun:
        task.cancel()
    with pytest.raises(Unavailable, match="interrupted"):
        await waiting
    assert await queue.burn(Presented(an_id(3), UNTIL, NOW))


def test_an_interrupt_within_a_burn_stops_no_later_one() -> None:
    interrupts = [KeyboardInterrupt()]

    def burn_all(presented: Sequence[object], wait: bool) -> Sequence[bool]:
        del wait
        if interrupts:
            raise interrupts.pop()
        return [True] * len(presented)

    loop = asyncio.new_event_loop()
    try:
        queue = BurnQueue(burn_all)
        first = loop.create_task(queue.burn(Presented(an_id(1), UNTIL, NOW)))
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(first)
        with pytest.raises(Unavailable):
            loop.run_until_complete(first)
        assert loop.run_until_complete(queue.burn(Presented(an_id(2), UNTIL, NOW)))
    finally:
        loop.close()


def test_no_loop_and_no_request_is_kept_alive(store: Store) -> None:
    _, replay = memory(store)
    held: ContextVar[object] = ContextVar("held")

    class Bundle: ...

    kept: list[weakref.ref[object]] = []

    async def run() -> None:
        bundle = Bundle()
        held.set(bundle)
        kept.extend((weakref.ref(bundle), weakref.ref(asyncio.get_running_loop())))
        assert await replay.burn_async(an_id(len(kept)), UNTIL, NOW)

    for _ in range(3):
        asyncio.run(run())
    gc.collect()
    assert [one() for one in kept] == 6 * [None]


def test_after_a_slow_transaction_burns_go_to_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(SQLiteStore.create(tmp_path / "capx.db")) as store:
        counted, replay = memory(store)
        monkeypatch.setattr("capx.resource.replay._SLOW", -1.0)
        for number in range(3):
            assert asyncio.run(burnt(replay, [number])) == [True]
        assert counted.on_loop == [True, False, False]


@pytest.mark.parametrize(("first", "later"), [(60, 0), (65, 4), (65, 5), (1, 0), (60, 2), (60, 30)])
def test_a_copy_from_before_the_last_burn_is_noticed(tmp_path: Path, first: int, later: int) -> None:
    with closing(SQLiteStore.create(tmp_path / "capx.db")) as store:
        replay = Replay.store(store)
        # A presentation can be dated five seconds ahead.
        assert replay.burn(an_id(0), NOW + first, NOW)
        with closing(sqlite3.connect(store.path)) as live, closing(sqlite3.connect(tmp_path / "copy")) as copy:
            live.backup(copy)
            now = NOW + later
            assert all(replay.burn(an_id(number), now + 60, now) for number in range(1, 5))
            copy.backup(live)
        for number in range(1, 5):
            with pytest.raises(Unavailable, match="the store has lost what was presented"):
                replay.burn(an_id(number), now + 60, now + 1)


class OwnBurn(StoreReplay):
    """A memory that refuses everything, and does not say how async code burns."""

    def burn(self, presentation: bytes, until: int, now: int) -> bool:
        del presentation, until, now
        return False


def test_a_memory_with_a_burn_of_its_own_is_not_passed_over(tmp_path: Path) -> None:
    class Wrapper:
        def __init__(self, memory: Replay) -> None:
            self._memory = memory

        def burn(self, presentation: bytes, until: int, now: int) -> bool:
            return self._memory.burn(presentation, until, now)

        def __getattr__(self, name: str) -> object:
            return getattr(self._memory, name)

    with closing(SQLiteStore.create(tmp_path / "capx.db")) as store:
        own = Replay.store(store)
        assert burns_async(own)
        assert not burns_async(OwnBurn(store))
        assert not burns_async(Wrapper(own))  # type: ignore[arg-type] # `blocking` is passed on
        assert not burns_async(Replay.process())
