"""Reading, creating and replacing files that hold a secret or decide what is allowed, and who may use them.

    read_secret(path, KeyProblem, "key file")      the bytes, if only the owner can use the file
    read_trusted(path, ConfigurationProblem, "policy")      the bytes, if no other user can change the file
    create(path, dump, KeyProblem)                 a new file, which only its owner can use
    with changing(path, KeyProblem) as file:       the file behind all links; no other process changes it
        replace(file, dump, KeyProblem)            a new file in place of the old one
    save(path, dump, ConfigurationProblem, over=False)      a file as a whole, over an old one only if that is wanted

Laws: the checks look at the open file, not at its name, because the name could mean another file a moment later. A link
of another user is not followed. A pipe is refused, and its writer is not waited for. `dump` returns the bytes only at
the moment when they are written. So when an error is raised, no local variable in its traceback holds a secret. After
an error, an interrupt or a full disk there is no new file and no draft, and the old file is as it was. One exception:
the last step of `replace` syncs the folder. If that fails or is interrupted, the new file is there already, and a crash
may bring back the old one. The error says so.

A crash can happen at four points of `replace`:

    while the draft is written      the old file is there; NAME.new may be left, not whole; only its owner can use it
    before the draft is renamed     the old file is there; NAME.new may be left, whole, but nobody reads it
    before the folder is synced     the old file or the new one is there, whole
    after that                      the new file is there

The next `replace` removes NAME.new. A crash within `create` may leave a file that is empty or cut short. After `create`
has returned, the file is on the disk.
"""

import fcntl
import os
import stat
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path  # slow to import: a caller that passes one has imported it already

Problem = Callable[[str], Exception]
"""The class of the errors that are raised; it takes a sentence."""

_PATIENCE = 5.0
"""The seconds for which a change waits until another one has ended."""
_THERE = "it is there already: choose another name, or remove it"
_LINKS = 40
"""The most links that are followed from one to the next, as many as Linux follows."""


def open_to_others(found: os.stat_result) -> bool:
    """Whether users other than the owner can read or change the file."""
    return bool(found.st_mode & 0o077)


def shown_to_others(found: os.stat_result) -> bool:
    """Whether it is a regular file that other users can read or change; the mode of a pipe says nothing."""
    return stat.S_ISREG(found.st_mode) and open_to_others(found)


def writable_by_others(found: os.stat_result) -> bool:
    """Whether users other than the owner can change the file."""
    return bool(found.st_mode & 0o022)


def of_another_user(found: os.stat_result) -> bool:
    """Whether the file belongs to a user other than this one and root."""
    return found.st_uid not in {os.geteuid(), 0}


def demand_private(path: "Path", found: os.stat_result, problem: Problem) -> None:
    """Refuse a file that other users can read or change: what it holds is not a secret any more."""
    if open_to_others(found):
        raise problem(f"{path} may be read or changed by others: chmod 600 {path}")


def demand_ours(path: "Path", found: os.stat_result, problem: Problem, instead: str = "") -> None:
    """Refuse a file that other users can change; `instead` is added to the error and says what else would help."""
    if writable_by_others(found):
        raise problem(f"{path} may be changed by others: chmod go-w {path}{instead}")
    if of_another_user(found):
        raise problem(
            f"{path} belongs to another user, who may change it: chown it to the user that runs this{instead}"
        )


