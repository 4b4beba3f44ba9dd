"""One SQLite file as a capx store: how it is created, opened, recognised, and what its errors mean.

Laws: created readable by its owner alone, in one transaction; opened only if it is ours, nobody else's to read or
change, and of a version we know. Whatever SQLite raises becomes a StoreProblem that says what to do. A connection is
bound to the files that were there when it was opened; `identity` and `companions` tell when the path has come to mean
others. While one is open, no other is opened beside a `-wal` or `-shm` that is not the one it uses: in one process they
would share an index of the one and read the other.
"""

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Generator
from pathlib import Path

from capx.background import begin_in_each_process
from capx.crypto.base64url import b64u
from capx.crypto.private_file import demand_private, sync
from capx.errors import StoreProblem
from capx.intents.epoch import new_epoch
from capx.store.log import GENESIS
from capx.store.records import Damaged, NoStore, Unwritable
from capx.store.sql.version import OldSchema, demand_version
from capx.store.sqlite.schema import MIGRATIONS, VERSION

APPLICATION = 0x63617078  # "capx", in the header of the file
BUSY_SECONDS = 5.0

Identity = tuple[int, int]
Companions = tuple[Identity | None, Identity | None]


def identity(path: Path) -> Identity:
    """Which file the path means now, as device and inode."""
    with explained(path):
        found = path.stat()
    return found.st_dev, found.st_ino


def companions(path: Path) -> Companions:
    """Which files stand beside the path now as its `-wal` and `-shm`; those of an open connection never change."""
    return _identity_if_there(f"{path}-wal"), _identity_if_there(f"{path}-shm")


def _identity_if_there(path: str) -> Identity | None:
    # os.stat on text: half of what a Path costs, and every transaction pays it.
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Connection(sqlite3.Connection):
    """A connection that knows which files it uses."""

    file: Identity | None = None
    beside: Companions = (None, None)

    def close(self) -> None:
        """Close it; it uses no files any more."""
        _in_use.pop(id(self), None)
        super().close()


_in_use: "weakref.WeakValueDictionary[int, Connection]" = weakref.WeakValueDictionary()


def demand_same_companions(path: Path, connection: Connection) -> None:
    """Refuse a connection whose `-wal` or `-shm` was taken away: what others write, it does not see."""
    if connection.beside != companions(path):
        raise StoreProblem(
            f"the store {path} lost its -wal or -shm file while it was in use: "
            "stop all its services, then start them again"
        )


