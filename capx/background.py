"""Work in a thread of its own, for which another thread or an event loop can wait; and what a forked child begins anew.

Laws: such work goes on to its end, whoever stops waiting; it holds up neither a loop nor a thread that others may need.
A forked child has none of its parent's threads, so it never uses a lock that one of them may have held.
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

    A child calls it before it runs any other code, and has one thread then. What the method makes, such as a lock, is
    the child's own. Other hooks of the fork may not have run yet: it lets go of nothing that they have to disown.
    """
    begin()
    _beginnings.add(weakref.WeakMethod(begin, _beginnings.discard))


_beginnings: "set[weakref.WeakMethod[Callable[[], None]]]" = set()


def _begin_anew() -> None:
    for reference in list(_beginnings):
        if (begin := reference()) is not None:
            begin()


os.register_at_fork(after_in_child=_begin_anew)


def run_in_thread(work: Callable[[], T], *, name: str) -> "Future[T]":
    """Begin; what comes of it: Unavailable if no thread can be had. The process does not wait for it at its end."""
    from concurrent.futures import Future  # slow to import, and needed by few

    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 # told to whoever waits
            future.set_exception(error)
        else:
            future.set_result(result)

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except (RuntimeError, MemoryError) as error:
        future.set_exception(Unavailable(f"no thread can be had: {error}"))
    return future


def wait_async(future: "Future[T]") -> "asyncio.Future[T]":
    """What the running loop can wait for; to cancel it is to wait no longer."""
    import asyncio

    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[T] = loop.create_future()

    def tell() -> None:
        if waiting.done():
            return
        error = future.exception()
        if error is None:
            waiting.set_result(future.result())
        else:
            waiting.set_exception(error)

    def told(_: "Future[T]") -> None:
        with suppress(RuntimeError):  # a loop that was closed meanwhile waits for nothing
            loop.call_soon_threadsafe(tell)

    future.add_done_callback(told)
    return waiting
