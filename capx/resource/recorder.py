"""Writes a verifier's decisions to the log: a thread takes them from a bounded queue.

Laws:

- The verifier reserves a slot before it decides. If no slot is free, it may not decide.
- Then recording never fails and never waits, so a slow disk does not change a decision.
- The writer writes decisions in the order in which they were recorded, each once. While the store fails, it keeps them
  and tries again.
- If a log refuses a decision, the writer writes a shorter form of it. Other decisions do not wait for it. No error ends
  the writer.
- With a spool, what waits is in a file too, and a decision that the log refuses in all forms goes to a file beside.
"""

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct
from msgspec.structs import replace

from capx import diagnostics
from capx.background import begin_in_each_process
from capx.crypto.instants import seconds
from capx.errors import Unavailable
from capx.resource.decision_forms import forms
from capx.store.records import DecisionRecord, Unwritable
from capx.verify.decision import Decision

if TYPE_CHECKING:
    from capx.resource.spool import Spool

# Decisions in one commit: each commit waits for the disk once.
_BATCH = 500
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
# Seconds that the end of the process waits for each recorder: a store that is gone must not hold it up.
_AT_EXIT = 2.0
# Errors that one decision may cause although the store is well.
_CAUSED_BY_DECISION = (Unwritable, OverflowError, MemoryError)


class _Record(Struct, frozen=True):
    """A decision as the log will hold it; `others` gives other forms of it, if this one cannot be written."""

    form: DecisionRecord
    others: Iterator[DecisionRecord]


class Ledger(Protocol):
    """Keeps decisions: a store, or an authority elsewhere."""

    def record(self, decisions: Sequence[DecisionRecord]) -> None:
        """Write decisions to the log in their order; skip a decision whose id its audience has in the log already."""
        ...


