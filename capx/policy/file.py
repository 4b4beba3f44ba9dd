"""`policy.toml`: the file of a policy, and the policy that it is at this moment.

    PolicyFile(path)()  ──▶  Policy, read anew whenever the file has changed

Laws: a file that cannot be used gives no policy, not the one before: whoever narrowed it expects it to be narrower. No
file is no policy. A file that others may write is refused, and so is a link that another user made, or that leads
nowhere. A file is taken as unchanged only if it was left alone for a while before it was read: within one tick of its
clock it could change and look the same.
"""

import hashlib
import os
import stat
import threading
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from capx.crypto.base64url import b64u
from capx.errors import ConfigurationProblem
from capx.policy.policy import NO_POLICY, Policy
from capx.policy.tables import read_tables
from capx.policy.toml_reader import LARGEST, InvalidFile, Wrong, load

if TYPE_CHECKING:
    from pathlib import Path  # slow to import, and only whoever has one calls what takes one

FILE: Final = "policy.toml"
"""What the file is called in the home of an authority."""

_SETTLED: Final = 2_000_000_000
"""Nanoseconds after which a change of a file shows in its times, whatever keeps it."""

_LINKS: Final = 40
"""Links from one to the next that are followed, as many as Linux does."""


def read_policy(data: bytes | str, name: str = FILE) -> Policy:
    """The policy that a file holds; ConfigurationProblem tells all that is wrong with it, by key path."""
    try:
        tables = read_tables(load(data))
    except Wrong as error:
        raise InvalidFile(name, error.lines) from None
    raw = data.encode() if isinstance(data, str) else data
    return Policy(
        digest=b64u(hashlib.sha256(raw).digest()),
        audiences=MappingProxyType(dict(tables.audiences)),
        principals=MappingProxyType(dict(tables.principals)),
        purposes=MappingProxyType(dict(tables.purposes)),
    )


class _Held(Struct, frozen=True):
    """What was read: from which file, whether it was settled then, and what it gives."""

    stamp: tuple[int, ...]
    settled: bool
    data: bytes
    given: Policy | InvalidFile


class PolicyFile:
    """Gives the policy of a file, as it is whenever it is called; safe to call in several threads.

    ConfigurationProblem while the file cannot be read, or used.
    """

    def __init__(self, path: "Path | str") -> None:
        self._path = os.fspath(path)
        self._lock = threading.Lock()
        self._held: _Held | None = None

    def __call__(self) -> Policy:
        """The policy; NO_POLICY where there is no file."""
        held = self._held
        try:
            unchanged = held is not None and held.settled and _stamp(os.stat(self._path)) == held.stamp  # noqa: PTH116 - pathlib is slow to import
            if held is None or not unchanged:
                with self._lock:
                    held = self._held = self._read(self._held)
        except FileNotFoundError:
            if os.path.islink(self._path):  # noqa: PTH114 - pathlib is slow to import
                raise ConfigurationProblem(f"{self._path} is a link that leads nowhere: put the policy there") from None
            return NO_POLICY
        except OSError as error:
            raise ConfigurationProblem(f"{self._path} cannot be read: {error.strerror}") from None
        if isinstance(held.given, InvalidFile):
            raise InvalidFile(self._path, held.given.lines)
        return held.given

    def _read(self, before: _Held | None) -> _Held:
        """What the file holds now; what it held before, if that is the same."""
        now = time.time_ns()
        stamp, data = contents(self._path)
        settled = max(stamp[-2:]) + _SETTLED < now
        if before is not None and before.data == data:
            return _Held(stamp, settled, data, before.given)
        given: Policy | InvalidFile
        try:
            given = read_policy(data, self._path)
        except InvalidFile as problem:
            given = problem
        return _Held(stamp, settled, data, given)


def contents(path: str) -> tuple[tuple[int, ...], bytes]:
    """What tells a file from one that was changed, and its bytes: no more than a policy may have and one.

    ConfigurationProblem if others may change it or it is no regular file; OSError if it cannot be read.
    """
    handle = os.open(_followed(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        found = os.fstat(handle)
        _demand_ours(path, found)
        with os.fdopen(handle, "rb", closefd=False) as file:
            return _stamp(found), file.read(LARGEST + 1)
    finally:
        os.close(handle)


def _demand_ours(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationProblem(f"{path} is no regular file, so it is no policy")
    if found.st_mode & 0o022:
        raise ConfigurationProblem(f"{path} may be changed by others: chmod go-w {path}")
    if found.st_uid not in {os.geteuid(), 0}:
        raise ConfigurationProblem(
            f"{path} belongs to another user, who may change it: chown it to the one that uses it"
        )


def _followed(path: str) -> str:
    """The file that a path names; where links lead there, each is of this user or root, who else would choose it."""
    for _ in range(_LINKS):
        found = os.lstat(path)
        if not stat.S_ISLNK(found.st_mode):
            break
        if found.st_uid not in {os.geteuid(), 0}:
            raise ConfigurationProblem(f"{path} is a link of another user, who may lead it elsewhere: remove it")
        path = os.path.join(os.path.dirname(path), os.readlink(path))  # noqa: PTH115, PTH118, PTH120 - the same
    return path


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    """What changes whenever a file does, or another takes its place, or somebody else may write it."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
