"""Threads, and what a forked child begins anew."""

import asyncio
import gc
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

import pytest
import trio

from capx import background
from capx.background import (
    FewThreads,
    begin_in_each_process,
    in_event_loop,
    in_pool,
    in_trio,
    outlast,
    run_in_thread,
    wait_async,
    within,
)
from capx.errors import ConfigurationProblem, Unavailable
from tests.labs.processes import in_a_child

T = TypeVar("T")


class Locked:
    """Something with a lock, and a count of its beginnings."""

    def __init__(self) -> None:
        self.begun = 0
        begin_in_each_process(self._begin)

    def _begin(self) -> None:
        self.begun += 1
        self.lock = threading.Lock()


@contextmanager
def held(lock: threading.Lock) -> Generator[None]:
    """A block in which another thread holds the lock."""
    taken, over = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            over.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(5)
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_never_meets_a_lock_that_its_parent_held() -> None:
    locked = Locked()
    with held(locked.lock):
        assert in_a_child(lambda: locked.lock.acquire(timeout=1))
        assert in_a_child(lambda: locked.begun == 2 and in_a_child(lambda: locked.begun == 3))
        # The parent's own is held still.
        assert not locked.lock.acquire(blocking=False)
    assert locked.begun == 1
    assert locked.lock.acquire(blocking=False)


def test_what_a_child_calls_begins_all_that_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_beginnings", set[object]())
    locked, other = Locked(), Locked()
    background._begin_anew()
    assert (locked.begun, other.begun) == (2, 2)


def test_what_is_gone_begins_in_no_child() -> None:
    begun: list[int] = []

    class Noted:
        def begin(self) -> None:
            begun.append(1)

    noted = Noted()
    begin_in_each_process(noted.begin)
    assert in_a_child(lambda: begun == [1, 1])
    del noted
    gc.collect()
    assert in_a_child(lambda: begun == [1])


def test_an_object_that_is_gone_is_forgotten() -> None:
    # Objects of other tests may be gone, and not be collected yet.
    gc.collect()
    before = len(background._beginnings)
    locked = Locked()
    assert len(background._beginnings) == before + 1
    del locked
    gc.collect()
    assert len(background._beginnings) == before


def test_work_runs_in_a_daemon_thread_of_its_name() -> None:
    thread = run_in_thread(threading.current_thread, name="capx-work").result(5)
    assert (thread.name, thread.daemon) == ("capx-work", True)


def test_an_error_of_the_work_reaches_who_waits() -> None:
    def fail() -> None:
        raise LookupError("lost")

    async def wait() -> None:
        await wait_async(run_in_thread(fail, name="capx-work"))

    with pytest.raises(LookupError, match=r"^lost$"):
        run_in_thread(fail, name="capx-work").result(5)
    with pytest.raises(LookupError, match=r"^lost$"):
        asyncio.run(wait())


def test_work_that_gets_no_thread_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    with pytest.raises(Unavailable, match="cannot start a thread: can't start new thread"):
        run_in_thread(int, name="capx-work").result(5)


def test_a_closed_loop_hears_of_no_result(caplog: pytest.LogCaptureFixture) -> None:
    go = threading.Event()
    left: list[asyncio.Task[bool]] = []

    async def leave() -> None:
        left.append(asyncio.create_task(wait_async(future)))
        await asyncio.sleep(0)

    future = run_in_thread(lambda: go.wait(5), name="capx-work")
    asyncio.run(leave())
    heard = threading.Event()
    future.add_done_callback(lambda _: heard.set())
    go.set()
    assert future.result(5)
    assert heard.wait(5)
    # A future logs what is raised by those who wait for it.
    assert caplog.records == []


# Under trio.


def test_a_task_of_trio_waits_for_a_thread() -> None:
    go = threading.Event()

    def work() -> str:
        assert go.wait(5)
        return "done"

    def fail() -> None:
        raise LookupError("lost")

    async def wait() -> str:
        future = run_in_thread(work, name="capx-work")
        with pytest.raises(TimeoutError):
            await wait_async(future, 0.01)
        with trio.move_on_after(0.01) as scope:
            await wait_async(future)
        assert scope.cancelled_caught
        with pytest.raises(LookupError, match=r"^lost$"):
            await wait_async(run_in_thread(fail, name="capx-work"))
        go.set()
        return await wait_async(future)

    assert trio.run(wait) == "done"


