"""Key files: reading them, and writing or changing them as a whole or not at all.

Laws: an error about a line gives its number and never shows the line. capx.crypto.private_file says who may use the
file, and what is left of it after a crash.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from capx.crypto import private_file
from capx.errors import KeyProblem

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path  # slow to import: a caller that passes one has imported it already

_Key = TypeVar("_Key")
_MOST: Final = 2**20
"""Bytes of a key file."""
_KINDS: Final = frozenset({"agent", "audience", "ledger", "principal", "root", "witness"})
_SECRET: Final = re.compile("[A-Za-z0-9_-]{43}")


class Keys(Protocol):
    """The keys of a key file."""

    def dump(self) -> str:
        """Return the text of the file: a secret."""
        ...


def loaded(path: "Path", read: Callable[[list[str]], _Key | str]) -> list[_Key]:
    """Return the keys of a file, at least one; KeyProblem gives the number of a line that is not a key."""
    return _all_good(f"{path}", _read(path, read))


def parsed(text: str, name: str, read: Callable[[list[str]], _Key | str]) -> list[_Key]:
    """Return the keys in the text of a key file, as `loaded` does; errors call the text `name`."""
    lines = _lines(text, read)
    del text  # error reporters send the locals of a traceback
    return _all_good(name, lines)


def is_text(text: str) -> bool:
    """Whether this is what a key file holds, and not the name of one. Errors must not show it."""
    # As `_lines` reads them, and not by one expression: that took seconds for thousands of empty lines.
    lines = map(str.split, text.splitlines())
    return any(2 < len(line) < 5 and line[0] in _KINDS and _SECRET.fullmatch(line[-1]) for line in lines)


def _all_good(name: str, lines: list[tuple[int, _Key | str]]) -> list[_Key]:
    keys: list[_Key] = []
    for number, key in lines:
        if isinstance(key, str):
            raise KeyProblem(f"{name}, line {number}: {key}")
        keys.append(key)
    if not keys:
        raise KeyProblem(f"{name} holds no key: give a file that holds one")
    return keys


def _read(path: "Path", read: Callable[[list[str]], _Key | str]) -> list[tuple[int, _Key | str]]:
    """Return the number of each line with its key, or with the sentence that says what is wrong."""
    with private_file.explained(KeyProblem, f"cannot read the key file {path}"):
        content = private_file.read_secret(path, KeyProblem, "key file", _MOST + 1)
    if len(content) > _MOST:
        del content  # error reporters send the locals of a traceback
        raise KeyProblem(f"{path} is larger than any key file, which has at most {_MOST} bytes: name another file")
    return _lines(content.decode("ascii", "replace"), read)


def _lines(text: str, read: Callable[[list[str]], _Key | str]) -> list[tuple[int, _Key | str]]:
    # Nothing here raises, because the locals of this frame hold secrets: `_all_good` raises instead.
    lines = enumerate(text.splitlines(), 1)
    held = ((number, line) for number, line in lines if line.strip() and not line.startswith("#"))
    return [(number, read(line.split())) for number, line in held]


def write(path: "Path", keys: Keys) -> None:
    """Write a file that only its owner can read; KeyProblem if there is a file already."""
    private_file.create(path, lambda: keys.dump().encode("ascii"), KeyProblem)


def changing(path: "Path") -> "AbstractContextManager[Path]":
    """Open a block with the key file that a path names; no other process changes the file during the block."""
    return private_file.changing(path, KeyProblem)


def replace(path: "Path", keys: Keys) -> None:
    """Replace a key file by a new one of the same owner; a reader sees the old one or the new one, never a part."""
    private_file.replace(path, lambda: keys.dump().encode("ascii"), KeyProblem)
