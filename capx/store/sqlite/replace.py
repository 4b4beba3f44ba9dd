"""Replaces the store in a file by a backup.

Laws:

- If the file can be read, its rows are replaced in one transaction. A process that has the file open, by any name, sees
  the old content or the new one, and sees the later epoch when it looks next. At every instant there is a store.
- Only a file that is damaged, or not built as capx builds a store, is replaced by another file. A process that still
  reads the old file is refused.
- The old content is kept beside the store first.
- A file is never beside the `-wal` of another file: the old `-wal` is moved away first.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Generator
from pathlib import Path

from capx.crypto.private_file import sync
from capx.errors import ConfigurationProblem, StoreProblem
from capx.store.atomic_file import draft_beside, publish
from capx.store.protocols import Reading
from capx.store.records import REPLACED, Damaged, NoStore
from capx.store.replace import Begin, StoreSurvey, demand_authority, survey
from capx.store.sqlite.backup_reader import demand_sound, distrust, foreign, lacking
from capx.store.sqlite.connection import Connection, connect, explained
from capx.store.sqlite.rows import Rows
from capx.store.sqlite.store import SQLiteStore


class ReplaceableFile:
    """The file at a path, which need not exist or be readable; for a symbolic link, the file that it points to."""

    def __init__(self, path: Path) -> None:
        # Connections use the name that was given. `companions` looks beside that name, and so would refuse the same
        # store under a second name within one process.
        self._named = path.absolute()
        self._path = path.resolve()

    @property
    def shown(self) -> str:
        """The path of the file itself."""
        return str(self._path)

    def look(self, backup: Reading) -> StoreSurvey:
        """Survey what is there beside a backup, as far as it can be read.

        ConfigurationProblem for a file with several names.
        """
        _demand_one_name(self._path)
        if not self._path.exists():
            return StoreSurvey()
        try:
            with explained(self._path), contextlib.closing(connect(self._named)) as connection:
                return _read(self._path, connection, backup)
        except (Damaged, NoStore):
            return StoreSurvey(unread=True)

    def would_keep(self, there: StoreSurvey, now: int) -> Path | None:
        """The path at which the present content would be kept; None if there is none."""
        return _free_name(self._path, now) if there.head is not None or there.unread else None

    def put(self, reading: Reading, begin: Begin, now: int) -> Path | None:
        """Put another store's content there: into the file if it is sound, otherwise in a new file in its place."""
        _demand_one_name(self._path)
        if self._path.exists():
            with contextlib.suppress(Damaged, NoStore):
                return self._put_rows(reading, begin, now)
        return self._put_file(reading, begin, now)

    def _put_rows(self, reading: Reading, begin: Begin, now: int) -> Path:
        path = self._path
        with explained(path), contextlib.closing(connect(self._named)) as connection, draft_beside(path) as draft:
            # A restoration that was reported must survive a crash.
            connection.execute("PRAGMA synchronous = FULL")
            distrust(connection)
            for what in (*lacking(connection), *foreign(connection)):
                raise Damaged(f"the store {path} is not built as capx builds one: see {what}")
            demand_sound(path, connection)
            with _exclusive(connection):
                there, rows = _read(path, connection, reading), Rows(connection)
                # Under the lock: what is kept is exactly what gets replaced, and nothing can be appended in between.
                demand_authority(reading.head(), there)
                _copy(self._named, draft)
                rows.clear()
                rows.adopt(reading)
                begin(rows, there)
                rows.keep_head()
                kept = _free_name(path, now)
                # The copy has its name before the commit. A crash leaves at worst a copy that nobody needs.
                publish(draft, kept)
                try:
                    connection.execute("COMMIT")
                except BaseException:
                    kept.unlink()
                    raise
            # For a program that copies the file without its -wal. It is only a help, so errors do not matter.
            with contextlib.suppress(sqlite3.Error):
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        return kept

    def _put_file(self, reading: Reading, begin: Begin, now: int) -> Path | None:
        path = self._path
        with draft_beside(path) as draft, _held(path, reading) as there:
            demand_authority(reading.head(), there)
            with contextlib.closing(SQLiteStore.create(draft)) as new:
                with new.write() as writing:
                    writing.adopt(reading)
                with new.write() as writing:
                    begin(writing, there)
            # First the bytes, then the name.
            sync(draft)
            return _exchange(draft, path, now)