class StoreRecorder:
    """Writes decisions to a store; holds up to `capacity` that are not written yet; safe with several threads.

    A decision waits `together` seconds for others, to be written with them. To write each by itself would cost a call
    several times what judging costs, and hold up the thread that makes the calls. A `spool` keeps in a file what waits.
    """

    def __init__(
        self, store: Ledger, capacity: int = 10_000, *, together: float = 0.02, spool: "Spool | None" = None
    ) -> None:
        self._store = store
        self._spool = spool
        self._capacity = capacity
        self._together = seconds("together", together)
        begin_in_each_process(self._begin)
        _open_recorders.add(self)
        # Exit runs the newest registration first: register again, to run before the store of this recorder closes.
        atexit.unregister(_flush_at_exit)
        atexit.register(_flush_at_exit)

    def _begin(self) -> None:
        # A forked child starts with an empty queue: the parent's thread writes the parent's decisions. A copy of them
        # would be written twice.
        self._changed = threading.Condition()
        self._waiting: deque[_Record] = deque()
        self._taken = 0
        self._closing = self._closed = False
        self._flushing = 0
        self._writer: threading.Thread | None = None
        self._problem: Exception | None = None

    @property
    def problem(self) -> Exception | None:
        """Why decisions are not written; None while they are."""
        return self._problem

    @problem.setter
    def problem(self, problem: Exception | None) -> None:
        self._problem = problem
        # What waits was told at the end; the writer may still try, over a connection that is closed.
        if problem is not None and not self._closed:
            diagnostics.warn_once(f"decisions are not written: {problem}")

    def reserve(self) -> None:
        """Take a slot for one decision; Unavailable when all are taken."""
        with self._changed:
            if self._closing:
                raise Unavailable("cannot record another decision: the recorder was closed")
            if self._taken >= self._capacity:
                # If the writer could not start before, nobody else would start it: no further decision is recorded.
                self._ensure_writer()
                raise Unavailable(f"cannot record another decision: {self._taken} wait to be written")
            if self._spool is not None and self._spool.is_stuck:
                raise Unavailable(
                    f"cannot record another decision: the authority does not answer, and the spool cannot be written: "
                    f"{self._spool.problem}"
                )
            self._taken += 1

    def record(self, decision: Decision) -> None:
        """Queue a decision for the slot that was reserved; it is written soon."""
        # Encode here: the writer must not see values that the caller changes later.
        others = forms(decision)
        entry = _Record(next(others), others)
        with self._changed:
            # First to the spool. What was in the queue alone, as something was raised between, would never leave it.
            if self._spool is not None:
                self._spool.keep(entry.form.body)
            self._waiting.append(entry)
            self._ensure_writer()
            # Only when the writer waits for this: to wake it costs as much as to judge a call.
            if len(self._waiting) in {1, _BATCH}:
                self._changed.notify_all()

    @property
    def unwritten(self) -> int:
        """How many decisions wait to be written."""
        return len(self._waiting)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait up to `timeout` seconds, and return whether all recorded decisions are written."""
        seconds("timeout", timeout)
        with self._changed:
            self._ensure_writer()
            self._flushing += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: not self._waiting, timeout)
            finally:
                self._flushing -= 1

    def close(self, timeout: float = 5.0) -> bool:
        """Take no more decisions, wait up to `timeout` seconds, and return whether all are written."""
        ends = time.monotonic() + seconds("timeout", timeout)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            writer = self._writer
        written = self.flush(timeout)
        if writer is not None and written:
            writer.join(max(0.0, ends - time.monotonic()))
        self.tell_unwritten()
        self._closed = True
        return written

    def tell_unwritten(self) -> None:
        """Warn how many decisions are lost if the process ends now; those in a spool are not."""
        count = self.unwritten
        lost = count if self._spool is None else min(count, self._spool.settle())
        if self._spool is not None and count > lost:
            where = f"the spool {self._spool.path}"
            diagnostics.warn_once(f"{count - lost} decisions wait in {where}: the next process with it reports them")
        if lost:
            diagnostics.warn_once(f"{lost} decisions were not written and are lost with this process: {self.problem}")

    def _ensure_writer(self) -> None:
        """Start the writer if there is something to write; if no thread can be started, the next caller tries again."""
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
        # One decision may make a batch fail. After such a failure, write the `suspects` one by one: only the decision
        # that cannot be written is shortened.
        pause, suspects = _FIRST_PAUSE, 0
        while batch := self._next(1 if suspects else _BATCH):
            try:
                self._append(batch)
            except _CAUSED_BY_DECISION as error:
                self.problem = error
                if len(batch) > 1:
                    suspects = len(batch)
                    continue
                if self._change_form() or self._is_refused(error):
                    continue
            except Exception as error:  # noqa: BLE001 # if the writer ended, decisions would be lost
                self.problem = error
            else:
                self._written(len(batch))
                pause, suspects = _FIRST_PAUSE, max(0, suspects - len(batch))
                continue
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _change_form(self) -> bool:
        """Give the next decision its next form; return whether it has one."""
        first = self._waiting[0]
        form = next(first.others, None)
        if form is None:
            return False
        self._waiting[0] = replace(first, form=form)
        return True

    def _is_refused(self, why: Exception) -> bool:
        """Write the next decision beside the spool; return whether there is a spool, and this was possible."""
        if self._spool is None or not self._spool.refuse(why):
            return False
        self._written(1)
        return True

    def _written(self, count: int) -> None:
        with self._changed:
            if self._spool is not None:
                self._spool.answered(count)
            for _ in range(count):
                self._waiting.popleft()
            self._taken -= count
            self.problem = None
            self._changed.notify_all()

    def _next(self, most: int) -> list[_Record]:
        """Wait for the next decisions, and leave them in the queue; none if the recorder is closed and empty."""
        # They leave the queue when they are written: `unwritten` counts them, and a failure loses none.
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            self._changed.wait_for(
                lambda: len(self._waiting) >= most or self._closing or self._flushing, self._together
            )
            return list(islice(self._waiting, most))

    def _append(self, batch: list[_Record]) -> None:
        # A commit that reported a failure may have succeeded. So this may repeat decisions: the store skips them.
        self._store.record([entry.form for entry in batch])


_open_recorders: "weakref.WeakSet[StoreRecorder]" = weakref.WeakSet()


def _flush_at_exit() -> None:
    for recorder in list(_open_recorders):
        recorder.flush(_AT_EXIT)
        recorder.tell_unwritten()
