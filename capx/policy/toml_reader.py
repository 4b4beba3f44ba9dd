"""Read a TOML file of an operator strictly, and report each mistake with its key path.

    purpose.refund.grant[2].allow."billing.refund".amount: …

Laws: the reader reports all mistakes together, up to `MAX_LINES`. It refuses a key that it does not know, and suggests
the key that was probably meant. Key paths count elements from 1, as people do. A mistake takes one line, whatever the
file contains. The work grows in proportion to the size of the file, not to its square.
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
from capx_caveats.shown_values import printable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

LARGEST: Final = 1024 * 1024
"""The largest file that the reader accepts, in bytes."""
MAX_LINES: Final = 20
"""The most lines that one error has; the last of them then says that there are more mistakes."""
_MAX_NAMES: Final = 100
"""The most names that a suggestion is chosen from: each comparison takes time."""
_MAX_NAME_LENGTH: Final = 64
"""The most characters of a name for which a suggestion is looked up."""
_MAX_DOTS: Final = 512
"""The most dots in one line: tomllib needs time that grows with the square of the parts of a key."""
_MAX_MESSAGE: Final = 300
"""The most characters that are quoted from the message of another library."""
_BARE = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Wrong(Exception):
    """The mistakes in one part of a file: one line for each, which begins with its key path."""

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.lines = lines


class InvalidFile(ConfigurationProblem):
    """A file cannot be used; `name` is the file, and `lines` has one line for each mistake."""

    def __init__(self, name: str, lines: tuple[str, ...]) -> None:
        if len(lines) > MAX_LINES:
            lines = (*lines[: MAX_LINES - 1], "and more: correct the lines above, then check the file again")
        several = "\n  ".join((f"{name} cannot be used:", *lines))
        super().__init__(f"{name}: {lines[0]}" if len(lines) == 1 else several)
        self.name = name
        self.lines = lines

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.lines), vars(self)


class Field(Struct, frozen=True):
    """How to read one key of a table; the key may be absent unless it is `needed`."""

    read: Callable[[object, str], Any]
    needed: bool = False


def load(data: bytes | str) -> dict[str, Any]:
    """Parse a file into its tables; raise Wrong if it is too large or not TOML."""
    import tomllib

    # Surrogates pass here, so that decode() below reports them as bad UTF-8, with their place.
    raw = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    if len(raw) > LARGEST:
        raise Wrong(f"the file is larger than {LARGEST // 1024} KiB: make it smaller")
    # Before tomllib parses: a file of one long dotted key would keep it busy for minutes.
    for number, line in enumerate(raw.split(b"\n"), 1):
        if line.count(b".") > _MAX_DOTS:
            raise Wrong(f"line {number} has more than {_MAX_DOTS} dots: split it into several lines")
    try:
        return tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise Wrong(f"the file is not UTF-8, at byte {error.start}: save it as UTF-8") from None
    except RecursionError:
        raise Wrong("the file nests arrays or tables too deeply: use fewer levels") from None
    except ValueError as error:
        # "At end of document" does not help in an editor: give the number of the last line.
        last = raw.rstrip().count(b"\n") + 1
        message = str(error).replace("(at end of document)", f"(at line {last}, the last)")
        raise Wrong(f"the file is not TOML: {one_line(message)}") from None


def key(path: str, name: str) -> str:
    """Return the path of a key of a table, spelt as in TOML."""
    spelt = name if _BARE.fullmatch(name) else shown(name)
    return f"{path}.{spelt}" if path else spelt


def wrong(path: str, sentence: str) -> Wrong:
    """Make a Wrong with one mistake at this key path."""
    return Wrong(f"{path}: {sentence}" if path else sentence)


def every(read: Callable[[*Ts], T], items: Iterable[tuple[*Ts]]) -> tuple[T, ...]:
    """Read all items, such as values with their paths, and return the results.

    Raise Wrong with the mistakes of all items. Reading stops once there are more mistakes than an error shows.
    """
    lines: list[str] = []
    found: list[T | None] = []
    for item in items:
        found.append(attempted(lines, read, *item))
        if len(lines) > MAX_LINES:
            break
    if lines:
        raise Wrong(*lines)
    return tuple(cast("list[T]", found))


def attempted(lines: list[str], read: Callable[[*Ts], T], *given: *Ts) -> T | None:
    """Read one thing and return the result; on Wrong add its mistakes to `lines`, and return None."""
    try:
        return read(*given)
    except Wrong as error:
        lines += error.lines
        return None


def table(value: object, path: str) -> Mapping[str, object]:
    """Return the value if it is a table, with any keys; otherwise raise Wrong."""
    if not isinstance(value, dict):
        raise wrong(path, f"is {kind_of(value)}, but must be a table such as {{ name = value }}")
    return cast("dict[str, object]", value)


def members(value: object, path: str, fields: Mapping[str, Field]) -> dict[str, Any]:
    """Read the keys of a table by their fields; the result has only the keys that the table has."""
    given = table(value, path)

    def read(name: str, held: object) -> object:
        if name not in fields:
            raise wrong(key(path, name), f"unknown key{near(name, fields)}")
        return fields[name].read(held, key(path, name))

    lines = [
        f"{key(path, name)}: is missing: add it" for name, field in fields.items() if field.needed and name not in given
    ]
    values = attempted(lines, every, read, given.items())
    if lines or values is None:
        raise Wrong(*lines)
    return dict(zip(given, values, strict=True))


def elements(value: object, path: str, what: str) -> list[tuple[object, str]]:
    """Return the elements of an array, each with its path.

    `what` says in the plural what belongs there. Raise Wrong unless the value is an array with at least one element.
    """
    if not isinstance(value, list):
        raise wrong(path, f"is {kind_of(value)}, but must be an array of {what}: write it in [ ]")
    if not value:
        raise wrong(path, f"is empty: list {what}, or remove the key")
    return [(element, f"{path}[{number}]") for number, element in enumerate(cast("list[object]", value), 1)]


def text(value: object, path: str) -> str:
    """Return a string that is not empty; it is not searched for placeholders."""
    if not isinstance(value, str):
        raise wrong(path, f'is {kind_of(value)}, but must be a string: write it in " "')
    if not value:
        raise wrong(path, "is empty: write at least one character")
    return value


def name(check: Callable[[str], bool], what: str) -> Callable[[object, str], str]:
    """Make a reader for a name that `check` accepts and `what` describes.

    A name with a placeholder is refused.
    """

    def read(value: object, path: str) -> str:
        found = text(value, path)
        # An intent must never choose an action, an audience or an approver: it would widen what the policy gives.
        if "{" in found:
            # The values of arguments and budgets can come from an intent, and nothing else can.
            raise wrong(path, f"{shown(found)} contains a {{, but a name cannot come from an intent: write it in full")
        if not check(found):
            raise wrong(path, f"{shown(found)} is not {what}")
        return found

    return read


def name_list(
    check: Callable[[str], bool], what: str, several: str, *, placeholder: str | None = None
) -> Callable[[object, str], tuple[str, ...]]:
    """Make a reader for an array of different names, among which there may be one placeholder."""
    read = name(check, what)

    def read_one(value: object, path: str) -> str:
        return placeholder if placeholder is not None and value == placeholder else read(value, path)

    def read_all(value: object, path: str) -> tuple[str, ...]:
        found = every(read_one, elements(value, path, several))
        seen = set[str]()
        for number, one in enumerate(found, 1):
            if one in seen:
                raise wrong(f"{path}[{number}]", f"{shown(one)} is listed twice: remove one")
            seen.add(one)
        return found

    return read_all


def near(name: str, names: Iterable[str]) -> str:
    """Return the end of a sentence: `: did you mean …?`, or else a list of the known names; `""` if there are none."""
    # Only so many and so short: difflib is slow, and a hostile file may have thousands of names.
    there = list(islice(names, _MAX_NAMES))
    alike = [one for one in there if len(one) <= _MAX_NAME_LENGTH] if len(name) <= _MAX_NAME_LENGTH else []
    for found in get_close_matches(name, alike, 1):
        return f": did you mean {told_name(found)}?"
    return f": choose from {', '.join(map(told_name, there[:MAX_LINES]))}" if there else ""


def explained(path: str, made: Callable[[], T]) -> T:
    """Return what `made` makes; turn an error of capx into a Wrong at this path, with the same words."""
    try:
        return made()
    except CapxError as error:
        raise wrong(path, one_line(str(error))) from None


def kind_of(value: object) -> str:
    """Return the kind of a TOML value in words."""
    return _KINDS.get(type(value), "a date or a time")


def one_line(message: str) -> str:
    """Shorten a message of another library to one line of visible characters."""
    return printable(message[:_MAX_MESSAGE])


_KINDS: Final[dict[type, str]] = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "a table",
}
