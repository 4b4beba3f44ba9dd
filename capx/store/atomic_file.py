"""Writes a store file so that it appears whole or not at all.

The file is written in a private folder beside its place, synced, and then gets its name. Beside, because a file can
only be linked or renamed within one file system.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Generator
from pathlib import Path

from capx.crypto.private_file import explained, sync
from capx.errors import ConfigurationProblem, StoreProblem


@contextlib.contextmanager
def draft_beside(path: Path) -> Generator[Path]:
    """A place for an unfinished store, in a private folder beside `path`; the folder is always removed at the end."""
    # The name is chosen before the folder is made: an interruption right after `mkdir` still removes the folder.
    folder = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with explained(StoreProblem, f"nothing can be written in {path.parent}"):
            # SQLite makes a -wal and a -shm beside the draft: the closed folder hides them from other users too.
            folder.mkdir(mode=0o700)
        yield folder / "draft.db"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def demand_nothing_at(path: Path) -> None:
    """Raise ConfigurationProblem if anything has this name."""
    if path.is_symlink() or path.exists():
        raise ConfigurationProblem(f"{path} exists already: choose a new file for the backup")


def publish(draft: Path, path: Path) -> None:
    """Give a finished file its name; ConfigurationProblem if something has that name meanwhile."""
    with explained(StoreProblem, f"{path} cannot be written"):
        try:
            # A link never replaces a file, and a rename would: here nothing is lost if somebody was faster.
            path.hardlink_to(draft)
        except FileExistsError:
            demand_nothing_at(path)
        except OSError:
            # A file system without hard links: take the name exclusively first, then replace our own empty file.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            draft.replace(path)
        # The name is an entry of the folder: without this, a crash could lose the name of a file that was synced.
        sync(path.parent)
