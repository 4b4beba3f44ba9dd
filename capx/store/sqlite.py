"""The embedded store: one SQLite file, shared by the processes of one user on one machine.

Laws: in WAL mode a durable transaction is on the disk when it is left (`synchronous = FULL`), any other is in the file
(`NORMAL`): no process's death loses it. Writers are alone from their first statement (`BEGIN IMMEDIATE`), so what they
read is what they build upon. Connections come from a small pool and belong to one transaction at a time; none outlives
a fork, or the file that it was opened on, and none goes on whose `-wal` was taken away. What was forgotten counts as
burnt: a presentation whose window may already have been cleared away is not new.
"""

import contextlib
import sqlite3
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Self

import msgspec

from capx.chain import root_node
from capx.errors import StoreProblem
from capx.log import Event, following
from capx.present import WINDOW_AFTER, WINDOW_BEFORE
from capx.store import Death, Head, Reading, TaskRecord, Writing
from capx.store.sqlite_file import (
    BUSY_SECONDS,
    Connection,
    Identity,
    Idle,
    connect,
    create,
    demand_same_companions,
    explained,
    identity,
)
from capx.task import State

_PAGE = 1_000
_IDLE = 8
_FORGET_EVERY = 60
# No window that is open now reaches this far ahead.
_HORIZON = WINDOW_AFTER + WINDOW_BEFORE + 1

_TASK = "SELECT id, root, opened, expires, tenant, purpose, state, ended, position FROM tasks"
_EVENT = "SELECT position, at, kind, CAST(body AS BLOB), hash FROM events"
_DEATH = "SELECT seq, key, reason, at, position FROM deaths"