def stamp(found: os.stat_result) -> tuple[int, ...]:
    """Return values that change whenever the file, its owner or its mode changes, or another file takes its place."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@contextmanager
def explained(problem: Problem, what: str) -> Generator[None]:
    """Open a block in which an OSError becomes a problem that says what failed, with the reason of the system."""
    try:
        yield
    except OSError as error:
        raise problem(f"{what}: {error.strerror or error}") from None


def read_secret(path: "Path", problem: Problem, kind: str, most: int = -1) -> bytes:
    """Return at most `most` bytes of a file that only its owner can use; OSError if it cannot be read."""
    with _opened(path, problem, kind) as (found, file):
        demand_private(path, found, problem)
        return file.read(most)


def read_trusted(path: "Path", problem: Problem, kind: str, most: int = -1) -> tuple[os.stat_result, bytes]:
    """Return the state and at most `most` bytes of a file that no other user can change; OSError if it cannot be read.

    Links of other users are not followed, because such a user could lead the path elsewhere.
    """
    with _opened(followed(path, problem), problem, kind, os.O_NOFOLLOW) as (found, file):
        demand_ours(path, found, problem)
        return found, file.read(most)


@contextmanager
def _opened(path: "Path", problem: Problem, kind: str, flags: int = 0) -> Generator[tuple[os.stat_result, IO[bytes]]]:
    """Open a regular file, and give its state with it; a pipe is refused, without waiting for its writer."""
    # O_NONBLOCK: opening a pipe would otherwise wait for a writer. The checks follow on the handle, not on the name.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    try:
        found = os.fstat(handle)
        if stat.S_ISDIR(found.st_mode):
            raise problem(f"{path} is a folder: name the {kind} in it")
        if not stat.S_ISREG(found.st_mode):
            raise problem(f"{path} is not a regular file, so it cannot be a {kind}: put a file there")
        with os.fdopen(handle, "rb", closefd=False) as file:
            yield found, file
    finally:
        os.close(handle)


def create(path: "Path", dump: Callable[[], bytes], problem: Problem) -> None:
    """Write a new file that only its owner can read; a problem if there is something already."""
    with explained(problem, f"cannot write {path}"):
        try:
            _write(path, dump)
        except FileExistsError:
            is_there = "it is a folder: name a file in it" if path.is_dir() else _THERE
            raise problem(f"cannot write {path}: {is_there}") from None
        try:
            sync(path.parent)
        except BaseException:
            with suppress(OSError):
                path.unlink()
            raise


def replace(
    path: "Path",
    dump: Callable[[], bytes],
    problem: Problem,
    *,
    keep_mode: bool = False,
    demand: Callable[[], None] = lambda: None,
) -> None:
    """Write a new file in place of an old one, with the same owner; a reader sees the old one or the new one, whole.

    There need not be an old one. Only the owner can read the new file, unless `keep_mode` keeps the mode of the old
    one. `demand` is called last, just before the new file gets its name; it may raise to stop that. Call `replace`
    within `changing`.
    """
    with explained(problem, f"cannot write {path}"):
        old = path.lstat() if os.path.lexists(path) else None
        if old is not None:
            _demand_not_planted(path, old, problem)
            if not stat.S_ISREG(old.st_mode):
                raise problem(f"{path} is not a regular file: choose another name")
        draft = path.with_name(f"{path.name}.new")
        # A draft from a change that crashed. No process is writing it now: `changing` holds the lock.
        draft.unlink(missing_ok=True)
        try:
            _write(draft, dump, old, keep_mode=keep_mode)
            demand()
            draft.replace(path)
        except BaseException:
            # Also for an interrupt: a draft of a key file is a secret, and must not be left.
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
    # The new name is on the disk only when its folder is. The old file is gone, so nothing can be undone here.
    with explained(problem, f"{path} was written, but its folder could not be synced: it may be lost in a crash"):
        sync(path.parent)


def save(path: "Path", dump: Callable[[], bytes], problem: Problem, *, over: bool) -> None:
    """Write a file that only its owner can use, as `replace` does; without `over`, a problem if there is one already.

    Unlike `create`, a crash leaves no part of a file under this name.
    """
    with changing(path, problem) as file:
        replace(file, dump, problem, demand=lambda: None if over else _demand_free(file, problem))


def _demand_free(path: "Path", problem: Problem) -> None:
    if os.path.lexists(path):
        raise problem(f"{path} is there already: choose another name, or replace it")


def _write(
    path: "Path", dump: Callable[[], bytes], old: os.stat_result | None = None, *, keep_mode: bool = False
) -> None:
    """Write a new file and wait until its bytes are on the disk, not yet its name; after an error there is no file."""
    # O_EXCL: a file or a link that somebody put there must not get the secret. The mode is there from the start.
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
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def sync(path: "Path") -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def changing(path: "Path", problem: Problem) -> Generator["Path"]:
    """Open a block with the file that a path names; no other process changes a file of its folder during the block."""
    with explained(problem, f"cannot write {path}"):
        file = followed(path, problem, to_replace=True)
    with locked(file, problem):
        yield file


@contextmanager
def locked(path: "Path", problem: Problem) -> Generator[None]:
    """Open a block that only one process can be in for the same folder; a problem if another one stays in it."""
    with explained(problem, f"cannot write {path}"):
        # Lock the folder, not the file: a new file takes the place of the file, and would not have its lock.
        folder = os.open(path.parent, os.O_RDONLY)
    _folders.add(folder)
    try:
        with explained(problem, f"cannot write {path}"):
            _lock(folder, path, problem)
        yield
    finally:
        # In a child that was forked within the block it is closed.
        if folder in _folders:
            _folders.discard(folder)
            os.close(folder)


_folders: set[int] = set()
"""The folders that this process has open to lock them."""


def _close_folders() -> None:
    """Close the folders of the parent in a forked child, which would keep them locked for as long as it lives."""
    for folder in _folders:
        os.close(folder)
    _folders.clear()


os.register_at_fork(after_in_child=_close_folders)


def _lock(folder: int, path: "Path", problem: Problem) -> None:
    # flock itself cannot wait for a limited time, so try again until the deadline.
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
    """Return the file that a path names; each link on the way must belong to this user or root.

    Any other owner of a link could choose the file. There need not be a file. With `to_replace`, the file and each link
    are also refused if another user could have put them there to get the new content.
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
            _demand_not_planted(file, found, problem)
        if not stat.S_ISLNK(found.st_mode):
            return file
        if of_another_user(found):
            raise problem(f"{file} is a link of another user, who can lead it elsewhere: name the file itself")
        file = file.parent / file.readlink()
    raise problem(f"{path} leads through more than {_LINKS} links: name the file itself")


def _demand_not_planted(path: "Path", found: os.stat_result, problem: Problem) -> None:
    """Refuse a file that another user could have put there: the new file would belong to that user."""
    if found.st_uid != os.geteuid() and writable_by_others(path.parent.stat()):
        raise problem(f"{path} belongs to another user, in a folder that others can write to: remove it first")
