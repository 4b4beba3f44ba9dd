"""How a backup takes the place of the store in a file.

Laws: the rows of a file that can be read are replaced in one transaction: whoever has it open, under whatever name,
sees what was there or what is there now, and the later epoch with its next look; and at every instant there is a store.
Only a file that is damaged or not built as ours gives its name to another one, and whoever still reads it is refused.
What was there is kept beside it before. No file ever stands beside the `-wal` of another one: that is moved away first.
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
from capx.store.replace import Begin, StoreSurvey, demand_origin, survey
from capx.store.sqlite.backup_reader import demand_sound, distrust, foreign, lacking
from capx.store.sqlite.connection import Connection, connect, explained
from capx.store.sqlite.rows import Rows
from capx.store.sqlite.store import SQLiteStore


class ReplaceableFile:
    """The file at a path, which need not be there, or be readable; of a link, the file that it leads to."""

    def __init__(self, path: Path) -> None:
        # Opened as it is named: within one process, all have to name it alike.
        self._named = path.absolute()
        self._path = path.resolve()

    @property
    def shown(self) -> str:
        """The path of the file itself."""
        return str(self._path)

    def look(self) -> StoreSurvey:
        """What is there, as far as it can be read; ConfigurationProblem for a file of several names."""
        _demand_one_name(self._path)
        if not self._path.exists():
            return StoreSurvey()
        try:
            with explained(self._path), contextlib.closing(connect(self._named)) as connection:
                return _read(self._path, connection)
        except (Damaged, NoStore):
            return StoreSurvey(unread=True)

    def would_keep(self, there: StoreSurvey, now: int) -> Path | None:
        """Where what is there would be kept."""
        return _free_name(self._path, now) if there.head is not None or there.unread else None

    def put(self, reading: Reading, begin: Begin, now: int) -> Path | None:
        """Put another store's content there: into the file itself if it is sound, else into one that takes its name."""
        _demand_one_name(self._path)
        if self._path.exists():
            with contextlib.suppress(Damaged, NoStore):
                return self._put_rows(reading, begin, now)
        return self._put_file(reading, begin, now)

    def _put_rows(self, reading: Reading, begin: Begin, now: int) -> Path:
        path = self._path
        with explained(path), contextlib.closing(connect(self._named)) as connection, draft_beside(path) as draft:
            connection.execute("PRAGMA synchronous = FULL")
            distrust(connection)
            for what in (*lacking(connection), *foreign(connection)):
                raise Damaged(f"the store {path} is not built as capx builds one: see {what}")
            demand_sound(path, connection)
            with _alone(connection):
                there, rows = _read(path, connection), Rows(connection)
                demand_origin(reading.head(), there)
                _copy(self._named, draft)
                rows.clear()
                rows.adopt(reading)
                begin(rows, there)
                kept = _free_name(path, now)
                publish(draft, kept)
                try:
                    connection.execute("COMMIT")
                except BaseException:
                    kept.unlink()
                    raise
            # For whoever reads the file without what stands beside it.
            with contextlib.suppress(sqlite3.Error):
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        return kept

    def _put_file(self, reading: Reading, begin: Begin, now: int) -> Path | None:
        path = self._path
        with draft_beside(path) as draft, _held(path) as there:
            demand_origin(reading.head(), there)
            with contextlib.closing(SQLiteStore.create(draft)) as new:
                with new.write() as writing:
                    writing.adopt(reading)
                with new.write() as writing:
                    begin(writing, there)
            sync(draft)
            return _exchange(draft, path, now)


def _demand_one_name(path: Path) -> None:
    with explained(path):
        if path.exists() and path.stat().st_nlink > 1:
            raise ConfigurationProblem(
                f"the file {path} has another name (a hard link), and whoever opens it by that one sees nothing of "
                "what is written by this one: let everybody use one name, and remove the others (find -samefile)"
            )


def _read(path: Path, connection: Connection) -> StoreSurvey:
    """What is known of a store; Damaged if its tables are not those that they seem to be."""
    distrust(connection)
    # What cannot be decoded is no key that was revoked.
    connection.text_factory = _decoded
    try:
        for what in lacking(connection):
            raise Damaged(f"the store {path} lacks {what}")
        return survey(Rows(connection))
    finally:
        connection.text_factory = str


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "replace")


@contextlib.contextmanager
def _alone(connection: Connection) -> Generator[None]:
    """A block alone with the log, which ends with what it does itself, or with nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _copy(path: Path, draft: Path) -> None:
    """Copy the pages of the store as they are, whole or not, into a file that needs none beside it."""
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with (
        contextlib.closing(connect(path, read_only=True)) as live,
        contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as copy,
    ):
        live.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
    sync(draft)


@contextlib.contextmanager
def _held(path: Path) -> Generator[StoreSurvey]:
    """What is known of a file, alone with it, as far as that is possible, until another one has its name.

    From then on nothing is appended to it, and whoever follows it is refused.
    """
    there, connection = StoreSurvey(unread=path.exists()), None
    try:
        with contextlib.suppress(Damaged, NoStore), explained(path):
            connection = connect(path)
            connection.execute("BEGIN IMMEDIATE")
            there = _read(path, connection)
        yield there
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("UPDATE head SET epoch = epoch || ?", (REPLACED,))
                connection.execute(_CLOSED)
                connection.execute("COMMIT")
    finally:
        if connection is not None:
            connection.close()


_CLOSED = """
CREATE TRIGGER replaced BEFORE UPDATE ON head
BEGIN SELECT RAISE(ABORT, 'it was replaced by a backup: try again'); END
"""


def _exchange(draft: Path, path: Path, now: int) -> Path | None:
    """Let the draft be the store; gives the name of the one that was there, with what stands beside it."""
    moved: list[tuple[Path, Path]] = []
    kept = _free_name(path, now)
    if Path(f"{draft}-wal").exists():
        raise StoreProblem(f"the store {path} was not replaced: somebody opened what was to take its place")
    with explained(path):
        try:
            # The file first: from here on nobody can open it, and so make another -wal for it.
            for suffix in ("", "-wal", "-shm"):
                old, new = Path(f"{path}{suffix}"), Path(f"{kept}{suffix}")
                if old.exists():
                    old.rename(new)
                    moved.append((old, new))
            draft.rename(path)
        except BaseException:
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
