"""Runs work in a thread, for which another thread or an async task can wait; renews objects in a forked child.

Laws: the work runs to its end, even if nobody waits for it any more. It blocks no event loop, and `run_in_thread` no
thread of a shared pool. A task waits under asyncio and under trio; under any other library it gets a
ConfigurationProblem. A forked child has none of its parent's threads, so it must not use a lock that one of them may
have held.
"""

import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from capx.errors import ConfigurationProblem, Unavailable

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

    import trio

T = TypeVar("T")


def begin_in_each_process(begin: Callable[[], None]) -> None:
    """Call a method now, and in each child that is forked while its object lives.

    A child calls it before it runs other code, and while it has one thread. Objects that the method makes, such as a
    lock, belong to the child only. Other fork hooks may not have run yet, so the method must not release an object
    that another hook has to disown first.
    """
    begin()
    # Weak: a hook of the interpreter can never be removed, and must not keep each object alive for ever.
    _beginnings.add(weakref.WeakMethod(begin, _beginnings.discard))


_beginnings: "set[weakref.WeakMethod[Callable[[], None]]]" = set()


def _begin_anew() -> None:
    for reference in list(_beginnings):
        if (begin := reference()) is not None:
            begin()


os.register_at_fork(after_in_child=_begin_anew)


def run_in_thread(work: Callable[[], T], *, name: str) -> "Future[T]":
    """Start the work, and return the future of its result; the future raises Unavailable if no thread can be started.

    The process does not wait for the work when it ends.
    """
    from concurrent.futures import Future  # slow to import, and needed by few

    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 # the future passes it on
            future.set_exception(error)
        else:
            future.set_result(result)

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except (RuntimeError, MemoryError) as error:
        future.set_exception(Unavailable(f"cannot start a thread: {error}"))
    return future


async def wait_async(future: "Future[T]", seconds: float | None = None) -> T:
    """Wait in an async task for a future, and return its result; raises TimeoutError after so many seconds.

    The cancellation of the task ends the wait, and not the work.
    """
    if in_trio():
        import trio

        with trio.move_on_after(float("inf") if seconds is None else seconds):
            await _done_in_trio(future).wait()
            return future.result()
        raise TimeoutError
    import asyncio

    waiting = _asyncio_future(future)
    async with asyncio.timeout(seconds):
        return await waiting


def without_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that awaits nothing to its end, and return its result.

    So plain and async functions share one path, and a plain call needs no event loop.
    """
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("a plain function cannot wait for an event loop")


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Await the work in an async task; after so many seconds, cancel it and raise TimeoutError."""
    if in_trio():
        import trio

        with trio.move_on_after(seconds):
            return await work
        raise TimeoutError
    import asyncio

    try:
        asyncio_loop()
    except ConfigurationProblem:
        work.close()
        raise
    async with asyncio.timeout(seconds):
        return await work


async def outlast(future: "Future[Any]", seconds: float) -> BaseException | None:
    """Wait in an async task until a future is done, at most so many seconds, also if the task is cancelled meanwhile.

    Return that cancellation, which the caller must raise in the end; None if the task was not cancelled.
    """
    return await (_outlast_in_trio if in_trio() else _outlast_in_asyncio)(future, time.monotonic() + seconds)


async def in_pool(work: Callable[[], T]) -> T:
    """Run short work, such as one access to a store, in a thread of the event loop's pool, and return its result."""
    if in_trio():
        import trio

        return await trio.to_thread.run_sync(work)
    import asyncio

    asyncio_loop()
    return await asyncio.to_thread(_ended, work)


