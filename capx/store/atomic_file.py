"""A store file that appears whole, or not at all: written beside its place, synced, then given its name."""

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
    """A place for a store that is not finished, in a private folder beside `path` that goes in any case."""
    # Named before it is made, so that whatever interrupts its making finds it.
    folder = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with explained(StoreProblem, f"nothing can be written in {path.parent}"):
            folder.mkdir(mode=0o700)
        yield folder / "draft.db"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def demand_nothing_at(path: Path) -> None:
    """Raise ConfigurationProblem if anything has this name."""
    if path.is_symlink() or path.exists():
        raise ConfigurationProblem(f"{path} is there already: a backup is written to a new file")


def publish(draft: Path, path: Path) -> None:
    """Give a finished file its name, unless something has that name by now."""
    with explained(StoreProblem, f"{path} cannot be written"):
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            demand_nothing_at(path)
        except OSError:
            # A file system without hard links: the name is taken first.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            draft.replace(path)
        sync(path.parent)
