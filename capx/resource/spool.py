"""Keeps decisions in a file until the authority has answered for them, for a service that ends while it is away.

Laws:

- A decision that waits is in the file of its process some 20 ms after it was recorded, and leaves it only after the
  authority has answered for it. Whoever kills the process loses what was recorded within these 20 ms, and nothing else.
- The lines are on the disk before the process ends normally, and also while the authority has answered for nothing
  within a second. While it answers, lines are fsynced only if the file is begun anew. No call waits for a disk.
- A decision that the authority refuses in all forms goes to a file beside, and the logger `capx` is told.
- The file holds what waits, and answered lines in front of it: at most as many as wait, and 10 000 more.
- While the authority is away and the file cannot be written, the recorder takes no further decision.
"""

import threading
import time
from collections import deque
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from capx import diagnostics
from capx.background import begin_in_each_process
from capx.crypto.keys import AudienceKeys
from capx.resource.spool_files import SpoolFile, SpoolFolder
from capx.resource.spool_orphans import Orphans, Report

_TICK: Final = 0.02
# Seconds without an answer after which the authority counts as away, and between two tries to write.
_AWAY: Final = 1.0
# The answered lines that may stand in a file, beside as many as wait.
_ANSWERED: Final = 10_000


class Spool:
    """The decisions of this process that the authority has not answered for, in memory and in a file of `folder`.

    Raises ConfigurationProblem if no file can be made there. A recorder calls `keep` and `answered`, in the order of
    its queue.
    """

    def __init__(self, folder: str, keys: AudienceKeys) -> None:
        self._folder = SpoolFolder(Path(folder), keys)
        self._file: SpoolFile | None = None
        self._orphans: Orphans | None = None
        begin_in_each_process(self._begin)
        self._orphans = Orphans(self._folder, keys.audience, self._folder.orphans())
        try:
            self._file = self._folder.create()
        except BaseException:
            self._orphans.end()
            raise

    def _begin(self) -> None:
        # A forked child makes a file when it decides.
        self._file = self._orphans = None
        self.problem: Exception | None = None
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._news = threading.Event()
        self._keeper: threading.Thread | None = None
        # The lines that wait. Counted from the first of this process: how many were answered for, and are in a file.
        self._waiting: deque[bytes] = deque()
        self._answered = self._saved = 0
        self._waiting_since = 0.0

    def __repr__(self) -> str:
        return f"Spool({str(self.path)!r})"

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder.path

    @property
    def is_stuck(self) -> bool:
        """Whether the authority is away, and what waits for it cannot be written either."""
        return self.problem is not None and self._is_away

    @property
    def _is_away(self) -> bool:
        return bool(self._waiting) and time.monotonic() - self._waiting_since > _AWAY

    def keep(self, line: bytes) -> None:
        """Take a decision that waits; a thread writes it soon."""
        with self._lock:
            if not self._waiting:
                self._waiting_since = time.monotonic()
            self._waiting.append(line)
            if self._keeper is None:
                self._start_keeper()
        # It costs less to look. Whoever clears it looks at the queue afterwards.
        if not self._news.is_set():
            self._news.set()

    def answered(self, count: int) -> None:
        """Forget the decisions that have waited longest: the authority has answered for them."""
        with self._lock:
            for _ in range(count):
                self._waiting.popleft()
            self._answered += count
            self._waiting_since = time.monotonic()
        self._news.set()

    def refuse(self, why: Exception) -> bool:
        """Write the decision that has waited longest beside, as no log takes it; return whether that was possible."""
        try:
            self._folder.keep_refused(self._waiting[0], why)
        except Exception as error:  # noqa: BLE001 # it stays in the queue
            diagnostics.warn_once(f"a decision that no log takes cannot be kept in {self.path}: {error}")
            return False
        return True

    def settle(self) -> int:
        """Have what waits on the disk, and let another process take it over; return how many could not be written."""
        if self._orphans is not None:
            self._orphans.end()
        self._keeper = None
        self._news.set()
        with self._writing:
            self._try_to_save(sync=True)
            file, self._file = self._file, None
            with self._lock:
                is_over = self._saved <= self._answered
                unwritten = len(self._waiting) - max(0, self._saved - self._answered)
            if file is not None:
                with suppress(OSError):
                    (file.remove if is_over else file.close)()
        return unwritten

    def take_over(self, report: Report) -> None:
        """Begin to report what processes that are gone have left, beside the decisions of this one."""
        if self._orphans is not None:
            self._orphans.begin(report)

    def _start_keeper(self) -> None:
        keeper = threading.Thread(target=self._keep, name="capx-spool", daemon=True)
        try:
            keeper.start()
        except (RuntimeError, MemoryError) as error:
            # The next decision tries again.
            self.problem = error
        else:
            self._keeper = keeper

    def _keep(self) -> None:
        me = threading.current_thread()
        while True:
            file = self._file
            self._news.wait(None if self.problem is None and (file is None or file.synced) else _AWAY)
            time.sleep(_TICK)
            if self._keeper is not me:
                return
            self._news.clear()
            with self._writing:
                self._try_to_save(sync=self._is_away)

    def _try_to_save(self, *, sync: bool) -> None:
        try:
            self._save(sync=sync)
        except Exception as error:  # noqa: BLE001 # a thread that ended would save nothing any more
            self.problem = error
            diagnostics.warn_once(f"decisions cannot be kept in the spool {self.path}: {error}")
        else:
            self.problem = None

    def _save(self, *, sync: bool) -> None:
        """Write what waits and is in no file yet; take away what was answered for, if that is much or all."""
        if self._file is not None and not self._file.is_there:
            self._lose_file()
        with self._lock:
            answered, until = self._answered, self._answered + len(self._waiting)
            new = list(islice(self._waiting, max(0, self._saved - answered), None))
            held = list(self._waiting) if self._is_long(until - answered) else None
        if held is not None:
            self._begin_file(held)
        elif self._file is not None and self._file.count and self._saved <= answered:
            self._file.empty()
        if new and held is None:
            self._file = self._file or self._folder.create()
            self._file.append(new)
        self._saved = until
        if sync and self._file is not None and not self._file.synced:
            self._file.sync()

    def _lose_file(self) -> None:
        """Write again, into another file, what was in one that somebody has removed."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
        self._saved = 0

    def _is_long(self, waiting: int) -> bool:
        return self._file is not None and self._file.count > 2 * waiting + _ANSWERED and self._saved > self._answered

    def _begin_file(self, held: list[bytes]) -> None:
        """Go on in a new file, without the lines that were answered for; the old one is there until this one is."""
        old, new = self._file, self._folder.create()
        try:
            new.append(held)
            new.sync()
        except BaseException:
            new.remove()
            raise
        self._file = new
        if old is not None:
            old.remove()
