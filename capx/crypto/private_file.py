"""A file that holds a secret, or decides what is allowed: who may use it, and how it is read, made and replaced.

    read_secret(path, KeyProblem, "key file")      its bytes, if only its owner may use it
    read_trusted(path, ConfigurationProblem, "policy")      its bytes, if nobody else may change it
    create(path, dump, KeyProblem)                 a new file, for its owner alone
    with changing(path, KeyProblem) as file:       the file behind the links, and nobody else changes it
        replace(file, dump, KeyProblem)            a new file in the place of the old one

Laws: the checks look at the file that was opened, not at a name that could mean another one by then. No link of another
user is followed, and no pipe is waited for. `dump` gives the bytes only where they are written, so that no frame in
which something is raised holds a secret. A failure, an interrupt or a full disk leaves no new file and no draft, and
leaves the old file as it is.

A crash can come at four points of `replace`:

    while the draft is written      the old file is there; NAME.new may be left, for its owner alone, not whole
    before the draft is renamed     the old file is there; NAME.new is left, whole, and nobody reads it
    before the folder is synced     the old file or the new one is there, whole
    after that                      the new file is there

The next `replace` removes NAME.new. A crash within `create` may leave a file that is empty or cut short. After it
returned, the file is there.
"""

import fcntl
import os
import stat
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path  # slow to import, and only whoever has one calls what takes one

Problem = Callable[[str], Exception]
"""What a refusal is raised as: a class of errors that takes a sentence."""

_PATIENCE = 5.0
"""Seconds for which a change waits for another one to end."""
_LINKS = 40
"""Links from one to the next that are followed to a file, as many as Linux does."""


def open_to_others(found: os.stat_result) -> bool:
    """Whether others than the owner may read or change it."""
    return bool(found.st_mode & 0o077)


def shown_to_others(found: os.stat_result) -> bool:
    """Whether it is a regular file that others may read; the mode of a pipe says nothing of what is in it."""
    return stat.S_ISREG(found.st_mode) and open_to_others(found)


def writable_by_others(found: os.stat_result) -> bool:
    """Whether others than the owner may change it."""
    return bool(found.st_mode & 0o022)


def of_another_user(found: os.stat_result) -> bool:
    """Whether it belongs to somebody else than this user and root."""
    return found.st_uid not in {os.geteuid(), 0}


def demand_private(path: "Path", found: os.stat_result, problem: Problem) -> None:
    """Refuse a file that others may read or change: it is no secret any more."""
    if open_to_others(found):
        raise problem(f"{path} may be read or changed by others: chmod 600 {path}")


def demand_ours(path: "Path", found: os.stat_result, problem: Problem, instead: str = "") -> None:
    """Refuse what others may change, whoever may read it; `instead` goes on with what else would do."""
    if writable_by_others(found):
        raise problem(f"{path} may be changed by others: chmod go-w {path}{instead}")
    if of_another_user(found):
        raise problem(f"{path} belongs to another user, who may change it: chown it to the one that uses it{instead}")


def stamp(found: os.stat_result) -> tuple[int, ...]:
    """What changes whenever a file does, or another takes its place, or somebody else may write it."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@contextmanager
def explained(problem: Problem, what: str) -> Generator[None]:
    """A block in which an OSError becomes a problem: what failed, and the system's reason."""
    try:
        yield
    except OSError as error:
        raise problem(f"{what}: {error.strerror or error}") from None


def read_secret(path: "Path", problem: Problem, kind: str, most: int = -1) -> bytes:
    """The bytes of a file that only its owner may use, at most so many; OSError if it cannot be read."""
    with _opened(path, problem, kind) as (found, file):
        demand_private(path, found, problem)
        return file.read(most)


def read_trusted(path: "Path", problem: Problem, kind: str, most: int = -1) -> tuple[os.stat_result, bytes]:
    """A file that nobody else may change, and its bytes, at most so many; OSError if it cannot be read.

    No other user may lead the path elsewhere: their links are not followed.
    """
    with _opened(followed(path, problem), problem, kind, os.O_NOFOLLOW) as (found, file):
        demand_ours(path, found, problem)
        return found, file.read(most)