def create(path: Path) -> None:
    """Write a new store at `path`, for its owner's eyes only; StoreProblem if there is one."""
    with explained(path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        with contextlib.closing(_open(path, "rw", BUSY_SECONDS)) as connection:
            if connection.execute("PRAGMA user_version").fetchone() != (0,):
                raise StoreProblem(f"there is a store at {path} already")
            _refuse_foreign(path, connection)
            demand_private(path, path.stat(), StoreProblem)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            _build(path, connection)
            connection.execute("COMMIT")
        sync(path.parent)


def migrate(path: Path) -> tuple[int, int]:
    """The schema of the store at `path` as it was, and as it is now: brought up to this one, whole or not at all."""
    with explained(path), contextlib.closing(_open(path, "rw", BUSY_SECONDS)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        with contextlib.suppress(OldSchema):
            _recognise(path, connection)
        demand_private(path, path.stat(), StoreProblem)
        if version < VERSION:
            _advance(connection, version)
        connection.execute("COMMIT")
    return version, VERSION


def connect(path: Path, *, read_only: bool = False, busy_seconds: float = BUSY_SECONDS) -> Connection:
    """A connection to the store at `path`; StoreProblem when it is not there, not ours alone or too new."""
    with explained(path):
        file = identity(path)
        for other in [reference() for reference in _in_use.valuerefs()]:
            if other is not None and other.file == file:
                demand_same_companions(path, other)
        connection = _open(path, "ro" if read_only else "rw", busy_seconds)
        try:
            _recognise(path, connection)
            demand_private(path, path.stat(), StoreProblem)
            connection.file, connection.beside = file, companions(path)
            _in_use[id(connection)] = connection
        except BaseException:
            connection.close()
            raise
    return connection


class Idle:
    """Connections that are open and not in use, and the lock under which they are taken and put back.

    They are closed before a fork: SQLite's locks belong to a process, and a child that inherited them would hold
    none. They end with their owner, or with the process, also when nobody closed them.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connections: list[Connection] = []
        begin_in_each_process(self._begin)
        weakref.finalize(self, _close, self.connections)
        _all_idle.add(self)

    def _begin(self) -> None:
        # Held by the thread whose turn it is to write: SQLite would let the others sleep, and wake none.
        self.turn = threading.Lock()

    def close(self) -> None:
        """Close all of them."""
        _close(self.connections)


def _close(connections: list[Connection]) -> None:
    while connections:
        with contextlib.suppress(sqlite3.Error):
            connections.pop().close()


_all_idle: "weakref.WeakSet[Idle]" = weakref.WeakSet()
_frozen: list[Idle] = []


def _before_fork() -> None:
    _frozen.extend(_all_idle)
    for idle in _frozen:
        idle.lock.acquire()
        idle.close()


def _after_fork() -> None:
    while _frozen:
        _frozen.pop().lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


@contextlib.contextmanager
def explained(path: Path) -> Generator[None]:
    """A block in which what SQLite and the file system raise becomes a StoreProblem."""
    try:
        yield
    except (sqlite3.DataError, UnicodeError) as error:
        raise Unwritable(f"the store {path} cannot hold this: {error}") from error
    except sqlite3.Error as error:
        # Nested deeper than SQLite reads.
        if str(error) == "malformed JSON":
            raise Unwritable(f"the store {path} cannot hold this: {error}") from error
        raise _kind(error)(f"the store {path} {_meaning(error)}") from error
    except FileNotFoundError as error:
        raise NoStore(f"there is no store at {path}: create one with capx init") from error
    except OSError as error:
        raise StoreProblem(f"the store {path} cannot be opened: {error.strerror}") from error


def _open(path: Path, mode: str, busy_seconds: float) -> Connection:
    if not path.exists():
        raise FileNotFoundError(path)
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
        factory=Connection,
    )


def _recognise(path: Path, connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION or version < 1:
        raise NoStore(f"{path} is not a capx store")
    demand_version(path, version, VERSION)


def _refuse_foreign(path: Path, connection: sqlite3.Connection) -> None:
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() != (0,):
        raise StoreProblem(f"{path} holds another program's database: choose another place")


def _build(path: Path, connection: sqlite3.Connection) -> None:
    # Somebody else may have built it between the look and the lock.
    if connection.execute("PRAGMA user_version").fetchone() != (0,):
        raise StoreProblem(f"there is a store at {path} already")
    _advance(connection, 0)
    epoch = new_epoch(b64u(os.urandom(16)), int(time.time()))
    connection.execute("INSERT INTO head VALUES (1, ?, 0, ?, 0, 0)", (epoch, GENESIS))
    connection.execute(f"PRAGMA application_id = {APPLICATION}")


def _advance(connection: sqlite3.Connection, version: int) -> None:
    for migration in MIGRATIONS[version:]:
        for statement in migration.strip().split(";\n"):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")


_MEANINGS = {
    sqlite3.SQLITE_BUSY: "is busy: another process held it for too long; try again",
    sqlite3.SQLITE_LOCKED: "is busy: another process held it for too long; try again",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full; free some space and try again",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: look at the permissions of the file and its folder",
    sqlite3.SQLITE_READONLY: "cannot be written: look at the permissions of the file and its folder",
    sqlite3.SQLITE_PERM: "cannot be used: look at the permissions of the file and its folder",
    sqlite3.SQLITE_NOTADB: "is not a database: restore it from a backup, or choose another place",
    sqlite3.SQLITE_CORRUPT: "is damaged: stop its services and restore it from a backup",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk reports an error",
}


def _meaning(error: sqlite3.Error) -> str:
    return _MEANINGS.get(_code(error)) or f"failed: {error}"


def _kind(error: sqlite3.Error) -> type[StoreProblem]:
    return Damaged if _code(error) in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT} else StoreProblem


def _code(error: sqlite3.Error) -> int:
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else -1
