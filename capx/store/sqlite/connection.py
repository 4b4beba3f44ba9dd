"""Creates, opens and recognises a SQLite file as a capx store, and explains its errors.

Laws:

- A store is created in one transaction, and only its owner can read it.
- A file is opened only if it is a capx store, if no other user can read or change it, and if its version is known.
- Every error of SQLite becomes a StoreProblem that says what to do.
- A connection belongs to the files that were there when it was opened. `identity` and `companions` show that the path
  now means other files.
- While a connection is open, no second one is opened beside another `-wal` or `-shm`. Within one process both would
  share the index of one `-wal` and read the other.
- Where this user can write nothing, a store can be read all the same. SQLite needs a `-shm` for its locks, and cannot
  make one there. So such a connection takes no locks, and nothing that was read counts if the files changed meanwhile.
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
from capx.store.records import Busy, Damaged, NoStore, Unwritable
from capx.store.sql.version import OldSchema, demand_version
from capx.store.sqlite import schema

APPLICATION = 0x63617078  # "capx", in the header of the file
BUSY_SECONDS = 5.0
"""Seconds for which a transaction waits for another one."""

Identity = tuple[int, int]
Companions = tuple[Identity | None, Identity | None]
State = tuple[int, ...]
States = tuple[State, State | None]


def identity(path: Path) -> Identity:
    """The file that the path means now, as its device and inode."""
    with explained(path):
        found = path.stat()
    return found.st_dev, found.st_ino


def companions(path: Path) -> Companions:
    """The files that are beside the path now as its `-wal` and `-shm`; an open connection never changes to others."""
    return _identity_if_there(f"{path}-wal"), _identity_if_there(f"{path}-shm")


def _identity_if_there(path: str) -> Identity | None:
    # os.stat on a text takes half the time of Path.stat, and every transaction calls this twice.
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Connection(sqlite3.Connection):
    """A connection that remembers which files it uses, and how it keeps what it writes.

    `unlocked` are the states of the files if it takes no locks.
    """

    file: Identity | None = None
    beside: Companions = (None, None)
    unlocked: States | None = None
    synchronous: str | None = None

    def keep(self, synchronous: str) -> None:
        """Choose what is on the disk after a commit: FULL or NORMAL. Called outside a transaction."""
        # To say the same again would cost as much as an insert.
        if self.synchronous != synchronous:
            self.execute(f"PRAGMA synchronous = {synchronous}")
            self.synchronous = synchronous

    def close(self) -> None:
        """Close the connection, and forget which files it used."""
        _in_use.pop(id(self), None)
        super().close()


_in_use: "weakref.WeakValueDictionary[int, Connection]" = weakref.WeakValueDictionary()


def demand_same_companions(path: Path, connection: Connection) -> None:
    """Refuse a connection whose `-wal` or `-shm` was removed: it does not see what others write."""
    if connection.beside != companions(path):
        raise StoreProblem(
            f"the store {path} lost its -wal or -shm file while it was in use: stop all its services, then start them"
        )


def demand_unchanged(path: Path, connection: Connection) -> None:
    """Refuse what a connection without locks has read, if the files changed since it was opened."""
    if connection.unlocked is not None and connection.unlocked != _states(path):
        raise StoreProblem(f"the store {path} was changed while it was read where it cannot be locked: try again")


def _states(path: Path) -> States:
    """The states of the file and of its `-wal`, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        return _state(path), _state(Path(f"{path}-wal"))
    return _state(path), None


def _state(path: Path) -> State:
    # Without the time of the inode's change: SQLite changes the owner of a -wal that root opens, to the same one.
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def create(path: Path) -> None:
    """Write a new store at `path`, which only its owner can read; StoreProblem if there is one."""
    with explained(path):
        # SQLite would let the umask decide who can read the file. It copies the permissions to the -wal and the -shm.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        with contextlib.closing(_open(path, "mode=rw", BUSY_SECONDS)) as connection:
            if connection.execute("PRAGMA user_version").fetchone() != (0,):
                raise StoreProblem(f"there is a store at {path} already")
            _refuse_foreign(path, connection)
            demand_private(path, path.stat(), StoreProblem)
            # WAL: readers do not wait for a writer, and a follower can read while somebody writes.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            _build(path, connection)
            connection.execute("COMMIT")
        # SQLite syncs the file, and not the entry of a new file in its folder.
        sync(path.parent)


