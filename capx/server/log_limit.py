"""Limits how many lines each place in the code writes to the log, so that strangers cannot fill a disk.

Laws:

- One place in the code (a logger, a file, a line) writes a few lines a minute, whatever text they have: a stranger can
  vary the text, and cannot add places.
- No line is left out in silence. The last line before others are left out says so. The next line of that place says
  how many there were, and so does the end of the limit.
"""

import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from msgspec import Struct

LINES: Final = 10
"""Lines that one place in the code writes within SECONDS."""
SECONDS: Final = 60.0

_Place = tuple[str, str, int]


class _Written(Struct):
    """What one place has written since a time."""

    since: float
    lines: int = 0
    left_out: int = 0


class LogLimit(logging.Filter):
    """A filter for loggers. `clock` is monotonic."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._places: dict[_Place, _Written] = {}
        self._lock = threading.Lock()

    @contextmanager
    def on(self, *loggers: str) -> Generator[None]:
        """A block in which these loggers are limited. At its end, each says how many lines were left out."""
        for name in loggers:
            logging.getLogger(name).addFilter(self)
        try:
            yield
        finally:
            for name in loggers:
                logging.getLogger(name).removeFilter(self)
            for (name, _, _), written in self._places.items():
                if written.left_out:
                    logging.getLogger(name).warning("%s", _more(written.left_out))

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written. May add to its text how many were left out."""
        with self._lock:
            now = self._clock()
            written = self._places.setdefault((record.name, record.pathname, record.lineno), _Written(now))
            notes: list[str] = []
            if now - written.since >= SECONDS:
                if written.left_out:
                    notes.append(_more(written.left_out))
                written.since, written.lines, written.left_out = now, 0, 0
            if written.lines == LINES:
                written.left_out += 1
                return False
            written.lines += 1
            if written.lines == LINES:
                notes.append(f"more like this are left out for {SECONDS:.0f} s")
        if notes:
            record.msg, record.args = f"{record.getMessage()} ({'; '.join(notes)})", ()
        return True


def _more(left_out: int) -> str:
    return f"{left_out} more like this were left out"
