"""`policy.toml`: the file of a policy, and the policy that it is at this moment.

    PolicyFile(path)()  ──▶  Policy, read anew whenever the file has changed

Laws: a file that cannot be used gives no policy, not the one before: whoever narrowed it expects it to be narrower. No
file is no policy. A file that others may write is refused, and so is a link that another user made, or that leads
nowhere. A file is taken as unchanged only if it was left alone for a while before it was read: within one tick of its
clock it could change and look the same.
"""

import hashlib
import threading
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from capx.crypto import private_file
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
        from pathlib import Path

        self._path = Path(path)
        self._lock = threading.Lock()
        self._held: _Held | None = None

    def __call__(self) -> Policy:
        """The policy; NO_POLICY where there is no file."""
        held = self._held
        with private_file.explained(ConfigurationProblem, f"{self._path} cannot be read"):
            try:
                if held is None or not held.settled or private_file.stamp(self._path.stat()) != held.stamp:
                    with self._lock:
                        held = self._held = self._read(self._held)
            except FileNotFoundError:
                # Refuses a link that leads nowhere: whoever made it wants a policy.
                private_file.followed(self._path, ConfigurationProblem)
                return NO_POLICY
        if isinstance(held.given, InvalidFile):
            raise InvalidFile(str(self._path), held.given.lines)
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
            given = read_policy(data, str(self._path))
        except InvalidFile as problem:
            given = problem
        return _Held(stamp, settled, data, given)


def contents(path: "Path") -> tuple[tuple[int, ...], bytes]:
    """What tells a file from one that was changed, and its bytes: no more than a policy may have and one.

    ConfigurationProblem if others may change it or it is no regular file; OSError if it cannot be read.
    """
    found, data = private_file.read_trusted(path, ConfigurationProblem, "policy", LARGEST + 1)
    return private_file.stamp(found), data
