"""A file of TOML that an operator wrote, read strictly: what is wrong with it is told by key path.

    purpose.refund.grant[2].allow."billing.refund".amount: …

Laws: what is wrong is told together, not the first of it alone, until it is more than anybody would read. What is not
known is refused, with what it may have been meant for. Elements are counted from 1, as people do. One line tells one
thing, whatever stands in the file. The work grows with the file, and not with its square.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from itertools import islice
from typing import Any, Final, TypeVar, TypeVarTuple, cast

from msgspec import Struct

from capx.errors import CapxError, ConfigurationProblem
from capx_caveats import shown
from capx_caveats.names import told_name
from capx_caveats.values import printable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

LARGEST: Final = 1024 * 1024
"""Bytes of a file."""
TOLD: Final = 20
"""Lines about one file; of more it is told that there are more."""
_MANY: Final = 100
"""Names among which one is looked for that is near: each takes a while."""
_LONG: Final = 64
"""Characters of a name for which that is done."""
_DOTS: Final = 512
"""Dots in one line: the time to read a name grows with the square of its parts."""
_LONGEST: Final = 300
"""Characters of what another library says."""
_BARE = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Wrong(Exception):
    """What is wrong in one part of a file: a line for each thing, which begins with its key path."""

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.lines = lines


class InvalidFile(ConfigurationProblem):
    """A file that cannot be used, its `name`, and all that is wrong with it: `lines`."""

    def __init__(self, name: str, lines: tuple[str, ...]) -> None:
        told = lines if len(lines) <= TOLD else (*lines[: TOLD - 1], "and more, once these are mended")
        several = "\n  ".join((f"{name} cannot be used:", *told))
        super().__init__(f"{name}: {told[0]}" if len(told) == 1 else several)
        self.name = name
        self.lines = told


class Field(Struct, frozen=True):
    """How one key of a table is read; one that is not `needed` may be absent."""

    read: Callable[[object, str], Any]
    needed: bool = False


def load(data: bytes | str) -> dict[str, Any]:
    """The tables of a file; Wrong if it is too large, or no TOML."""
    import tomllib

    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if len(raw) > LARGEST:
        raise Wrong(f"it is larger than {LARGEST // 1024} KiB")
    for number, line in enumerate(raw.split(b"\n"), 1):
        if line.count(b".") > _DOTS:
            raise Wrong(f"line {number} has more than {_DOTS} dots: break it")
    try:
        return tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise Wrong(f"it is no UTF-8, at byte {error.start}") from None
    except RecursionError:
        raise Wrong("it nests too deeply") from None
    except ValueError as error:
        last = raw.rstrip().count(b"\n") + 1
        told = str(error).replace("(at end of document)", f"(at line {last}, the last)")
        raise Wrong(f"it is no TOML: {one_line(told)}") from None


def key(path: str, name: str) -> str:
    """The path of a key of a table: as it is written in TOML."""
    spelt = name if _BARE.fullmatch(name) else shown(name)
    return f"{path}.{spelt}" if path else spelt


def wrong(path: str, sentence: str) -> Wrong:
    """What is wrong at this key path."""
    return Wrong(f"{path}: {sentence}" if path else sentence)


def every(read: Callable[[*Ts], T], items: Iterable[tuple[*Ts]]) -> tuple[T, ...]:
    """What is read of each, such as of values with their paths; or else what is wrong with any of them."""
    lines: list[str] = []
    found: list[T | None] = []
    for item in items:
        found.append(tried(lines, read, *item))
        if len(lines) > TOLD:
            break
    if lines:
        raise Wrong(*lines)
    return tuple(cast("list[T]", found))


def tried(lines: list[str], read: Callable[[*Ts], T], *given: *Ts) -> T | None:
    """What is read; None where it is wrong, which is then among the lines."""
    try:
        return read(*given)
    except Wrong as error:
        lines += error.lines
        return None


def table(value: object, path: str) -> Mapping[str, object]:
    """A table, whatever its keys."""
    if not isinstance(value, dict):
        raise wrong(path, f"is {kind_of(value)}, and a table belongs here")
    return cast("dict[str, object]", value)


def members(value: object, path: str, fields: Mapping[str, Field]) -> dict[str, Any]:
    """What the keys of a table hold, each as it is read; one that is absent is absent."""
    given = table(value, path)

    def read(name: str, held: object) -> object:
        if name not in fields:
            raise wrong(key(path, name), f"is no key here{near(name, fields)}")
        return fields[name].read(held, key(path, name))

    lines = [f"{key(path, name)}: is missing" for name, field in fields.items() if field.needed and name not in given]
    values = tried(lines, every, read, given.items())
    if lines or values is None:
        raise Wrong(*lines)
    return dict(zip(given, values, strict=True))


def elements(value: object, path: str, what: str) -> list[tuple[object, str]]:
    """The elements of an array, one at least, each with its path; `what` says what they are."""
    if not isinstance(value, list):
        raise wrong(path, f"is {kind_of(value)}, and an array of {what} belongs here: write it in [ ]")
    if not value:
        raise wrong(path, f"is empty: name {what}, or leave it out")
    return [(element, f"{path}[{number}]") for number, element in enumerate(cast("list[object]", value), 1)]


def text(value: object, path: str) -> str:
    """A text that stands for itself alone, and is not empty."""
    if not isinstance(value, str):
        raise wrong(path, f'is {kind_of(value)}, and a text belongs here: write it in " "')
    if not value:
        raise wrong(path, "is empty")
    return value


def name(check: Callable[[str], bool], what: str) -> Callable[[object, str], str]:
    """Reads a name, which `check` knows and `what` describes, and in which nothing stands for anything else."""

    def read(value: object, path: str) -> str:
        said = text(value, path)
        if "{" in said:
            raise wrong(
                path, f"{shown(said)} holds a {{: no name is taken from an intent, only values of arguments are"
            )
        if not check(said):
            raise wrong(path, f"{shown(said)} is not {what}")
        return said

    return read


def name_list(check: Callable[[str], bool], what: str, several: str) -> Callable[[object, str], tuple[str, ...]]:
    """Reads an array of names, each once."""
    read = name(check, what)

    def read_all(value: object, path: str) -> tuple[str, ...]:
        found = every(read, elements(value, path, several))
        seen = set[str]()
        for number, one in enumerate(found, 1):
            if one in seen:
                raise wrong(f"{path}[{number}]", f"{shown(one)} stands here twice")
            seen.add(one)
        return found

    return read_all


def near(name: str, names: Iterable[str]) -> str:
    """`: did you mean …?`, or what else there is; nothing if there is nothing."""
    there = list(islice(names, _MANY))
    alike = [one for one in there if len(one) <= _LONG] if len(name) <= _LONG else []
    for found in get_close_matches(name, alike, 1):
        return f": did you mean {told_name(found)}?"
    return f": there is {', '.join(map(told_name, there[:TOLD]))}" if there else ""


def explained(path: str, made: Callable[[], T]) -> T:
    """What is made; Wrong at this path, in the words of capx, if it cannot be meant."""
    try:
        return made()
    except CapxError as error:
        raise wrong(path, one_line(str(error))) from None


def kind_of(value: object) -> str:
    """What a value of TOML is, in words."""
    return _KINDS.get(type(value), "a date or a time")


def one_line(message: str) -> str:
    """A message of another library, in one line of what shows."""
    return printable(message[:_LONGEST])


_KINDS: Final[dict[type, str]] = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "an array",
    dict: "a table",
}
