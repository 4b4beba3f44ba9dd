"""Reads a backup: a store in a file that anybody may have written.

Laws: the file is only read. Before any row is read, its schema must be exactly ours, so that no view, trigger or other
table of the file has an effect, and its pages must be sound. A StoreProblem says what is wrong with the file.
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
from capx.store.sqlite import schema
from capx.store.sqlite.connection import Connection, connect, demand_unchanged, explained
from capx.store.sqlite.rows import Rows

_LONGEST = 16 << 20
"""The most bytes of one row; everything that capx writes is much shorter."""

_Object = tuple[Any, Any, Any, Any]


@contextlib.contextmanager
def open_backup(path: Path) -> Generator[Reading]:
    """Read one instant of the store in a file; StoreProblem if it is not a store, or not built as capx builds one.

    Its rows have the right types, and may still hold any values: see `demand_possible`.
    """
    try:
        with explained(path), contextlib.closing(_opened(path)) as connection:
            yield Rows(connection)
            demand_unchanged(path, connection)
    except MemoryError as error:
        raise StoreProblem(f"there is not enough memory for what {path} holds: give another backup") from error


def _opened(path: Path) -> Connection:
    """Open a connection to a sound backup, within a transaction."""
    if not path.exists():
        raise NoStore(f"there is no backup at {path}")
    with contextlib.ExitStack() as undoing:
        try:
            with explained(path):
                connection = undoing.enter_context(contextlib.closing(connect(path, read_only=True)))
                distrust(connection)
                # One transaction for the checks and for all later reads: nobody can change the file in between.
                connection.execute("BEGIN")
                # The schema first: the integrity check runs expressions of the file's own indexes.
                strange = (*lacking(connection), *foreign(connection))
                fault = None if strange else _fault(connection)
        except Damaged as error:
            # The usual advice, to restore from a backup, does not help here: this is the backup.
            raise Damaged(f"the backup {path} is damaged ({error.__cause__!s:.120}): give another backup") from error
        for what in strange:
            raise Damaged(f"{path} is not a store of capx: {what} differs: give another backup")
        if fault is not None:
            raise Damaged(f"the backup {path} is damaged ({fault:.120}): give another backup")
        undoing.pop_all()
    return connection


def distrust(connection: Connection) -> None:
    """Limit what a hostile schema, or hostile pages, of a file can do."""
    # No functions with side effects from views and triggers of the file.
    connection.execute("PRAGMA trusted_schema = OFF")
    # Checks each page when it is read, so that crafted ones are found early.
    connection.execute("PRAGMA cell_size_check = ON")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)


def lacking(connection: sqlite3.Connection) -> list[str]:
    """The objects of our schema that this file does not have."""
    return [f"the {kind} {name}" for kind, name, _, _ in sorted(_ours() - _schema(connection), key=repr)]


def foreign(connection: sqlite3.Connection) -> list[str]:
    """The objects in the schema of this file that are not ours."""
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


def _ours() -> frozenset[_Object]:
    return _built(schema.VERSION)


@functools.cache
def _built(version: int) -> frozenset[_Object]:
    # Built by SQLite itself, so that its own indexes (`sqlite_autoindex_…`) are in the comparison too.
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for following in range(1, version + 1):
            for statement in schema.step(following):
                connection.execute(statement)
        return _schema(connection)


def _spaced(sql: object) -> object:
    """The SQL in one line: SQLite keeps its spacing, which depends on how the statements were run."""
    return " ".join(sql.split()) if isinstance(sql, str) else sql
