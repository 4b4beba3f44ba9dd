"""A copy of a store in one file, taken while others go on writing to it.

Laws: it is there whole, checked and on the disk, or it is not there, whatever cut its making short. Nothing is ever
written over. It is its owner's alone, and needs no file beside it, so that it can be read where nothing may be written.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Generator
from pathlib import Path

from capx.checking import check_store
from capx.errors import ConfigurationProblem, StoreProblem
from capx.store import Head, Reading, Store
from capx.store.sqlite import SQLiteStore
from capx.store.sqlite_file import connect, explained


def backup(store: Store, path: Path) -> Head:
    """Write what a store holds now into a new file; gives the head that it reaches.

    ConfigurationProblem if something is there, StoreProblem if it cannot be written or what was read is not whole.
    """
    with store.read() as reading:
        return copy_to(path, reading)


def copy_to(path: Path, reading: Reading) -> Head:
    """Write what this instant of a store holds into a new file, as `backup` does."""
    path = path.absolute()
    _demand_nothing_at(path)
    with draft_beside(path) as draft:
        with contextlib.closing(SQLiteStore.create(draft)) as copy:
            with copy.write() as writing:
                writing.adopt(reading)
            with copy.read() as written:
                check_store(written)
                head = written.head()
        with explained(draft), contextlib.closing(connect(draft)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
        sync(draft)
        publish(draft, path)
    return head


@contextlib.contextmanager
def draft_beside(path: Path) -> Generator[Path]:
    """A place for a store that is not finished, in a private folder beside `path` that goes in any case."""
    # Named before it is made, so that whatever interrupts its making finds it.
    folder = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise StoreProblem(f"nothing can be written in {path.parent}: {error.strerror}") from error
        yield folder / "draft.db"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _demand_nothing_at(path: Path) -> None:
    if path.is_symlink() or path.exists():
        raise ConfigurationProblem(f"{path} is there already: a backup is written to a new file")


def publish(draft: Path, path: Path) -> None:
    """Give a finished file its name, unless something has that name by now."""
    try:
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            _demand_nothing_at(path)
        except OSError:
            # A file system without hard links: the name is taken first.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            draft.replace(path)
        sync(path.parent)
    except OSError as error:
        raise StoreProblem(f"{path} cannot be written: {error.strerror}") from error
