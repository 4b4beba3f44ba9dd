"""The asks of one agent that are under way, each in a thread of its own; any number of callers wait for its answer.

Laws: the same ask is under way once at a time. Whoever stops waiting leaves the others waiting. What is granted is
held, whoever is still there. The first answer is waited for as long as it takes; that of a person only so long.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Final

from capx.background import run_in_thread, wait_async
from capx.errors import StoreProblem
from capx.tokens.capability import Capability
from capx.verify.ask import Answer, Ask, Granted, Pending

_SLICE: Final = 25.0
"""Seconds for which a person is waited for at a time."""
_AFTER_TROUBLE: Final = 1.0

_Key = tuple[str, str, bytes | None]


class AskQueue:
    """The asks of one agent that are under way.

    `ask` asks, and waits for a person up to so many seconds; `hold` keeps what was granted.
    """

    def __init__(self, ask: Callable[[Ask, float], Answer], hold: Callable[[Capability], None]) -> None:
        self._ask = ask
        self._hold = hold
        self._under_way: dict[_Key, _QueuedAsk] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def run(self, ask: Ask, wait: float) -> Answer:
        """What comes of an ask, a person's answer within `wait` seconds."""
        ends = time.monotonic() + wait
        queued = self._joined(ask, ends)
        answer = queued.first.result()
        if isinstance(answer, Pending):
            with suppress(TimeoutError):
                answer = queued.last.result(max(0.0, ends - time.monotonic()))
        return answer

    async def run_async(self, ask: Ask, wait: float) -> Answer:
        """`run` in an event loop; whoever is cancelled leaves at once."""
        import asyncio

        ends = time.monotonic() + wait
        queued = self._joined(ask, ends)
        answer = await wait_async(queued.first)
        if isinstance(answer, Pending):
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, ends - time.monotonic())):
                    answer = await wait_async(queued.last)
        return answer

    def close(self) -> None:
        """Let nobody wait for a person any more."""
        self._closed.set()
        with self._lock:
            for queued in self._under_way.values():
                if queued.first.done() and not queued.last.done():
                    queued.last.set_result(queued.first.result())

    def _joined(self, ask: Ask, ends: float) -> "_QueuedAsk":
        key = (ask.audience, ask.action, ask.pinned)
        with self._lock:
            queued = self._under_way.get(key)
            if queued is not None:
                queued.ends = max(queued.ends, ends)
                return queued
            queued = self._under_way[key] = _QueuedAsk(ask, ends)
        work = run_in_thread(lambda: self._answer(key, queued), name="capx-ask")
        work.add_done_callback(lambda done: self._settle(key, queued, done))
        return queued

    def _answer(self, key: _Key, queued: "_QueuedAsk") -> Answer:
        answer = self._once(queued.ask, 0.0)
        while isinstance(answer, Pending):
            if not queued.first.done():
                queued.first.set_result(answer)
            with self._lock:
                left = queued.ends - time.monotonic()
                if left <= 0 or self._closed.is_set():
                    self._forget(key, queued)
                    break
            try:
                answer = self._once(queued.ask, min(left, _SLICE))
            except StoreProblem:
                # An authority that is away for a moment has not answered.
                self._closed.wait(min(left, _AFTER_TROUBLE))
        return answer

    def _once(self, ask: Ask, wait: float) -> Answer:
        answer = self._ask(ask, wait)
        if isinstance(answer, Granted):
            self._hold(answer.capability)
        return answer

    def _settle(self, key: _Key, queued: "_QueuedAsk", done: "Future[Answer]") -> None:
        error = done.exception()
        with self._lock:
            self._forget(key, queued)
            for future in (queued.first, queued.last):
                if future.done():
                    continue
                if error is None:
                    future.set_result(done.result())
                else:
                    future.set_exception(error)

    def _forget(self, key: _Key, queued: "_QueuedAsk") -> None:
        if self._under_way.get(key) is queued:
            del self._under_way[key]


class _QueuedAsk:
    """One ask under way: its first answer, its last, and until when it waits for a person (monotonic seconds)."""

    def __init__(self, ask: Ask, ends: float) -> None:
        self.ask = ask
        self.ends = ends
        self.first: Future[Answer] = Future()
        self.last: Future[Answer] = Future()
