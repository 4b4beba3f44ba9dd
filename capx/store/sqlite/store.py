"""The embedded store: one SQLite file, shared by the processes of one user on one machine.

Laws:

- A `write` or a `spend` is on the disk when it returns (WAL mode, `synchronous = FULL`).
- Burnt presentations, recorded decisions, sightings and a `write` that need not be durable are in the file when the
  call returns (`NORMAL`). They survive the end of the process, but a crash of the machine may lose them.
- A writer holds the lock from its first statement on (`BEGIN IMMEDIATE`), so what it has read stays true until it
  commits.
- Connections come from a small pool, and belong to one transaction at a time. A connection is not used after a fork,
  on another file than the one it was opened on, or after its `-wal` was removed.
- Where nothing can be written, the store can be read, and each write is a StoreProblem.
"""

import contextlib
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Self

from capx.errors import StoreProblem
from capx.intents.epoch import authority_of
from capx.store.protocols import Reading, Writing
from capx.store.records import Burn, Busy, DecisionRecord
from capx.store.row_marks import RowGuard
from capx.store.sqlite.connection import (
    BUSY_SECONDS,
    Connection,
    Identity,
    Idle,
    connect,
    create,
    demand_same_companions,
    demand_unchanged,
    explained,
    identity,
)
from capx.store.sqlite.death_source import SQLiteDeathSource
from capx.store.sqlite.rows import Rows
from capx.verify.meter import Paid, Payer, Spend, Tally

_IDLE = 8