@contextmanager
def _opened(path: "Path", problem: Problem, kind: str, flags: int = 0) -> Generator[tuple[os.stat_result, IO[bytes]]]:
    """A regular file, and what is known of it; a pipe is refused, and its writer not waited for."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise problem(f"{path} is no regular file, so it is no {kind}")
        with os.fdopen(handle, "rb", closefd=False) as file:
            yield found, file
    finally:
        os.close(handle)


def create(path: "Path", dump: Callable[[], bytes], problem: Problem) -> None:
    """Write a new file that only its owner may read; a problem if something is there."""
    with explained(problem, f"cannot write {path}"):
        try:
            _write(path, dump)
        except FileExistsError:
            raise problem(f"cannot write {path}: it is there already: choose another name, or remove it") from None


def replace(
    path: "Path",
    dump: Callable[[], bytes],
    problem: Problem,
    *,
    keep_mode: bool = False,
    demand: Callable[[], None] = lambda: None,
) -> None:
    """Put a new file in the place of an old one, if there is one, of the same owner; readers see the one or the other.

    Only the owner may read it, unless it keeps the mode of the old one. `demand` is called last, when the new one needs
    only its name, and may refuse. Call it within `changing`.
    """
    draft = path.with_name(f"{path.name}.new")
    with explained(problem, f"cannot write {path}"):
        old = path.lstat() if os.path.lexists(path) else None
        if old is not None:
            _demand_no_trap(path, old, problem)
            if not stat.S_ISREG(old.st_mode):
                raise problem(f"{path} is no regular file: choose another name")
        # Left by a change that a crash cut short: nobody else is changing it now.
        draft.unlink(missing_ok=True)
        try:
            _write(draft, dump, old, keep_mode=keep_mode)
            demand()
            draft.replace(path)
        except BaseException:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
        sync(path.parent)


def _write(
    path: "Path", dump: Callable[[], bytes], old: os.stat_result | None = None, *, keep_mode: bool = False
) -> None:
    """Have a new file with the bytes, and its name, on the disk, or no file."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            if old is not None and old.st_uid != os.geteuid():
                os.fchown(handle, old.st_uid, old.st_gid)
            if old is not None and keep_mode:
                os.fchmod(handle, old.st_mode & 0o777)
            file.write(dump())
            file.flush()
            os.fsync(handle)
        sync(path.parent)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def sync(path: "Path") -> None:
    """Have a file, or the names in a folder, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def changing(path: "Path", problem: Problem) -> Generator["Path"]:
    """The file that a path names, in a block in which no other process changes it or another one of its folder."""
    with explained(problem, f"cannot write {path}"):
        file = followed(path, problem, to_replace=True)
    with alone(file, problem):
        yield file


@contextmanager
def alone(path: "Path", problem: Problem) -> Generator[None]:
    """A block that no other process is in for the same folder; a problem when one stays in it."""
    with explained(problem, f"cannot write {path}"):
        # The folder is locked, not the file: that one is replaced.
        folder = os.open(path.parent, os.O_RDONLY)
    try:
        with explained(problem, f"cannot write {path}"):
            _lock(folder, path, problem)
        yield
    finally:
        os.close(folder)


def _lock(folder: int, path: "Path", problem: Problem) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise problem(f"another process is changing {path}: try again") from None
            time.sleep(0.02)
        else:
            return


def followed(path: "Path", problem: Problem, *, to_replace: bool = False) -> "Path":
    """The file that a path names; where links lead there, each is of this user or root, who else would choose it.

    There need not be one. What is `to_replace` must be no trap, nor any link on the way.
    """
    file = path
    for _ in range(_LINKS):
        try:
            found = file.lstat()
        except FileNotFoundError:
            if file is path:
                return path
            raise problem(f"{path} is a link that leads nowhere: put a file there, or remove the link") from None
        if to_replace:
            _demand_no_trap(file, found, problem)
        if not stat.S_ISLNK(found.st_mode):
            return file
        if of_another_user(found):
            raise problem(f"{file} is a link of another user, who may lead it elsewhere: name the file, or remove it")
        file = file.parent / file.readlink()
    raise problem(f"{path} leads from link to link: name the file itself")


def _demand_no_trap(path: "Path", found: os.stat_result, problem: Problem) -> None:
    """Refuse what anybody could have put there, to be given what replaces it."""
    if found.st_uid != os.geteuid() and writable_by_others(path.parent.stat()):
        raise problem(f"{path} belongs to another user, in a folder that others may write: remove it first")
