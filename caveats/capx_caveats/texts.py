"""Constraints on text: how it begins, how it is spelled, where it lies; and on the texts that run a program.

Laws: a text is compared by code point, as it stands: no case folding, no normalisation, no decoding. A pattern
matches the whole text or not at all. The work is linear in the text, and bounded: a text that is too long is neither
yes nor no.
"""

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated

from msgspec import UNSET, Meta, UnsetType

from capx_caveats.constraint import MAX_VALUES, MAX_WORK, Constraint, Judgement
from capx_caveats.errors import InvalidCaveat
from capx_caveats.values import Text, Texts, Value, as_array, printable, shown

if TYPE_CHECKING:
    from re2 import Program  # the name that only the stub has

MAX_TEXT = 4096
"""Characters of a path, or of a text that is matched, that are still judged."""
MAX_PROGRAM = 2**14
"""Bytes that RE2 may take for one pattern; one that needs more is refused when it is built."""

_WILD = re.compile(r"(\*\*?|\?)")
_UNICODE_CLASS = re.compile(r"(?<!\\)(?:\\\\)*\\[pP]")


class Prefix(Constraint, frozen=True, tag="prefix"):
    """The text begins with this text."""

    text: Text

    def judge(self, value: Value) -> Judgement:
        return value.startswith(self.text) if isinstance(value, str) else None

    def sentence(self) -> str:
        return f"begins with {shown(self.text)}"


class Glob(Constraint, frozen=True, tag="glob"):
    """The text matches whole: `*` is any run without `/`, `**` any run, `?` one character but `/`.

    Everything else stands for itself: there are no classes and no escapes, and `a/**/b` does not match `a/b`. Dots
    are plain text too, so where a path may lead outside by `..`, say `path`.
    """

    text: Text

    def __post_init__(self) -> None:
        if "***" in self.text:
            raise InvalidCaveat("a glob has `*` and `**`, and no `***`")
        _glob(self.text)

    @property
    def weight(self) -> int:  # type: ignore[override] # derived from the pattern
        return _glob(self.text).programsize

    def judge(self, value: Value) -> Judgement:
        return _matches(_glob(self.text), value)

    def sentence(self) -> str:
        return f"matches {shown(self.text)}"


class Regex(Constraint, frozen=True, tag="regex"):
    """The text matches whole, by RE2 without flags: `.` is no newline, and `a|b` is a or b from end to end.

    There are no Unicode classes (`p` after a backslash): they differ between versions of Unicode. A text
    of more than 4096 characters cannot be judged, nor one of more than 2¹⁹ characters times instructions.
    """

    text: Text

    def __post_init__(self) -> None:
        if _UNICODE_CLASS.search(self.text):
            raise InvalidCaveat("a regular expression has no Unicode classes: they differ between versions of Unicode")
        _program(self.text)

    @property
    def weight(self) -> int:  # type: ignore[override] # derived from the pattern
        return _program(self.text).programsize

    def judge(self, value: Value) -> Judgement:
        return _matches(_program(self.text), value)

    def sentence(self) -> str:
        return f"matches the regular expression {shown(self.text)}"


def _segments(path: str) -> list[str] | None:
    """The segments of an absolute path in its one canonical spelling; None for any other text."""
    if len(path) > MAX_TEXT:
        return None
    if path == "/":
        return []
    if not path.startswith("/") or any(character in path for character in "%\\\0"):
        return None
    segments = path[1:].split("/")
    return None if any(segment in {"", ".", ".."} for segment in segments) else segments


class Path(Constraint, frozen=True, tag="path"):
    """The path is the root or lies below it, by whole segments; a path in no canonical spelling cannot be judged."""

    weight = 4
    root: str

    def __post_init__(self) -> None:
        if _segments(self.root) is None:
            raise InvalidCaveat(f"{self.root!r:.80} is not an absolute path in canonical spelling")

    def judge(self, value: Value) -> Judgement:
        if not isinstance(value, str) or (segments := _segments(value)) is None:
            return None
        root = _segments(self.root) or []
        return segments[: len(root)] == root

    def sentence(self) -> str:
        return f"is within {shown(self.root)}"


class Argv(Constraint, frozen=True, tag="argv"):
    """An array of texts: one of the programs, then, if any are given, one of the lists of arguments; more may follow.

    Each word is compared whole, and nothing is done to it: no shell, no search path. An array of more than 1024
    words cannot be judged.
    """

    programs: Texts
    arguments: Annotated[tuple[Texts, ...], Meta(min_length=1)] | UnsetType = UNSET

    def judge(self, value: Value) -> Judgement:
        words = as_array(value)
        if words is None or len(words) > MAX_VALUES or not all(isinstance(word, str) for word in words):
            return None
        if not words or words[0] not in self.programs:
            return False
        return self.arguments is UNSET or any(tuple(words[1 : len(first) + 1]) == first for first in self.arguments)

    def sentence(self) -> str:
        runs = "runs " + " or ".join(map(shown, self.programs))
        return runs if self.arguments is UNSET else f"{runs} with " + " or ".join(map(shown, self.arguments)) + " first"


def _matches(program: "Program", value: Value) -> Judgement:
    if not isinstance(value, str) or len(value) > MAX_TEXT or len(value) * program.programsize > MAX_WORK:
        return None
    try:
        return program.fullmatch(value) is not None
    except UnicodeEncodeError:
        return None


@lru_cache(maxsize=256)
def _glob(text: str) -> "Program":
    import re2

    wild = {"**": "(?s:.*)", "*": "[^/]*", "?": "[^/]"}
    return _program("".join(wild.get(part) or re2.escape(part) for part in _WILD.split(text)))


@lru_cache(maxsize=256)
def _program(pattern: str) -> "Program":
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_PROGRAM
    options.never_capture = True
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace")
        raise InvalidCaveat(f"RE2 refuses {shown(pattern)}: {printable(reason):.80}") from None