class SQLiteStore:
    """The store in the file at `path`, which must exist; `SQLiteStore.create` makes one.

    A transaction waits up to `busy_seconds` for another one.
    """

    def __init__(self, path: Path | str, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = Path(path).absolute()
        self._pool = _Pool(self.path, busy_seconds)
        # For what must not wait. Without a checkpoint, a commit that is not forced to the disk writes to memory only,
        # but for the first one after a checkpoint: then SQLite syncs the first page of its log.
        self._prompt = _Pool(self.path, 0.0, wal_autocheckpoint=0)
        # Opened once now, so that a missing or foreign file is an error here and not at the first call.
        with self._pool.connection():
            pass

    @classmethod
    def create(cls, path: Path | str) -> Self:
        """Create a new store that only its owner can read; StoreProblem if there is one already."""
        create(Path(path).absolute())
        return cls(path)

    def __repr__(self) -> str:
        return f"SQLiteStore({str(self.path)!r})"

    @property
    def place(self) -> str:
        """The path of the file."""
        return str(self.path)

    @contextlib.contextmanager
    def read(self, guard: RowGuard | None = None) -> Generator[Reading]:
        """A transaction that reads one instant."""
        with self._reading(guard) as rows:
            yield rows

    @contextlib.contextmanager
    def write(self, guard: RowGuard | None = None, *, durable: bool = True) -> Generator[Writing]:
        """A writing transaction: it is kept when its block ends, and undone when the block raises."""
        with self._writing("FULL" if durable else "NORMAL", guard) as rows:
            yield rows
            rows.index_filled()

    def burn(self, presentation: bytes, *, until: int, now: int, remembered: tuple[bytes, int] | None = None) -> Burn:
        """Mark a presentation's id as used until its window has passed; see `ResourceStore.burn`."""
        with self._writing("NORMAL") as rows:
            return rows.burn_all([(presentation, until)], now, remembered)[0]

    def burn_all(
        self,
        presented: Sequence[tuple[bytes, int]],
        *,
        now: int,
        remembered: tuple[bytes, int] | None = None,
        wait: bool = True,
    ) -> tuple[Burn, ...] | None:
        """Burn several presentations in one transaction; see `ResourceStore.burn_all`."""
        # NORMAL: each call of a service burns one, and an fsync each time would cost more than the call. If the machine
        # crashes, the check of `remembered` notices that the store has lost some.
        try:
            with self._writing("NORMAL", wait=wait) as rows:
                return rows.burn_all(presented, now, remembered)
        except Busy:
            if wait:
                raise
            return None

    def spend(self, payer: Payer, spends: Sequence[Spend], *, now: int) -> Tally:
        """Spend everything or nothing; it is on the disk when this returns."""
        # FULL: a budget that was spent must not come back after a crash of the machine.
        with self._writing("FULL") as rows:
            return rows.spend(payer, spends, now)

    def give_back(self, payer: Payer, *, decision: str, reason: str, now: int) -> tuple[Paid, ...]:
        """Give back what a presentation has paid; it is on the disk when this returns."""
        with self._writing("FULL") as rows:
            return rows.give_back(payer, decision, reason, now)

    def spent(self, counters: Sequence[tuple[str, str]]) -> tuple[Decimal, ...]:
        """How much of each counter is spent."""
        with self._reading() as rows:
            return rows.spent(counters)

    def record(self, decisions: Sequence[DecisionRecord]) -> None:
        """Write decisions to the log; skip one whose id its audience has recorded already."""
        with self._writing("NORMAL") as rows:
            rows.record(decisions)

    def sighted(self, follower: str, deaths: int, *, now: int) -> None:
        """Keep how many deaths a follower knows, and when it said so (`now`, Unix seconds)."""
        with self._writing("NORMAL") as rows:
            rows.sighted(follower, deaths, now)

    def authority(self) -> str:
        """The id of the authority whose store this is."""
        with self._reading() as rows:
            return authority_of(rows.head().epoch)

    def standbys(self) -> None:
        """A file has none."""
        return

    def beating(self) -> AbstractContextManager[None]:
        """Nothing: a look at the file proves what it shows."""
        return nullcontext()

    def source(self) -> SQLiteDeathSource:
        """A source of the deaths in this store, with its own connection."""
        return SQLiteDeathSource(self.path)

    def close(self) -> None:
        """Close the idle connections now, and the others when their transactions end."""
        with explained(self.path):
            self._pool.close()
            self._prompt.close()

    @contextlib.contextmanager
    def _reading(self, guard: RowGuard | None = None) -> Generator[Rows]:
        with explained(self.path), self._pool.connection() as connection, _transaction(connection, "BEGIN"):
            yield Rows(connection, guard)

    @contextlib.contextmanager
    def _writing(self, synchronous: str, guard: RowGuard | None = None, *, wait: bool = True) -> Generator[Rows]:
        pool = self._pool if wait else self._prompt
        with explained(self.path), self._pool.turn(wait=wait), pool.connection() as connection:
            # Before BEGIN: SQLite does not change this within a transaction.
            connection.keep(synchronous)
            with _transaction(connection, "BEGIN IMMEDIATE"):
                rows = Rows(connection, guard)
                yield rows
                rows.keep_head()


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Generator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # After some errors (a full disk) SQLite has rolled back by itself already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


class _Pool:
    """Connections to one path, each lent to one transaction at a time, and only while the path means the same file."""

    def __init__(self, path: Path, busy_seconds: float, *, wal_autocheckpoint: int | None = None) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        self._wal_autocheckpoint = wal_autocheckpoint
        self._idle = Idle()
        self._opened_on: Identity | None = None
        self._closed = False

    @contextlib.contextmanager
    def connection(self) -> Generator[Connection]:
        file, connection = self._lend()
        try:
            try:
                yield connection
            except sqlite3.Error:
                # What changed while it was read may look damaged.
                demand_unchanged(self._path, connection)
                raise
            demand_unchanged(self._path, connection)
        finally:
            self._take_back(file, connection)

    @contextlib.contextmanager
    def turn(self, *, wait: bool = True) -> Generator[None]:
        """A block for one thread of this process at a time; Busy if the wait is too long."""
        turn = self._idle.turn
        if not turn.acquire(timeout=self._busy_seconds if wait else 0):
            raise Busy(f"the store {self._path} is busy: another thread held it for too long; try again")
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
            # The path means another file now: the idle connections would write into the old one.
            if file != self._opened_on:
                self._idle.close()
                self._opened_on = file
            if self._idle.connections:
                # A refused connection stays open: closing it would write its lost -wal over what others have written.
                demand_same_companions(self._path, self._idle.connections[-1])
                return file, self._idle.connections.pop()
        connection = connect(self._path, busy_seconds=self._busy_seconds)
        if self._wal_autocheckpoint is not None:
            connection.execute(f"PRAGMA wal_autocheckpoint = {self._wal_autocheckpoint}")
        # Somebody may have replaced the file between the two looks.
        if identity(self._path) != file:
            connection.close()
            raise StoreProblem(f"the store {self._path} was replaced while it was being opened: try again")
        return file, connection

    def _take_back(self, file: Identity, connection: Connection) -> None:
        with self._idle.lock:
            # A connection within a transaction is closed: its COMMIT and its ROLLBACK failed, and the lock must go.
            keep = (
                not self._closed
                and file == self._opened_on
                and connection.unlocked is None
                and not connection.in_transaction
                and len(self._idle.connections) < _IDLE
            )
            if keep:
                self._idle.connections.append(connection)
        if not keep:
            connection.close()
