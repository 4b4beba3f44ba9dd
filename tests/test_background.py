"""Threads, and what a forked child begins anew."""

import gc
import threading
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from capx.background import begin_in_each_process
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