def migrate(path: Path) -> tuple[int, int]:
    """Bring the store at `path` up to this schema, all or nothing; gives the version before, and the version now."""
    with explained(path), contextlib.closing(_open(path, "mode=rw", BUSY_SECONDS)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        # The lock before the look at the version: two migrations at once must not run the same step twice.
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        with contextlib.suppress(OldSchema):
            _recognise(path, connection)
        demand_private(path, path.stat(), StoreProblem)
        if version < schema.VERSION:
            _advance(connection, version)
        connection.execute("COMMIT")
    return version, schema.VERSION


def connect(path: Path, *, read_only: bool = False, busy_seconds: float = BUSY_SECONDS) -> Connection:
    """Open a connection to the store at `path`.

    StoreProblem if there is no store, if other users can read or change it, or if its version is another one.
    """
    with explained(path):
        file = identity(path)
        # A list first: another thread may open or close a connection during the loop.
        for other in [reference() for reference in _in_use.valuerefs()]:
            if other is not None and other.file == file:
                demand_same_companions(path, other)
        try:
            connection = _recognised(path, _open(path, "mode=ro" if read_only else "mode=rw", busy_seconds))
        except sqlite3.OperationalError as error:
            if _code(error) not in _CANNOT_LOCK or _can_make_files_beside(path):
                raise
            return _connect_without_locks(path)
        # Now, not before: the first statement makes the -wal and the -shm if there are none.
        connection.file, connection.beside = file, companions(path)
        _in_use[id(connection)] = connection
    return connection


def _recognised(path: Path, connection: Connection) -> Connection:
    try:
        _recognise(path, connection)
        demand_private(path, path.stat(), StoreProblem)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_without_locks(path: Path) -> Connection:
    states = _states(path)
    if states[1] is not None:
        # `immutable` would pass over the -wal, which holds what was committed last. With the exclusive mode SQLite
        # keeps the index of the -wal in memory. That needs a lock, which `unix-none` only pretends to take.
        connection = _open(path, "mode=ro&vfs=unix-none", 0)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    else:
        connection = _open(path, "mode=ro&immutable=1", 0)
    connection.unlocked = states
    return _recognised(path, connection)


def _can_make_files_beside(path: Path) -> bool:
    return os.access(path.parent, os.W_OK | os.X_OK)


class Idle:
    """Open connections that are not in use, and the lock for taking one and putting it back.

    They are closed before a fork: SQLite's file locks belong to a process, so a child would use a connection without
    holding its locks. They are also closed when their owner is gone, or when the process ends, if nobody did it before.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connections: list[Connection] = []
        begin_in_each_process(self._begin)
        weakref.finalize(self, _close, self.connections)
        _all_idle.add(self)

    def _begin(self) -> None:
        # The thread that writes holds this lock. SQLite only polls for its own lock, with longer and longer sleeps, and
        # a waiting thread could starve. This lock wakes the next thread at once.
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
    # The locks are held during the fork, so that no other thread takes or puts back a connection meanwhile. The child
    # would inherit a lock of such a thread, and nobody could release it.
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
    """A block in which errors of SQLite and of the file system become a StoreProblem."""
    try:
        yield
    except (sqlite3.DataError, UnicodeError) as error:
        raise Unwritable(f"the store {path} cannot hold this: {error}") from error
    except sqlite3.Error as error:
        # The body is nested deeper than SQLite can read. The error has no code of its own.
        if str(error) == "malformed JSON":
            raise Unwritable(f"the store {path} cannot hold this: {error}") from error
        raise _kind(error)(f"the store {path} {_meaning(error, path)}") from error
    except FileNotFoundError as error:
        raise NoStore(f"there is no store at {path}: create one with capx init") from error
    except OSError as error:
        raise StoreProblem(f"the store {path} cannot be opened: {error.strerror}") from error


def _open(path: Path, how: str, busy_seconds: float) -> Connection:
    # SQLite reports a missing file as "cannot open", like missing permissions.
    if not path.exists():
        raise FileNotFoundError(path)
    if path.is_dir():
        raise StoreProblem(f"the store {path} cannot be opened: it is a folder; name the file in it")
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",
        uri=True,
        timeout=busy_seconds,
        # None: the module would otherwise begin transactions by itself.
        isolation_level=None,
        # The pool lends a connection to any thread, but to one at a time.
        check_same_thread=False,
        factory=Connection,
    )


def _recognise(path: Path, connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION or version < 1:
        raise NoStore(f"{path} is not a capx store")
    demand_version(path, version, schema.VERSION)


def _refuse_foreign(path: Path, connection: sqlite3.Connection) -> None:
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() != (0,):
        raise StoreProblem(f"{path} holds another program's database: choose another place")


def _build(path: Path, connection: sqlite3.Connection) -> None:
    # Checked again under the lock: somebody else may have built the store after the first look.
    if connection.execute("PRAGMA user_version").fetchone() != (0,):
        raise StoreProblem(f"there is a store at {path} already")
    _advance(connection, 0)
    epoch = new_epoch(b64u(os.urandom(16)), int(time.time()))
    connection.execute("INSERT INTO head VALUES (1, ?, 0, ?, 0, 0)", (epoch, GENESIS))
    connection.execute(f"PRAGMA application_id = {APPLICATION}")


def _advance(connection: sqlite3.Connection, version: int) -> None:
    for following in range(version + 1, schema.VERSION + 1):
        # Not `executescript`: it commits first, and so would break the transaction.
        for statement in schema.step(following):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {schema.VERSION}")


_MEANINGS = {
    sqlite3.SQLITE_BUSY: "is busy: another process held it for too long; try again",
    sqlite3.SQLITE_LOCKED: "is busy: another process held it for too long; try again",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full; free some space and try again",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: look at the permissions of the file and its folder",
    sqlite3.SQLITE_READONLY: "is read-only here, so nothing was written: look at the permissions of the file and its "
    "folder, and at how the disk is mounted",
    sqlite3.SQLITE_PERM: "cannot be used: look at the permissions of the file and its folder",
    sqlite3.SQLITE_NOTADB: "is not a database: restore it from a backup, or choose another place",
    sqlite3.SQLITE_CORRUPT: "is damaged: stop its services and restore it from a backup",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk reports an error",
}


_CANNOT_LOCK = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})


def _meaning(error: sqlite3.Error, path: Path) -> str:
    code = _code(error)
    # On a disk that is mounted read-only, SQLite says that it cannot open the file that it cannot make.
    if code in _CANNOT_LOCK and not _can_make_files_beside(path):
        code = sqlite3.SQLITE_READONLY
    return _MEANINGS.get(code) or f"failed: {error}"


def _kind(error: sqlite3.Error) -> type[StoreProblem]:
    if _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return Busy
    return Damaged if _code(error) in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT} else StoreProblem


def _code(error: sqlite3.Error) -> int:
    # The low byte is the kind of the error; the rest distinguishes cases that have the same remedy.
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else -1