def _demand_one_name(path: Path) -> None:
    with explained(path):
        if path.exists() and path.stat().st_nlink > 1:
            raise ConfigurationProblem(
                f"the file {path} has another name (a hard link), and a process that opens it by that name does not "
                "see what is written by this one: use one name everywhere, and remove the others (find -samefile)"
            )


def _read(path: Path, connection: Connection, backup: Reading) -> StoreSurvey:
    """Survey a store beside a backup; Damaged if its tables are not the ones that capx makes."""
    distrust(connection)
    # The survey only looks for revoked kids. Text that is not UTF-8 cannot be one, so it must not stop the survey.
    connection.text_factory = _decoded
    try:
        for what in lacking(connection):
            raise Damaged(f"the store {path} lacks {what}")
        return survey(Rows(connection), backup)
    finally:
        connection.text_factory = str


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "replace")


@contextlib.contextmanager
def _exclusive(connection: Connection) -> Generator[None]:
    """A block that is the only writer; it must commit by itself, otherwise nothing of it is kept."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _copy(path: Path, draft: Path) -> None:
    """Copy the pages of the store as they are, even damaged ones, into a file that needs no -wal."""
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with (
        contextlib.closing(connect(path, read_only=True)) as live,
        contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as copy,
    ):
        live.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
    sync(draft)


@contextlib.contextmanager
def _held(path: Path, backup: Reading) -> Generator[StoreSurvey]:
    """Survey a file, and lock it, as far as that is possible, until another file has its name.

    After the block nothing can be appended to the old file, and its followers are refused.
    """
    there, connection = StoreSurvey(unread=path.exists()), None
    try:
        with contextlib.suppress(Damaged, NoStore), explained(path):
            connection = connect(path)
            connection.execute("BEGIN IMMEDIATE")
            there = _read(path, connection, backup)
        yield there
        if connection is not None:
            # As far as possible: the new file has the name already, and the old one may be too damaged to be written.
            with contextlib.suppress(sqlite3.Error):
                connection.execute("UPDATE head SET epoch = epoch || ?", (REPLACED,))
                connection.execute(_CLOSED)
                connection.execute("COMMIT")
    finally:
        if connection is not None:
            connection.close()


# Every write to the log changes the head, so this trigger stops writers that still have the old file open.
_CLOSED = """
CREATE TRIGGER replaced BEFORE UPDATE ON head
BEGIN SELECT RAISE(ABORT, 'it was replaced by a backup: try again'); END
"""


def _exchange(draft: Path, path: Path, now: int) -> Path | None:
    """Move the old store away, with its -wal and -shm, and the draft into its place; gives the old store's new name."""
    moved: list[tuple[Path, Path]] = []
    kept = _free_name(path, now)
    if Path(f"{draft}-wal").exists():
        raise StoreProblem(f"the store {path} was not replaced: another process opened the new file; try again")
    with explained(path):
        try:
            # The file first: then nobody can open it any more, and so nobody makes a new -wal for it.
            for suffix in ("", "-wal", "-shm"):
                old, new = Path(f"{path}{suffix}"), Path(f"{kept}{suffix}")
                if old.exists():
                    old.rename(new)
                    moved.append((old, new))
            draft.rename(path)
        except BaseException:
            # Backwards, so that the file comes last and nobody opens it without its -wal.
            for old, new in reversed(moved):
                new.rename(old)
            raise
        sync(path.parent)
    return kept if any(new == kept for _, new in moved) else None


def _free_name(path: Path, now: int) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    kept = path.with_name(f"{path.name}.before-restore-{stamp}")
    number = 1
    while kept.exists():
        number += 1
        kept = path.with_name(f"{path.name}.before-restore-{stamp}-{number}")
    return kept
