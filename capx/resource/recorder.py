"""How a verifier's decisions reach the log: through a bounded queue, written by a thread of its own.

Laws: a slot is reserved before a decision is made; when there is none, nothing may be decided. Recording then never
fails and never waits: a decision does not change because a disk is slow. Decisions are written in the order in which
they were recorded, and each once; while the store fails they are kept and tried again. What no log can hold costs a
decision its values, at worst its reasons, and holds up no other; nothing ends the writer.
"""

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Protocol

from msgspec import UNSET, Struct, json
from msgspec.structs import replace

from capx import diagnostics
from capx.background import begin_in_each_process
from capx.errors import Unavailable
from capx.store.records import DecisionRecord, Unwritable
from capx.verify.decision import Decision

_BATCH = 500
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_AT_EXIT = 2.0
# What a decision of its own may cause, however well the store is.
_OF_A_DECISION = (Unwritable, OverflowError, MemoryError)


class _Record(Struct, frozen=True):
    """A decision as it will stand in the log."""

    id: str
    at: int
    body: bytes
    shorter: Iterator[bytes]


class Ledger(Protocol):
    """What keeps decisions: a store, or an authority elsewhere."""

    def record(self, decisions: Sequence[DecisionRecord]) -> None:
        """Write decisions to the log, in their order; one of its audience whose id is there already is passed over."""
        ...


class StoreRecorder:
    """Writes decisions to a store, with room for `capacity` that are not written yet; safe with several threads."""

    def __init__(self, store: Ledger, capacity: int = 10_000) -> None:
        self._store = store
        self._capacity = capacity
        begin_in_each_process(self._begin)
        _open_recorders.add(self)
        # Last registered is first run: before the store that this one writes to is closed at exit.
        atexit.unregister(_write_what_waits)
        atexit.register(_write_what_waits)

    def _begin(self) -> None:
        # The thread and what it is to write stay with the parent.
        self._changed = threading.Condition()
        self._waiting: deque[_Record] = deque()
        self._taken = 0
        self._closing = False
        self._writer: threading.Thread | None = None
        self._problem: Exception | None = None

    @property
    def problem(self) -> Exception | None:
        """Why decisions are not written; None while they are."""
        return self._problem

    @problem.setter
    def problem(self, problem: Exception | None) -> None:
        self._problem = problem
        if problem is not None:
            diagnostics.warn_once(f"decisions are not written: {problem}")

    def reserve(self) -> None:
        """Take a slot for one decision; Unavailable when all are taken."""
        with self._changed:
            if self._closing:
                raise Unavailable("cannot record another decision: the recorder was closed")
            if self._taken >= self._capacity:
                # A writer that could not start would leave it at that.
                self._ensure_writer()
                raise Unavailable(f"cannot record another decision: {self._taken} wait to be written")
            self._taken += 1

    def record(self, decision: Decision) -> None:
        """Hand over a decision for the slot that was taken; it is written soon."""
        bodies = _bodies(decision)
        entry = _Record(decision.id, decision.at, next(bodies), bodies)
        with self._changed:
            self._waiting.append(entry)
            self._ensure_writer()
            self._changed.notify_all()

    @property
    def unwritten(self) -> int:
        """How many decisions wait to be written."""
        return len(self._waiting)

    def flush(self, timeout: float = 5.0) -> bool:
        """Whether all that was recorded is written, after waiting up to `timeout` seconds for it."""
        with self._changed:
            self._ensure_writer()
            return self._changed.wait_for(lambda: not self._waiting, timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Whether all is written, after up to `timeout` seconds; no more decisions are taken."""
        ends = time.monotonic() + timeout
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            writer = self._writer
        written = self.flush(timeout)
        if writer is not None and written:
            writer.join(max(0.0, ends - time.monotonic()))
        self.tell_unwritten()
        return written

    def tell_unwritten(self) -> None:
        """Say how many decisions are lost if the process ends now."""
        if count := self.unwritten:
            diagnostics.warn_once(
                f"{count} decisions were not written and are lost when this process ends: {self.problem}"
            )

    def _ensure_writer(self) -> None:
        """Start the writer if there is something to write; when no thread can be had, the next caller tries again."""
        if self._writer is not None or not self._waiting:
            return
        writer = threading.Thread(target=self._write, name="capx-recorder", daemon=True)
        try:
            writer.start()
        except (RuntimeError, MemoryError) as error:
            self.problem = error
        else:
            self._writer = writer

    def _write(self) -> None:
        pause, suspects = _FIRST_PAUSE, 0
        while batch := self._next(1 if suspects else _BATCH):
            try:
                self._append(batch)
            except _OF_A_DECISION as error:
                self.problem = error
                if len(batch) > 1:
                    suspects = len(batch)
                    continue
                if self._shorten():
                    continue
            except Exception as error:  # noqa: BLE001 # whatever it is, a writer that ended would lose decisions
                self.problem = error
            else:
                self._written(len(batch))
                pause, suspects = _FIRST_PAUSE, max(0, suspects - len(batch))
                continue
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _shorten(self) -> bool:
        """Whether there was a shorter form of the next decision; it takes its place."""
        first = self._waiting[0]
        body = next(first.shorter, None)
        if body is None:
            return False
        self._waiting[0] = replace(first, body=body)
        return True

    def _written(self, count: int) -> None:
        with self._changed:
            for _ in range(count):
                self._waiting.popleft()
            self._taken -= count
            self.problem = None
            self._changed.notify_all()

    def _next(self, most: int) -> list[_Record]:
        """The next decisions, waited for, which stay in the queue; none when all is done."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            return list(islice(self._waiting, most))

    def _append(self, batch: list[_Record]) -> None:
        # A commit that reported a failure may have succeeded: what is there already is passed over.
        self._store.record([DecisionRecord(entry.id, entry.at, entry.body) for entry in batch])


def _bodies(decision: Decision) -> Iterator[bytes]:
    """The bodies of its event that can be encoded, ever shorter: a service's own caveat may refuse with anything."""
    without_given = tuple(replace(refusal, given=UNSET) for refusal in decision.refusals)
    for refusals in (decision.refusals, without_given):
        with suppress(Exception):
            yield json.encode(replace(decision, refusals=refusals).body())
    yield json.encode(replace(decision, refusals=()).body())


_open_recorders: "weakref.WeakSet[StoreRecorder]" = weakref.WeakSet()


def _write_what_waits() -> None:
    for recorder in list(_open_recorders):
        recorder.flush(_AT_EXIT)
        recorder.tell_unwritten()
