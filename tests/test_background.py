"""Threads, and what a forked child begins anew."""

# What a fork does to private state is seen only there.
# pyright: reportPrivateUsage=false

import asyncio
import gc
import threading
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from capx import background
from capx.background import begin_in_each_process, run_in_thread, wait_async
from capx.errors import Unavailable
from tests.labs.processes import in_a_child


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

    async def leave() -> None:
        wait_async(future)

    future = run_in_thread(lambda: go.wait(5), name="capx-work")
    asyncio.run(leave())
    heard = threading.Event()
    future.add_done_callback(lambda _: heard.set())
    go.set()
    assert future.result(5)
    assert heard.wait(5)
    # A future logs what is raised by those who wait for it.
    assert caplog.records == []
