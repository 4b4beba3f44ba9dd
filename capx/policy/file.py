"""The file `policy.toml`, and the policy that it has at this moment.

    PolicyFile(path)()  ──▶  Policy, read again whenever the file has changed

Laws: while a file cannot be used, there is no policy. The policy before it does not stay in force, because the change
may have been meant to narrow it. If there is no file, the policy is `NO_POLICY`. A file that others may write is
refused, and so is a link that another user made or that leads nowhere. A file counts as unchanged only if it was
already some time old when it was read: a file can change twice within one tick of its clock, and have the same times.
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
    from pathlib import Path  # slow to import; a caller that has a Path has imported it

FILE: Final = "policy.toml"
"""The name of the policy file in the home of an authority."""

_SETTLED: Final = 2_000_000_000
"""Nanoseconds after which a later change of the file must show in its times, on any file system."""


def read_policy(data: bytes | str, name: str = FILE) -> Policy:
    """Read a policy from the contents of a file; `name` is the name of the file in errors.

    ConfigurationProblem lists all mistakes by key path.
    """
    try:
        tables = read_tables(load(data))
    except Wrong as error:
        raise InvalidFile(name, error.lines) from None
    raw = data.encode() if isinstance(data, str) else data
    return Policy(
        digest=b64u(hashlib.sha256(raw).digest()),
        audiences=MappingProxyType(dict(tables.audiences)),
        statements=MappingProxyType(dict(tables.statements)),
        principals=MappingProxyType(dict(tables.principals)),
        purposes=MappingProxyType(dict(tables.purposes)),
    )


class _Reading(Struct, frozen=True):
    """One reading of the file: its stamp, whether it was settled by then, its bytes, and its policy or error."""

    stamp: tuple[int, ...]
    settled: bool
    data: bytes
    result: Policy | InvalidFile


class PolicyFile:
    """Returns the policy of a file, as the file is at each call; several threads may call it.

    A call raises ConfigurationProblem while the file cannot be read or used.
    """

    def __init__(self, path: "Path | str") -> None:
        from pathlib import Path

        self._path = Path(path)
        self._lock = threading.Lock()
        self._held: _Reading | None = None

    def __call__(self) -> Policy:
        """Return the policy; NO_POLICY if there is no file."""
        held = self._held
        with private_file.explained(ConfigurationProblem, f"{self._path} cannot be read"):
            try:
                if held is None or not held.settled or private_file.stamp(self._path.stat()) != held.stamp:
                    # One thread parses a changed file; the others would only repeat the work.
                    with self._lock:
                        held = self._held = self._read(self._held)
            except FileNotFoundError:
                # A link that leads nowhere is an error and not "no file": somebody wanted a policy there.
                private_file.followed(self._path, ConfigurationProblem)
                return NO_POLICY
        if isinstance(held.result, InvalidFile):
            # A new exception at each call: a raised one collects the traceback of every thread.
            raise InvalidFile(str(self._path), held.result.lines)
        return held.result

    def _read(self, before: _Reading | None) -> _Reading:
        """Read the file; keep the parsed policy if the bytes are the same as before."""
        # The clock before the file: if the file changes while it is read, it does not count as settled.
        now = time.time_ns()
        stamp, data = contents(self._path)
        settled = max(stamp[-2:]) + _SETTLED < now
        if before is not None and before.data == data:
            return _Reading(stamp, settled, data, before.result)
        result: Policy | InvalidFile
        try:
            result = read_policy(data, str(self._path))
        except InvalidFile as problem:
            result = problem
        return _Reading(stamp, settled, data, result)


def contents(path: "Path") -> tuple[tuple[int, ...], bytes]:
    """Return the stamp of the file, which changes when the file does, and its bytes.

    It reads at most one byte more than a policy may have. ConfigurationProblem if others may change the file, or it is
    not a regular file; OSError if it cannot be read.
    """
    found, data = private_file.read_trusted(path, ConfigurationProblem, "policy", LARGEST + 1)
    return private_file.stamp(found), data
