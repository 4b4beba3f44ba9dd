"""The embedded store: one SQLite file, shared by the processes of one user on one machine.

Laws: in WAL mode a transaction is on the disk when it is left (`synchronous = FULL`); what is burnt and recorded is in
the file (`NORMAL`): no process's death loses it, but that of the machine may. Writers are alone from their first
statement (`BEGIN IMMEDIATE`), so what they read is what they build upon. Connections come from a small pool and belong
to one transaction at a time; none outlives a fork, or the file that it was opened on, and none goes on whose `-wal` was
taken away.
"""

import contextlib
import sqlite3
from collections.abc import Generator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Self

from capx.errors import StoreProblem
from capx.store.protocols import Reading, Writing
from capx.store.records import Burn, DecisionRecord
from capx.store.sqlite.connection import (
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
from capx.store.sqlite.death_source import SQLiteDeathSource
from capx.store.sqlite.rows import Rows
from capx.verify.meter import Spend, Tally

_IDLE = 8


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

    @property
    def place(self) -> str:
        """The path of the file."""
        return str(self.path)

    @contextlib.contextmanager
    def read(self) -> Generator[Reading]:
        """One instant to read from."""
        with self._reading() as rows:
            yield rows

    @contextlib.contextmanager
    def write(self) -> Generator[Writing]:
        """A transaction that is alone; durable when its block is left, undone when the block raises."""
        with self._writing("FULL") as rows:
            yield rows

    def burn(self, presentation: bytes, *, until: int, now: int, remembered: tuple[bytes, int] | None = None) -> Burn:
        """Keep a presentation's id until its window has passed, as `ResourceStore.burn`."""
        with self._writing("NORMAL") as rows:
            return rows.burn(presentation, until, now, remembered)

    def spend(self, spends: Sequence[Spend], *, now: int) -> Tally:
        """Spend all of it or nothing, durably."""
        with self._writing("FULL") as rows:
            return rows.spend(spends, now)

    def spent(self, counters: Sequence[tuple[str, str]]) -> tuple[Decimal, ...]:
        """What each counter holds now."""
        with self._reading() as rows:
            return rows.spent(counters)

    def record(self, decisions: Sequence[DecisionRecord]) -> None:
        """Write decisions to the log; one of its audience whose id is there already is passed over."""
        with self._writing("NORMAL") as rows:
            rows.record(decisions)

    def sighted(self, follower: str, deaths: int, *, now: int) -> None:
        """Keep that a follower knows so many deaths."""
        with self._writing("NORMAL") as rows:
            rows.sighted(follower, deaths, now)

    def source(self) -> SQLiteDeathSource:
        """What tells of the deaths in this store, over a connection of its own."""
        return SQLiteDeathSource(self.path)

    def close(self) -> None:
        """Close the connections that are idle now, and the others when their transactions end."""
        with explained(self.path):
            self._pool.close()

    @contextlib.contextmanager
    def _reading(self) -> Generator[Rows]:
        with explained(self.path), self._pool.connection() as connection, _transaction(connection, "BEGIN"):
            yield Rows(connection)

    @contextlib.contextmanager
    def _writing(self, synchronous: str) -> Generator[Rows]:
        with explained(self.path), self._pool.turn(), self._pool.connection() as connection:
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            with _transaction(connection, "BEGIN IMMEDIATE"):
                yield Rows(connection)


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

    @contextlib.contextmanager
    def turn(self) -> Generator[None]:
        """A block that no other thread of this process is in."""
        turn = self._idle.turn
        if not turn.acquire(timeout=self._busy_seconds):
            raise StoreProblem(f"the store {self._path} is busy: another thread held it for too long; try again")
        try:
            yield
        finally:
            turn.release()

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
