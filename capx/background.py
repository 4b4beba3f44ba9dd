"""Work in a thread of its own; another thread or an event loop can wait for it.

Law: it goes on to its end, whoever stops waiting; it holds up neither a loop nor a thread that others may need.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from capx.errors import Unavailable

T = TypeVar("T")


def run_in_thread(work: Callable[[], T], *, name: str) -> "Future[T]":
    """Begin; what comes of it: Unavailable if no thread can be had. The process does not wait for it at its end."""
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
