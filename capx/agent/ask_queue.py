"""Errands to the authority: what an agent asks for, each in a thread of its own, for however many wait for its answer.

Laws: there is one errand at a time for one need. Whoever stops waiting leaves the others waiting. What is granted is
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


class Errands:
    """The errands of one agent; `ask` waits for a person up to so many seconds, `hold` keeps what was granted."""

    def __init__(self, ask: Callable[[Ask, float], Answer], hold: Callable[[Capability], None]) -> None:
        self._ask = ask
        self._hold = hold
        self._under_way: dict[_Key, _Errand] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def run(self, ask: Ask, wait: float) -> Answer:
        """What comes of an ask, a person's answer within `wait` seconds."""
        ends = time.monotonic() + wait
        errand = self._joined(ask, ends)
        answer = errand.first.result()
        if isinstance(answer, Pending):
            with suppress(TimeoutError):
                answer = errand.last.result(max(0.0, ends - time.monotonic()))
        return answer

    async def run_async(self, ask: Ask, wait: float) -> Answer:
        """`run` in an event loop; whoever is cancelled leaves at once."""
        import asyncio

        ends = time.monotonic() + wait
        errand = self._joined(ask, ends)
        answer = await wait_async(errand.first)
        if isinstance(answer, Pending):
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, ends - time.monotonic())):
                    answer = await wait_async(errand.last)
        return answer

    def close(self) -> None:
        """Let nobody wait for a person any more."""
        self._closed.set()
        with self._lock:
            for errand in self._under_way.values():
                if errand.first.done() and not errand.last.done():
                    errand.last.set_result(errand.first.result())

    def _joined(self, ask: Ask, ends: float) -> "_Errand":
        key = (ask.audience, ask.action, ask.pinned)
        with self._lock:
            errand = self._under_way.get(key)
            if errand is not None:
                errand.ends = max(errand.ends, ends)
                return errand
            errand = self._under_way[key] = _Errand(ask, ends)
        work = run_in_thread(lambda: self._answer(key, errand), name="capx-ask")
        work.add_done_callback(lambda done: self._settle(key, errand, done))
        return errand

    def _answer(self, key: _Key, errand: "_Errand") -> Answer:
        answer = self._once(errand.ask, 0.0)
        while isinstance(answer, Pending):
            if not errand.first.done():
                errand.first.set_result(answer)
            with self._lock:
                left = errand.ends - time.monotonic()
                if left <= 0 or self._closed.is_set():
                    self._forget(key, errand)
                    break
            try:
                answer = self._once(errand.ask, min(left, _SLICE))
            except StoreProblem:
                # An authority that is away for a moment has not answered.
                self._closed.wait(min(left, _AFTER_TROUBLE))
        return answer

    def _once(self, ask: Ask, wait: float) -> Answer:
        answer = self._ask(ask, wait)
        if isinstance(answer, Granted):
            self._hold(answer.capability)
        return answer

    def _settle(self, key: _Key, errand: "_Errand", done: "Future[Answer]") -> None:
        error = done.exception()
        with self._lock:
            self._forget(key, errand)
            for future in (errand.first, errand.last):
                if future.done():
                    continue
                if error is None:
                    future.set_result(done.result())
                else:
                    future.set_exception(error)

    def _forget(self, key: _Key, errand: "_Errand") -> None:
        if self._under_way.get(key) is errand:
            del self._under_way[key]


class _Errand:
    """One errand: its first answer, its last, and until when it waits for a person (monotonic seconds)."""

    def __init__(self, ask: Ask, ends: float) -> None:
        self.ask = ask
        self.ends = ends
        self.first: Future[Answer] = Future()
        self.last: Future[Answer] = Future()