class FewThreads:
    """Threads for work that keeps a processor busy. Short work in the event loop's own pool does not wait for it.

    Those whose work waits take turns, also if one of them has much more of it.
    """

    def __init__(self, name: str, most: int = 2) -> None:
        self._name = name
        self._most = most
        begin_in_each_process(self._begin)

    def _begin(self) -> None:
        from concurrent.futures import ThreadPoolExecutor  # slow to import, and most processes have no guard

        # A forked child has none of its parent's threads.
        self._executor = ThreadPoolExecutor(self._most, self._name)
        self._lock = threading.Lock()
        # In the order of their turns.
        self._waiting: dict[str, deque[tuple[Future[Any], Callable[[], Any]]]] = {}

    async def run(self, whose: str, work: Callable[[], T]) -> T:
        """Run somebody's work in one of these threads, and return its result. It sees the caller's context."""
        if in_trio():
            import trio

            return await trio.to_thread.run_sync(work)
        import asyncio
        from concurrent.futures import Future

        asyncio_loop()
        context, future = copy_context(), Future[T]()
        with self._lock:
            self._waiting.setdefault(whose, deque()).append((future, lambda: context.run(_ended, work)))
        self._executor.submit(self._turn)
        return await asyncio.wrap_future(future)

    def _turn(self) -> None:
        with self._lock:
            whose = next(iter(self._waiting))
            own = self._waiting.pop(whose)
            future, work = own.popleft()
            if own:
                # Behind all others.
                self._waiting[whose] = own
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 # whoever waits gets it
            future.set_exception(error)


def _ended(work: Callable[[], T]) -> T:
    """Do the work. A StopIteration becomes a RuntimeError: no future holds one, so its waiter would wait for ever."""
    try:
        return work()
    except StopIteration as error:
        raise RuntimeError("the work raised StopIteration") from error


def in_trio() -> bool:
    """Whether the running code is a task of trio."""
    # Nobody runs trio who has not imported it, so capx does not depend on it.
    if "trio" not in sys.modules:
        return False
    import trio

    with suppress(RuntimeError):
        trio.lowlevel.current_task()
        return True
    return False


def in_event_loop() -> bool:
    """Whether this thread runs an event loop of asyncio or trio, which no wait may block."""
    import asyncio

    with suppress(RuntimeError):
        asyncio.get_running_loop()
        return True
    return in_trio()


def asyncio_loop() -> "asyncio.AbstractEventLoop":
    """Return the running event loop of asyncio; ConfigurationProblem if there is none."""
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationProblem(
            "capx waits for its threads under asyncio and trio only: run this code under one of them"
        ) from None


def _asyncio_future(future: "Future[T]") -> "asyncio.Future[T]":
    """Return a future for the running event loop; its cancellation ends the wait, and not the work."""
    loop = asyncio_loop()
    waiting: asyncio.Future[T] = loop.create_future()

    def pass_on() -> None:
        if waiting.done():
            return
        error = future.exception()
        if error is None:
            waiting.set_result(future.result())
        else:
            waiting.set_exception(error)

    def wake_loop(_: "Future[T]") -> None:
        # In the thread of the work: futures of a loop may only be set in the loop's own thread.
        with suppress(RuntimeError):  # the loop was closed in the meantime
            loop.call_soon_threadsafe(pass_on)

    future.add_done_callback(wake_loop)
    return waiting


def _done_in_trio(future: "Future[Any]") -> "trio.Event":
    """Return an event that is set when the future is done."""
    import trio

    done, token = trio.Event(), trio.lowlevel.current_trio_token()

    def wake_loop(_: object) -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(done.set)

    future.add_done_callback(wake_loop)
    return done


async def _outlast_in_asyncio(future: "Future[Any]", ends: float) -> BaseException | None:
    import asyncio

    waiting = _asyncio_future(future)
    cancelled: BaseException | None = None
    while not waiting.done() and (left := ends - time.monotonic()) > 0:
        try:
            # `wait` keeps the future alive when this task is cancelled; awaiting the future itself would cancel it.
            await asyncio.wait([waiting], timeout=left)
        except asyncio.CancelledError as cancellation:
            cancelled = cancellation
    if waiting.done():
        # Look at its error, or asyncio logs that nobody did. The caller reads the result of the future itself.
        waiting.exception()
    waiting.cancel()
    return cancelled


async def _outlast_in_trio(future: "Future[Any]", ends: float) -> BaseException | None:
    import trio

    with trio.move_on_after(max(0.0, ends - time.monotonic()), shield=True):
        await _done_in_trio(future).wait()
    try:
        await trio.lowlevel.checkpoint_if_cancelled()
    except trio.Cancelled as cancellation:
        return cancellation
    return None
