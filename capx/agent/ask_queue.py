"""The asks of one agent that wait for an answer, each in a thread of its own; several callers may wait for one.

Laws: the queue never asks for the same thing twice at a time. A caller that stops waiting does not disturb the others.
The agent holds what is granted, even if no caller waits any more. A caller waits without a limit for the first answer
of the authority, but for the answer of a person only as many seconds as it gave. A forked child has none of the threads
that wait, so it asks anew.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Final

from capx.background import begin_in_each_process, run_in_thread, wait_async
from capx.errors import StoreProblem
from capx.tokens.capability import Capability
from capx.tokens.discharge import Discharge
from capx.verify.ask import Answer, Approved, Ask, Granted, Pending

_SLICE: Final = 25.0
"""The most seconds that one request waits for a person."""
_AFTER_TROUBLE: Final = 1.0
"""Seconds before the next request, when the authority could not answer one."""

_Key = tuple[str, str, bytes | None, str | None]


class AskQueue:
    """The asks of one agent that wait for an answer.

    `ask` sends an ask, and waits for a person up to so many seconds; `hold` keeps what was granted or approved on it.
    """

    def __init__(
        self, ask: Callable[[Ask, float], Answer], hold: Callable[[Ask, Capability | Discharge], None]
    ) -> None:
        self._ask = ask
        self._hold = hold
        self._closed = threading.Event()
        begin_in_each_process(self._begin)

    def _begin(self) -> None:
        was_closed = self._closed.is_set()
        self._under_way: dict[_Key, _QueuedAsk] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        if was_closed:
            self._closed.set()

    def run(self, ask: Ask, wait: float) -> Answer:
        """Return the answer to an ask; it waits for a person up to `wait` seconds."""
        ends = time.monotonic() + wait
        queued = self._joined(ask, ends)
        answer = queued.first.result()
        if isinstance(answer, Pending):
            with suppress(TimeoutError):
                answer = queued.last.result(max(0.0, ends - time.monotonic()))
        return answer

    async def run_async(self, ask: Ask, wait: float) -> Answer:
        """`run` in an async task; a caller that is cancelled returns at once."""
        ends = time.monotonic() + wait
        queued = self._joined(ask, ends)
        answer = await wait_async(queued.first)
        if isinstance(answer, Pending):
            with suppress(TimeoutError):
                answer = await wait_async(queued.last, max(0.0, ends - time.monotonic()))
        return answer

    def close(self) -> None:
        """Make all callers stop waiting for people."""
        self._closed.set()
        with self._lock:
            for queued in self._under_way.values():
                # Only those that wait for a person. The others get their first answer, as without `close`.
                if queued.first.done() and not queued.last.done():
                    queued.last.set_result(queued.first.result())

    def _joined(self, ask: Ask, ends: float) -> "_QueuedAsk":
        key = ask.key
        with self._lock:
            queued = self._under_way.get(key)
            if queued is not None:
                # The ask goes on for the caller that waits longest.
                queued.ends = max(queued.ends, ends)
                return queued
            queued = self._under_way[key] = _QueuedAsk(ask, ends)
        # Outside the lock: if the work is done by now, `_settle` runs in this very thread, and takes the lock.
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
                # Within the lock, so that no caller can join an ask that has just stopped waiting.
                if left <= 0 or self._closed.is_set():
                    self._forget(key, queued)
                    break
            try:
                answer = self._once(queued.ask, min(left, _SLICE))
            except StoreProblem:
                # No news about the ask: the authority is away for a moment. The person may still answer.
                self._closed.wait(min(left, _AFTER_TROUBLE))
        return answer

    def _once(self, ask: Ask, wait: float) -> Answer:
        answer = self._ask(ask, wait)
        # Here and not in the caller, which may be gone.
        if isinstance(answer, Granted):
            self._hold(ask, answer.capability)
        elif isinstance(answer, Approved):
            self._hold(ask, answer.discharge)
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
        # The same ask may have been queued anew meanwhile: leave that one.
        if self._under_way.get(key) is queued:
            del self._under_way[key]


class _QueuedAsk:
    """An ask with its first answer and its last; it waits for a person until `ends` (monotonic seconds)."""

    def __init__(self, ask: Ask, ends: float) -> None:
        self.ask = ask
        self.ends = ends
        self.first: Future[Answer] = Future()
        self.last: Future[Answer] = Future()
