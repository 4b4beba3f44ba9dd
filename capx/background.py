"""Runs work in a new thread, for which another thread or an event loop can wait; renews objects in a forked child.

Laws: the work runs to its end, even if nobody waits for it any more. It blocks no event loop, and no thread of a shared
pool. A forked child has none of its parent's threads, so it must not use a lock that one of them may have held.
"""

import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from capx.errors import Unavailable

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

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


def wait_async(future: "Future[T]") -> "asyncio.Future[T]":
    """Return a future for the running event loop; its cancellation ends the wait, and not the work."""
    import asyncio

    loop = asyncio.get_running_loop()
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
