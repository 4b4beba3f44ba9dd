"""A verifier follows the deaths in a SQLite store: this reads head and deaths, over a read-only connection of its own.

Laws:

- Knowledge only grows. A file is refused while it is behind what was read before, has another history, or is a new
  store. In a later epoch of the same store, everything is read again.
- Deaths are numbered without gaps, so a missing one is noticed.
- If nothing was committed since the last look, a look costs a few system calls.
"""

import sqlite3
import sys
from pathlib import Path
from typing import Any

from capx.errors import StoreProblem
from capx.store.continuity import demand_whole, succeeding
from capx.store.records import Head, News
from capx.store.sqlite.connection import Connection, Idle, companions, connect, demand_unchanged, explained

# A look happens during a verification. To go on with what is known is better than to make the call wait.
_BUSY_SECONDS = 0.05


class SQLiteDeathSource:
    """A source of the deaths in the store at `path`, which need not exist yet; safe with several threads."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()
        self._opened_on: tuple[int, ...] = ()
        self._last: tuple[Head, int] | None = None
        self._idle = Idle()

    def news(self, known: Head | None) -> News:
        """Return what died since `known`; StoreProblem if the store cannot be read or trusted."""
        with self._idle.lock, explained(self.path):
            connection = self._current()
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            # `data_version` changes with every commit of another connection. If it is the same, and the caller knows
            # the head that was read last, there is nothing new.
            if self._last is not None and self._last[0] is known and self._last[1] == version:
                return News(self._last[0], {})
            # One transaction, so that the head and the deaths are of the same instant.
            connection.execute("BEGIN")
            try:
                news = _since(connection, known)
            finally:
                connection.execute("ROLLBACK")
            demand_unchanged(self.path, connection)
            self._last = news.head, version
            return news

    def close(self) -> None:
        """Close the connection; a later look opens a new one."""
        with self._idle.lock:
            self._idle.close()

    def _current(self) -> Connection:
        """A connection to the file that is at the path now; its cache holds no pages of an earlier file."""
        found = self.path.stat()
        # Size and time too, because a file that is overwritten in place keeps its inode.
        file = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if self._idle.connections and file == self._opened_on:
            connection = self._idle.connections[0]
            if connection.unlocked is None and connection.beside == companions(self.path):
                return connection
        self._idle.close()
        connection = connect(self.path, read_only=True, busy_seconds=_BUSY_SECONDS)
        self._idle.connections.append(connection)
        # A `data_version` can only be compared within one connection.
        self._opened_on, self._last = file, None
        return connection


def _since(connection: sqlite3.Connection, known: Head | None) -> News:
    head = Head(*_one(connection, "SELECT epoch, position, hash, deaths, forgotten FROM head"))
    there = None
    if known is not None and known.position > 0:
        row = connection.execute("SELECT hash FROM events WHERE position = ?", (known.position,)).fetchone()
        there = None if row is None else row[0]
    known = succeeding(known, head, there)
    seen = 0 if known is None else known.deaths
    rows = connection.execute(
        "SELECT key, reason FROM deaths WHERE seq > ? AND seq <= ? ORDER BY seq", (seen, head.deaths)
    )
    # Row by row, with one copy of each reason, because a verifier may hold a million deaths in memory.
    new = {key: sys.intern(reason) for key, reason in rows}
    lasting = 0
    if known is None and head.forgotten:
        (lasting,) = _one(connection, "SELECT count(*) FROM deaths WHERE seq <= ?", head.forgotten)
    return demand_whole(known, News(head, new, known is None, lasting))


def _one(connection: sqlite3.Connection, query: str, *values: object) -> Any:
    row = connection.execute(query, values).fetchone()
    if row is None:
        raise StoreProblem("the store lacks a row that is always there: it is damaged")
    return row
