"""A key file: how it is read, and how it is written or changed, whole or not at all.

Laws: one that others may read is refused. What is wrong with a line is told by its number, and never shows the line.
One process at a time changes a file; whoever reads meanwhile sees the old one or the new one. Nothing but a regular
file is replaced, and no link of a stranger is followed. What is written is asked for only where it is written, so that
no frame in which something is raised holds it.
"""

import fcntl
import os
import stat
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol, TypeVar

from capx.errors import KeyProblem

if TYPE_CHECKING:
    from pathlib import Path  # slow to import, and only whoever has one calls what takes one

_PATIENCE = 5.0
"""Seconds for which a change waits for another one to end."""
_LINKS = 40
"""Links from one to the next that are followed to a key file, as many as Linux does."""

_Key = TypeVar("_Key")


class Keys(Protocol):
    """What a key file holds."""

    def dump(self) -> str:
        """The text of the file: a secret."""
        ...


def loaded(path: "Path", read: Callable[[list[str]], _Key | str]) -> list[_Key]:
    """The keys of a file, one at least; a line that is none is told by its number, and not shown."""
    keys: list[_Key] = []
    for number, key in _read(path, read):
        if isinstance(key, str):
            raise KeyProblem(f"{path}, line {number}: {key}")
        keys.append(key)
    if not keys:
        raise KeyProblem(f"{path} holds no key")
    return keys


def _read(path: "Path", read: Callable[[list[str]], _Key | str]) -> list[tuple[int, _Key | str]]:
    """The key in each line, or what is wrong with it; nothing is raised once the text was read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise KeyProblem(f"{path} is no regular file, so it is no key file")
        with path.open("rb") as file:
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
                raise KeyProblem(f"{path} may be read by others: chmod 600 {path}")
            lines = file.read().decode("ascii", "replace").splitlines()
    except OSError as error:
        raise KeyProblem(f"cannot read the key file {path}: {error.strerror}") from None
    held = ((number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#"))
    return [(number, read(line.split())) for number, line in held]


def write(path: "Path", keys: Keys, owner: os.stat_result | None = None) -> None:
    """Write a file that only its owner may read; KeyProblem if something is there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyProblem(
            f"cannot write the key file {path}: it is there already: choose another name, or remove it"
        ) from None
    except OSError as error:
        raise KeyProblem(f"cannot write the key file {path}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            if owner is not None and owner.st_uid != os.geteuid():
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            file.write(keys.dump())
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        with suppress(OSError):
            path.unlink()
        if isinstance(error, OSError):
            raise KeyProblem(f"cannot write the key file {path}: {error.strerror}") from None
        raise


def followed(path: "Path") -> "Path":
    """The file that a path names; where links lead there, each is of this user or root.

    Else whoever made one would choose what is overwritten.
    """
    file = path
    for _ in range(_LINKS):
        with _explained(path):
            found = _there(file)
            if found is None and file is not path:
                raise KeyProblem(f"{path} is a link that leads nowhere: name the file itself")
            if found is None or not stat.S_ISLNK(found.st_mode):
                return file
            if found.st_uid not in {os.geteuid(), 0}:
                raise KeyProblem(f"{file} is a link of another user: name the file that it leads to")
            file = file.parent / file.readlink()
    raise KeyProblem(f"{path} leads from link to link: name the file itself")


def replace(path: "Path", keys: Keys) -> None:
    """Put a new file in the place of an old one, of the same owner; readers see the one or the other."""
    beside = path.with_name(f"{path.name}.new")
    with _explained(path):
        owner = _there(path)
        if owner is not None and not stat.S_ISREG(owner.st_mode):
            raise KeyProblem(f"{path} is no regular file: choose another name")
        # Left by a change that a crash cut short: nobody else is changing it now.
        beside.unlink(missing_ok=True)
    try:
        write(beside, keys, owner)
        with _explained(path):
            beside.replace(path)
            _sync(path.parent)
    except BaseException:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def _there(path: "Path") -> os.stat_result | None:
    """What stands there, and whose it is, who goes on being able to read it; None if nothing does."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    # Where anybody may put a file, it would be a trap: what replaces it is given to its owner.
    if found.st_uid != os.geteuid() and path.parent.stat().st_mode & 0o022:
        raise KeyProblem(f"{path} belongs to another user, in a folder that others may write: remove it first")
    return found


@contextmanager
def alone(path: "Path") -> Generator[None]:
    """A block that no other process is in for the same folder; KeyProblem when one stays in it."""
    with _explained(path):
        # The folder is locked, not the file: that one is replaced.
        folder = os.open(path.parent, os.O_RDONLY)
    try:
        deadline = time.monotonic() + _PATIENCE
        while not _locked(path, folder):
            if time.monotonic() > deadline:
                raise KeyProblem(f"another process is changing {path}: try again")
            time.sleep(0.02)
        yield
    finally:
        os.close(folder)


def _locked(path: "Path", folder: int) -> bool:
    with _explained(path):
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@contextmanager
def _explained(path: "Path") -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise KeyProblem(f"cannot change the key file {path}: {error.strerror}") from None


def _sync(folder: "Path") -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