def test_a_loop_of_trio_that_has_ended_hears_of_no_result(caplog: pytest.LogCaptureFixture) -> None:
    go = threading.Event()
    future = run_in_thread(lambda: go.wait(5), name="capx-work")

    async def leave() -> None:
        with trio.move_on_after(0.01):
            await wait_async(future)

    trio.run(leave)
    heard = threading.Event()
    future.add_done_callback(lambda _: heard.set())
    go.set()
    assert future.result(5)
    assert heard.wait(5)
    assert caplog.records == []


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_who_is_cancelled_outlasts_the_work_first(library: str) -> None:
    done: list[bool] = []

    def work() -> None:
        time.sleep(0.2)
        done.append(True)

    async def leave() -> None:
        cancelled = await outlast(run_in_thread(work, name="capx-work"), 5)
        assert cancelled is not None
        raise cancelled

    async def cancel_asyncio() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(leave(), 0.01)

    async def cancel_trio() -> None:
        with trio.move_on_after(0.01) as scope:
            await leave()
        assert scope.cancelled_caught

    asyncio.run(cancel_asyncio()) if library == "asyncio" else trio.run(cancel_trio)
    assert done


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_work_is_outlasted_no_longer_than_was_said(library: str) -> None:
    go = threading.Event()

    async def leave() -> None:
        future = run_in_thread(lambda: go.wait(5), name="capx-work")
        began = time.monotonic()
        assert await outlast(future, 0.05) is None
        assert 0.04 < time.monotonic() - began < 1
        assert not future.done()
        go.set()

    asyncio.run(leave()) if library == "asyncio" else trio.run(leave)


def test_each_thread_knows_whether_it_runs_an_event_loop() -> None:
    async def look() -> tuple[bool, bool]:
        return in_event_loop(), await in_pool(in_event_loop)

    assert not in_event_loop()
    assert trio.run(look) == (True, False)
    assert asyncio.run(look()) == (True, False)


def test_nobody_runs_trio_who_has_not_imported_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "trio")
    assert not in_trio()
    assert asyncio.run(within(5, in_pool(lambda: 7))) == 7
    # To ask imports nothing.
    assert "trio" not in sys.modules


FEW = FewThreads("capx-few")


@pytest.mark.parametrize("pool", [in_pool, partial(FEW.run, "")])
@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_work_that_stops_an_iteration_has_an_end(pool: Callable[..., Any], library: str) -> None:
    async def stop() -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await within(5, pool(lambda: next(iter(()))))

    asyncio.run(stop()) if library == "asyncio" else trio.run(stop)


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_long_work_sees_the_context_of_its_caller(library: str) -> None:
    who = ContextVar[str]("who")

    async def ask() -> str:
        who.set("ana")
        return await FEW.run("ana", who.get)

    assert (asyncio.run(ask()) if library == "asyncio" else trio.run(ask)) == "ana"


def test_short_work_waits_for_no_long_work() -> None:
    go, two = threading.Event(), FewThreads("capx-two")

    async def both() -> int:
        long = [asyncio.ensure_future(two.run("", lambda: go.wait(5))) for _ in range(50)]
        await asyncio.sleep(0.05)
        running = [one.name for one in threading.enumerate() if one.name.startswith("capx-two")]
        assert await within(5, in_pool(lambda: 7)) == 7
        assert not any(one.done() for one in long)
        go.set()
        assert await asyncio.gather(*long) == [True] * 50
        return len(running)

    assert asyncio.run(both()) == 2


def test_long_work_has_no_more_threads_than_was_said() -> None:
    one = FewThreads("capx-one", 1)

    async def ask() -> set[str]:
        return {*await asyncio.gather(*(one.run("", lambda: threading.current_thread().name) for _ in range(20)))}

    assert asyncio.run(ask()) == {"capx-one_0"}