class SQLiteStore:
    """A store in the file at `path`, which must be there; `SQLiteStore.create` makes one.

    A transaction waits up to `busy_seconds` for another one to end.
    """

    def __init__(self, path: Path | str, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = Path(path).absolute()
        self._pool = _Pool(self.path, busy_seconds)
        with self._pool.connection():
            pass

    @classmethod
    def create(cls, path: Path | str) -> Self:
        """A new store, readable by its owner alone; StoreProblem if there is one already."""
        create(Path(path).absolute())
        return cls(path)

    def __repr__(self) -> str:
        return f"SQLiteStore({str(self.path)!r})"

    @contextlib.contextmanager
    def read(self) -> Generator[Reading]:
        """One instant to read from."""
        with explained(self.path), self._pool.connection() as connection, _transaction(connection, "BEGIN"):
            yield _Transaction(connection)

    @contextlib.contextmanager
    def write(self, *, durable: bool = True) -> Generator[Writing]:
        """A transaction that is alone; kept when its block is left, undone when the block raises."""
        with explained(self.path), self._pool.connection() as connection:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            with _transaction(connection, "BEGIN IMMEDIATE"):
                yield _Transaction(connection)

    def close(self) -> None:
        """Close the connections that are idle now, and the others when their transactions end."""
        with explained(self.path):
            self._pool.close()


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Generator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


class _Transaction:
    """Reading and writing within one SQLite transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def head(self) -> Head:
        row = self._row("SELECT epoch, position, hash, deaths FROM head")
        if row is None:
            raise StoreProblem("the store has lost its head: restore it from a backup")
        return Head(*row)

    def task(self, id_: str) -> TaskRecord | None:
        row = self._row(f"{_TASK} WHERE id = ?", id_)
        return row and TaskRecord(*row)

    def rooted(self, node: bytes) -> TaskRecord | None:
        row = self._row(f"{_TASK} WHERE node = ?", node)
        return row and TaskRecord(*row)

    def tasks(self) -> list[TaskRecord]:
        return [TaskRecord(*row) for row in self._db.execute(f"{_TASK} ORDER BY rowid").fetchall()]

    def death(self, key: bytes | str) -> Death | None:
        row = self._row(f"{_DEATH} WHERE key = ?", key)
        return row and Death(*row)

    def deaths(self, *, after: int = 0) -> Iterator[Death]:
        while rows := self._rows(f"{_DEATH} WHERE seq > ? ORDER BY seq LIMIT ?", after, _PAGE):
            yield from (Death(*row) for row in rows)
            after = rows[-1][0]

    def events(self, *, after: int = 0, limit: int | None = None) -> Iterator[Event]:
        # By pages: a cursor that its reader left half-way would hold the connection to an old instant.
        while limit is None or limit > 0:
            page = _PAGE if limit is None else min(limit, _PAGE)
            rows = self._rows(f"{_EVENT} WHERE position > ? ORDER BY position LIMIT ?", after, page)
            if not rows:
                return
            yield from (Event(*row) for row in rows)
            after = rows[-1][0]
            limit = None if limit is None else limit - len(rows)

    def decision(self, id_: str) -> Event | None:
        row = self._row(f"{_EVENT} WHERE kind = 'decision' AND json_extract(body, '$.id') = ?", id_)
        return row and Event(*row)

    def append(self, kind: str, body: bytes, *, at: int) -> Event:
        event = following(self.head().place, at=at, kind=kind, body=body)
        self._db.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?)", (event.position, at, kind, body.decode(), event.hash)
        )
        self._db.execute("UPDATE head SET position = ?, hash = ?", (event.position, event.hash))
        return event

    def open_task(self, task: TaskRecord) -> None:
        self._db.execute(
            "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*msgspec.structs.astuple(task), root_node(task.root)),
        )

    def end_task(self, id_: str, state: State, *, at: int, position: int) -> None:
        self._db.execute(
            "UPDATE tasks SET state = ?, ended = ?, position = ? WHERE id = ? AND state = 'active'",
            (state, at, position, id_),
        )

    def kill(self, key: bytes | str, reason: str, *, at: int, position: int) -> Death:
        if first := self.death(key):
            return first
        death = Death(self.head().deaths + 1, key, reason, at, position)
        self._db.execute("INSERT INTO deaths VALUES (?, ?, ?, ?, ?)", msgspec.structs.astuple(death))
        self._db.execute("UPDATE head SET deaths = ?", (death.seq,))
        return death

    def burn(self, presentation: bytes, *, until: int, now: int) -> bool:
        if until < self._forgotten(now):
            return False
        inserted = self._db.execute("INSERT INTO burnt VALUES (?, ?) ON CONFLICT DO NOTHING", (presentation, until))
        return inserted.rowcount == 1

    def _forgotten(self, now: int) -> int:
        """Up to which end of their windows presentations may be forgotten; they are cleared away when due."""
        row = self._row("SELECT until FROM forgotten")
        before: int = row[0] if row else 0
        forgotten = before
        if now >= before + _FORGET_EVERY:
            forgotten = now
            self._db.execute("DELETE FROM burnt WHERE until < ?", (now,))
        elif before > now + _HORIZON:
            # A clock was ahead, and what it cleared away is unknown. All that was presented so far ends before this.
            forgotten = now + _HORIZON
        if forgotten != before:
            self._db.execute("UPDATE forgotten SET until = ?", (forgotten,))
        return forgotten

    def _row(self, query: str, *values: object) -> Any:
        return self._db.execute(query, values).fetchone()

    def _rows(self, query: str, *values: object) -> list[Any]:
        return self._db.execute(query, values).fetchall()


class _Pool:
    """Connections to one path: each lent to one transaction at a time, and to the file that is there."""

    def __init__(self, path: Path, busy_seconds: float) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        self._idle = Idle()
        self._opened_on: Identity | None = None
        self._closed = False

    @contextlib.contextmanager
    def connection(self) -> Generator[Connection]:
        file, connection = self._lend()
        try:
            yield connection
        finally:
            self._take_back(file, connection)

    def close(self) -> None:
        with self._idle.lock:
            self._closed = True
            self._idle.close()

    def _lend(self) -> tuple[Identity, Connection]:
        file = identity(self._path)
        with self._idle.lock:
            if self._closed:
                raise StoreProblem(f"the store {self._path} was closed")
            if file != self._opened_on:
                self._idle.close()
                self._opened_on = file
            if self._idle.connections:
                # One that is refused stays open: to close it would write its lost -wal over what others wrote since.
                demand_same_companions(self._path, self._idle.connections[-1])
                return file, self._idle.connections.pop()
        connection = connect(self._path, busy_seconds=self._busy_seconds)
        if identity(self._path) != file:
            connection.close()
            raise StoreProblem(f"the store {self._path} was replaced while it was being opened: try again")
        return file, connection

    def _take_back(self, file: Identity, connection: Connection) -> None:
        with self._idle.lock:
            keep = (
                not self._closed
                and file == self._opened_on
                and not connection.in_transaction
                and len(self._idle.connections) < _IDLE
            )
            if keep:
                self._idle.connections.append(connection)
        if not keep:
            connection.close()
