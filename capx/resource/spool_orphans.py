"""Reports the decisions in files of a spool whose processes are gone.

Laws: each file is reported in its order, and removed when the authority has answered for all of it. Until then it may
be reported again, by this process or the next: the log has each decision once. A last line that was cut off is passed
over. What is no decision of the audience, or is refused in all forms, goes to a file beside. While the authority is
away, a thread keeps trying; the process does not wait for it. Once a minute it looks for files of processes that have
ended since.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final

from msgspec import MsgspecError, Struct, json

from capx import diagnostics
from capx.background import run_in_thread
from capx.resource.decision_forms import shorter
from capx.resource.spool_files import MOST, SpoolFile, SpoolFolder
from capx.store.records import DecisionRecord, Unwritable

if TYPE_CHECKING:
    from concurrent.futures import Future

Report = Callable[[Sequence[DecisionRecord]], None]
"""Reports decisions, and returns when the authority has answered for all of them."""

_TOGETHER: Final = 500
# Seconds between two tries, between two looks for files, and for which the end of a service waits for a report that is
# under way.
_PAUSE: Final = 1.0
_AGAIN: Final = 60.0
_PATIENCE: Final = 2.0


class _Line(Struct):
    """What is read from a line; the authority reads the rest."""

    id: str
    at: int
    audience: str


class Orphans:
    """The files that this process has taken over."""

    def __init__(self, folder: SpoolFolder, audience: str, files: list[SpoolFile]) -> None:
        self._folder = folder
        self._audience = audience
        self._files = files
        self._over = threading.Event()
        self._reporting: Future[None] | None = None

    def begin(self, report: Report) -> None:
        """Report them in a thread, and from time to time those of processes that end later."""
        self._reporting = run_in_thread(lambda: self._report_all(report), name="capx-spool-orphans")

    def end(self) -> None:
        """End the thread, and leave what is not reported to the next process."""
        self._over.set()
        if self._reporting is not None:
            with suppress(Exception):
                self._reporting.result(_PATIENCE)
            if not self._reporting.done():
                # The thread still uses them. It lets go of them when its request is over.
                return
        self._let_go()

    def _let_go(self) -> None:
        """Close all files, so that another process may take them over."""
        for file in self._files:
            file.close()
        self._files = []

    def _report_all(self, report: Report) -> None:
        try:
            while not self._over.is_set():
                try:
                    took = self._report_taken(report)
                except Exception as error:  # noqa: BLE001 # if the thread ended, they would wait for the next start
                    diagnostics.warn_once(f"decisions of a process that ended are not reported: {error}")
                    self._over.wait(_PAUSE)
                else:
                    # So many, and there may be more.
                    self._over.wait(0 if took == MOST else _AGAIN)
        finally:
            self._let_go()

    def _report_taken(self, report: Report) -> int:
        """Report the files that were taken over, or else others; return how many they were."""
        if not self._files:
            self._files = self._folder.orphans()
        took = len(self._files)
        while self._files and self._report_file(self._files[0], report):
            self._files[0].remove()
            del self._files[0]
        return took

    def _report_file(self, file: SpoolFile, report: Report) -> bool:
        """Return whether the authority has answered for all decisions in the file; False if the service ends before."""
        found = self._decisions(file)
        while piece := list(islice(found, _TOGETHER)):
            while not self._try_to_report(piece, report):
                if self._over.wait(_PAUSE):
                    return False
        return not self._over.is_set()

    def _decisions(self, file: SpoolFile) -> Iterator[DecisionRecord | bytes]:
        """Read the decisions in a file; bytes are a line that is no decision of this audience."""
        for line in file.lines():
            if not line.endswith(b"\n"):
                diagnostics.warn_once(f"the last line of {file.path} was cut off, so it was passed over")
                return
            try:
                read = json.decode(line, type=_Line)
            except (MsgspecError, UnicodeDecodeError, RecursionError):
                yield line[:-1]
            else:
                yield DecisionRecord(read.id, read.at, line[:-1]) if read.audience == self._audience else line[:-1]

    def _try_to_report(self, piece: Sequence[DecisionRecord | bytes], report: Report) -> bool:
        try:
            self._report([one for one in piece if isinstance(one, DecisionRecord)], report)
            for line in piece:
                if isinstance(line, bytes):
                    self._folder.keep_refused(line, f"it is no decision of {self._audience}")
        except Exception as error:  # noqa: BLE001 # if the thread ended, they would wait for the next start
            diagnostics.warn_once(f"decisions of a process that ended are not reported: {error}")
            return False
        return True

    def _report(self, records: Sequence[DecisionRecord], report: Report) -> None:
        try:
            report(records)
        except Unwritable as error:
            # One of them makes the report fail: halve it until that one is alone.
            half = len(records) // 2
            if half == 0:
                self._report_shorter(records[0], report, error)
                return
            self._report(records[:half], report)
            self._report(records[half:], report)

    def _report_shorter(self, record: DecisionRecord, report: Report, why: Exception) -> None:
        shorter_forms: list[DecisionRecord] = []
        # Somebody wrote into the file what is no decision.
        with suppress(Exception):
            shorter_forms += shorter(record)
        for form in shorter_forms:
            try:
                report([form])
            except Unwritable as error:
                why = error
            else:
                return
        self._folder.keep_refused(record.body, why)