def test_whoever_has_much_long_work_holds_up_nobody_else() -> None:
    one, order, go = FewThreads("capx-turns", 1), list[str](), threading.Event()

    def work(whose: str) -> None:
        go.wait(5)
        order.append(whose)

    async def ask() -> None:
        much = [asyncio.ensure_future(one.run("greedy", partial(work, "greedy"))) for _ in range(9)]
        await asyncio.sleep(0.05)
        others = [asyncio.ensure_future(one.run(whose, partial(work, whose))) for whose in "aba"]
        await asyncio.sleep(0.05)
        go.set()
        await asyncio.gather(*much, *others)

    asyncio.run(ask())
    assert order == ["greedy", "greedy", "a", "b", "greedy", "a", *["greedy"] * 6]


def test_long_work_that_nobody_waits_for_is_left_out() -> None:
    one, ran, go = FewThreads("capx-left", 1), list[int](), threading.Event()

    async def ask() -> None:
        first = asyncio.ensure_future(one.run("", lambda: go.wait(5)))
        await asyncio.sleep(0.05)
        left = asyncio.ensure_future(one.run("", lambda: ran.append(1)))
        await asyncio.sleep(0.05)
        left.cancel()
        await asyncio.sleep(0.05)
        go.set()
        assert await first
        await one.run("", lambda: ran.append(2))

    asyncio.run(ask())
    assert ran == [2]


def test_long_work_that_fails_fails_for_its_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(FEW.run("", lambda: 1 // 0))
    assert asyncio.run(FEW.run("", lambda: 1)) == 1


def test_a_child_has_threads_of_its_own_for_long_work() -> None:
    async def ask() -> int:
        return await FEW.run("", threading.get_ident)

    asyncio.run(ask())
    assert in_a_child(lambda: asyncio.run(ask()) > 0)


# Work that may take only so long.


async def done() -> str:
    return "done"


@pytest.fixture(params=["asyncio", "trio"])
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(library: str, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run the main task under this library."""
    return asyncio.run(main()) if library == "asyncio" else trio.run(main)


def sleep(library: str, seconds: float) -> Coroutine[Any, Any, None]:
    return asyncio.sleep(seconds) if library == "asyncio" else trio.sleep(seconds)


def test_work_within_its_time_gives_its_result(library: str) -> None:
    async def late() -> str:
        await sleep(library, 0.01)
        return "late"

    assert run(library, lambda: within(20, done())) == "done"
    assert run(library, lambda: within(20, late())) == "late"


def test_work_that_takes_longer_is_cancelled(library: str) -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await sleep(library, 60)
        finally:
            ended.append("cancelled")

    async def main() -> None:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await within(0.05, work())
        assert 0.04 < time.monotonic() - began < 10
        # The task goes on, and nothing is cancelled later.
        await sleep(library, 0.1)

    run(library, main)
    assert ended == ["cancelled"]


def test_an_error_of_the_work_is_that_of_the_wait(library: str) -> None:
    async def fail() -> None:
        await sleep(library, 0)
        raise LookupError("lost")

    with pytest.raises(LookupError, match=r"^lost$"):
        run(library, lambda: within(20, fail()))


def test_who_cancels_the_task_is_not_told_of_a_timeout(library: str) -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await within(20, sleep(library, 60))
        except TimeoutError:
            ended.append("timeout")
        except BaseException:
            ended.append("cancelled")
            raise

    async def cancel() -> None:
        if library == "asyncio":
            task = asyncio.create_task(wait())
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            with trio.move_on_after(0.01) as scope:
                await wait()
            assert scope.cancelled_caught

    run(library, cancel)
    assert ended == ["cancelled"]


@pytest.mark.parametrize(
    "wait",
    [
        lambda: in_pool(int),
        lambda: FEW.run("", int),
        lambda: wait_async(run_in_thread(int, name="capx-work")),
        # The work was not begun, and nobody warns that it never was.
        lambda: within(1, done()),
    ],
)
def test_a_task_of_another_library_is_told_where_capx_waits(wait: Callable[[], Coroutine[Any, Any, int]]) -> None:
    with pytest.raises(ConfigurationProblem, match="under asyncio and trio only"):
        wait().send(None)
