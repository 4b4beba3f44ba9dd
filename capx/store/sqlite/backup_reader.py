"""A store in a file that anybody may have written: a backup, as it is brought in.

Laws: it is only read. Nothing in it is believed before its schema is exactly ours, so that no view, no trigger and no
other table has a say, and before its pages are sound. What it is instead is told by a StoreProblem.
"""

import contextlib
import functools
import sqlite3
from collections.abc import Generator
from pathlib import Path
from typing import Any

from capx.errors import StoreProblem
from capx.store.protocols import Reading
from capx.store.records import Damaged, NoStore
from capx.store.sqlite.connection import Connection, connect, explained
from capx.store.sqlite.rows import Rows
from capx.store.sqlite.schema import MIGRATIONS

_LONGEST = 16 << 20
"""Bytes of one row: nothing that capx writes comes near."""

_Object = tuple[Any, Any, Any, Any]


@contextlib.contextmanager
def open_backup(path: Path) -> Generator[Reading]:
    """One instant of the store in a file; StoreProblem if it is none, or is not built as capx builds one.

    Its rows are of the right types, and may still say anything: see `demand_possible`.
    """
    try:
        with explained(path), contextlib.closing(_opened(path)) as connection:
            yield Rows(connection)
    except MemoryError as error:
        raise StoreProblem(f"there is not enough memory for what {path} holds: give another backup") from error


def _opened(path: Path) -> Connection:
    """A connection to a sound backup, at one instant of it."""
    if not path.exists():
        raise NoStore(f"there is no backup at {path}")
    with contextlib.ExitStack() as undoing:
        try:
            with explained(path):
                connection = undoing.enter_context(contextlib.closing(connect(path, read_only=True)))
                distrust(connection)
                connection.execute("BEGIN")
                strange = (*lacking(connection), *foreign(connection))
                fault = None if strange else _fault(connection)
        except Damaged as error:
            # What is said of a store, to restore it from a backup, helps nobody here.
            raise Damaged(f"the backup {path} is damaged ({error.__cause__!s:.120}): give another backup") from error
        for what in strange:
            raise Damaged(f"{path} is not built as capx builds a store, see {what}: give another backup")
        if fault is not None:
            raise Damaged(f"the backup {path} is damaged ({fault:.120}): give another backup")
        undoing.pop_all()
    return connection


def distrust(connection: Connection) -> None:
    """Let what the schema and the pages of a file say do as little as possible."""
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)


def lacking(connection: sqlite3.Connection) -> list[str]:
    """What the schema of this file lacks of ours."""
    return [f"the {kind} {name}" for kind, name, _, _ in sorted(_ours() - _schema(connection), key=repr)]


def foreign(connection: sqlite3.Connection) -> list[str]:
    """What the schema of this file has that is not ours."""
    strange = sorted(_schema(connection) - _ours(), key=repr)
    return [f"the {kind!s:.20} {name!a:.60}" for kind, name, _, _ in strange]


def demand_sound(path: Path, connection: sqlite3.Connection) -> None:
    """Refuse a file whose pages, indexes or types are damaged; Damaged says how."""
    if (fault := _fault(connection)) is not None:
        raise Damaged(f"the store {path} is damaged ({fault:.120}): stop its services and restore it from a backup")


def _fault(connection: sqlite3.Connection) -> str | None:
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    return None if found == "ok" else str(found)


def _schema(connection: sqlite3.Connection) -> frozenset[_Object]:
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    return frozenset((kind, name, table, _spaced(sql)) for kind, name, table, sql in rows)


@functools.cache
def _ours() -> frozenset[_Object]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript("".join(MIGRATIONS))
        return _schema(connection)


def _spaced(sql: object) -> object:
    """The same in one line: what was added to a table later is spaced as it was added."""
    return " ".join(sql.split()) if isinstance(sql, str) else sql
