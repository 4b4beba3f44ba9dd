"""A key file: how it is read, and how it is written or changed, whole or not at all.

Laws: what is wrong with a line is told by its number, and never shows the line. Who may use the file, and what a crash
leaves of it, is said in capx.crypto.private_file.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from capx.crypto import private_file
from capx.errors import KeyProblem

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path  # slow to import, and only whoever has one calls what takes one

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
    with private_file.explained(KeyProblem, f"cannot read the key file {path}"):
        lines = private_file.read_secret(path, KeyProblem, "key file").decode("ascii", "replace").splitlines()
    held = ((number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#"))
    return [(number, read(line.split())) for number, line in held]


def write(path: "Path", keys: Keys) -> None:
    """Write a file that only its owner may read; KeyProblem if something is there."""
    private_file.create(path, lambda: keys.dump().encode("ascii"), KeyProblem)


def changing(path: "Path") -> "AbstractContextManager[Path]":
    """The key file that a path names, in a block in which no other process changes it."""
    return private_file.changing(path, KeyProblem)


def replace(path: "Path", keys: Keys) -> None:
    """Put a new file in the place of an old one, of the same owner; readers see the one or the other."""
    private_file.replace(path, lambda: keys.dump().encode("ascii"), KeyProblem)
