"""The files of a spool: a process has one, and locks it until it ends.

Laws: no other user can write to the folder. A file is made with its mode, and only its owner can use it. Who finds a
file without a lock finds one whose process is gone. The folder is locked while files are made and taken over, so nobody
takes over a file that is being made. Only the last line can be incomplete, after the process or the disk has failed.
The next write takes its place, and in the file beside it comes after it.
"""

import fcntl
import os
import re
import secrets
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Final

from capx import diagnostics
from capx.crypto.keys import AudienceKeys
from capx.crypto.private_file import create, demand_ours, explained, followed, locked
from capx.errors import ConfigurationProblem

# Empty lines, so that a disk without room is noticed when the service starts.
_ROOM: Final = b"\n" * 4096
_SUFFIX: Final = ".spool"
MOST: Final = 50
"""Files that a process takes over at once. A service that was killed again and again has left many."""


class SpoolFile:
    """An open file, which this process has locked; `count` lines were written since it was empty."""

    def __init__(self, path: Path, flags: int = 0) -> None:
        self.path = path
        self.count = 0
        self._handle: int | None = None
        _open_files.add(self)
        # O_NONBLOCK: opening a pipe would otherwise wait for its writer.
        self._handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | flags, 0o600)
        found = os.fstat(self._open)
        self._size, self.synced = found.st_size, True
        try:
            _demand_ours(path, found)
        except ConfigurationProblem:
            self.close()
            raise

    def lock(self) -> bool:
        """Lock the file; close it, and return False, if another process has the lock."""
        try:
            fcntl.flock(self._open, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            return False
        return True

    @property
    def is_there(self) -> bool:
        """Whether its name still leads to it; somebody may have removed it."""
        found = os.fstat(self._open)
        with suppress(OSError):
            there = self.path.lstat()
            return (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino)
        return False

    def append(self, lines: Sequence[bytes]) -> None:
        """Write lines behind the others; after an error, none of them is there."""
        text = memoryview(b"".join([line + b"\n" for line in lines]))
        size = self._size
        try:
            while text:
                written = os.pwrite(self._open, text, size)
                text, size = text[written:], size + written
        except BaseException:
            with suppress(OSError):
                os.ftruncate(self._open, self._size)
            raise
        self._size, self.count, self.synced = size, self.count + len(lines), False

    @property
    def is_whole(self) -> bool:
        """Whether its last line has its end."""
        return self._size == 0 or os.pread(self._open, 1, self._size - 1) == b"\n"

    def sync(self) -> None:
        """Wait until the lines are on the disk."""
        os.fsync(self._open)
        self.synced = True

    def empty(self) -> None:
        """Take all lines away."""
        os.ftruncate(self._open, 0)
        self._size, self.count, self.synced = 0, 0, True

    def lines(self) -> Iterator[bytes]:
        """Read the lines, each with its end; the last one has none if it was cut off. Empty ones are left out."""
        with os.fdopen(self._open, "rb", closefd=False) as file:
            file.seek(0)
            yield from (line for line in file if line != b"\n")

    def remove(self) -> None:
        """Remove the file, and close it."""
        try:
            self.path.unlink(missing_ok=True)
        finally:
            self.close()

    def close(self) -> None:
        """Close the file, and let another process take it over."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    @property
    def _open(self) -> int:
        if self._handle is None:
            raise AssertionError(self.path)
        return self._handle


_open_files: "weakref.WeakSet[SpoolFile]" = weakref.WeakSet()


def _close_files() -> None:
    """Close the files of the parent in a forked child, which would keep them locked for as long as it lives."""
    for file in list(_open_files):
        file.close()


os.register_at_fork(after_in_child=_close_files)


class SpoolFolder:
    """The folder of a spool, for the services with these keys."""

    def __init__(self, folder: Path, keys: AudienceKeys) -> None:
        # The authority too: what one has not answered for must not get into the log of another.
        self._name = f"{keys.audience}.{keys.authority or '-'}"
        wanted = f"a spool needs a folder that only its service can write to, and {folder} is none"
        with explained(ConfigurationProblem, wanted):
            self.path = followed(folder.absolute(), ConfigurationProblem)
            found = self.path.stat()
        if not S_ISDIR(found.st_mode):
            raise ConfigurationProblem(f"{wanted}: make a folder, and name that")
        demand_ours(self.path, found, ConfigurationProblem, ", or name a folder of its own")

    def create(self) -> SpoolFile:
        """Make a file for this process."""
        path = self.path / f"{self._name}.{secrets.token_hex(8)}{_SUFFIX}"
        with locked(path, ConfigurationProblem), explained(ConfigurationProblem, f"cannot write {path}"):
            create(path, lambda: _ROOM, ConfigurationProblem)
            file = SpoolFile(path)
            file.lock()
            file.empty()
            return file

    def orphans(self) -> list[SpoolFile]:
        """Take over the files whose process is gone, at most 50, the oldest first."""
        taken: list[SpoolFile] = []
        try:
            with locked(self.path / self._name, ConfigurationProblem):
                for path in self._oldest():
                    if len(taken) == MOST:
                        break
                    # Its process may have ended normally at this moment, and have removed it.
                    with explained(ConfigurationProblem, f"cannot take over {path}"), suppress(FileNotFoundError):
                        file = SpoolFile(path)
                        taken += [file] if file.lock() else []
        except BaseException:
            for file in taken:
                file.close()
            raise
        return taken

    def _oldest(self) -> list[Path]:
        """The files of such services, the one that was written longest ago first."""
        name = re.compile(re.escape(self._name) + rf"\.[0-9a-f]{{16}}\{_SUFFIX}")
        found: list[tuple[int, Path]] = []
        with explained(ConfigurationProblem, f"cannot read {self.path}"):
            for path in self.path.iterdir():
                with suppress(FileNotFoundError):
                    found += [(path.lstat().st_mtime_ns, path)] if name.fullmatch(path.name) else []
        return [path for _, path in sorted(found)]

    def keep_refused(self, line: bytes, why: object) -> None:
        """Write a line that no log takes into a file beside the others, and tell the logger `capx`."""
        path = self.path / f"{self._name}.refused"
        with locked(path, ConfigurationProblem), explained(ConfigurationProblem, f"cannot write {path}"):
            file = SpoolFile(path, os.O_CREAT)
            try:
                file.append([line] if file.is_whole else [b"", line])
                file.sync()
            finally:
                file.close()
        diagnostics.warn_once(f"a decision is in no log, but in {path}: {why}")


def _demand_ours(path: Path, found: os.stat_result) -> None:
    if not S_ISREG(found.st_mode):
        raise ConfigurationProblem(f"{path} is not a regular file: remove it")
    demand_ours(path, found, ConfigurationProblem)
