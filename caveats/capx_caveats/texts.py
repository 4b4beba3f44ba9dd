"""Constraints on text: prefixes, patterns and paths; and on the list of texts that runs a program.

Laws: a text is compared by code point, as it is: no case folding, no normalisation, no decoding. A pattern matches the
whole text or nothing. The work is linear in the text, and bounded: a text that is too long cannot be judged.
"""

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import UNSET, Meta, UnsetType

from capx_caveats.constraint import MAX_MATCH_WORK, MAX_VALUES, Constraint, Judgement
from capx_caveats.errors import InvalidCaveat
from capx_caveats.shown_values import printable, shown
from capx_caveats.values import Text, Texts, Value, as_array

if TYPE_CHECKING:
    from re2 import Program  # the name that only the stub has

MAX_TEXT = 4096
"""The longest path, and the longest text for a pattern, that can be judged, in characters."""
MAX_PATTERNS = 2**15
"""The most that the patterns of one token count together: bytes, repetitions and instructions, about 600 ns each."""
_BUILT = 16
"""What each pattern counts, besides what RE2 does for it."""
_FAILED = 512
"""What a pattern counts in place of its instructions if RE2 refuses it, which it may find out late."""
_room: ContextVar["PatternRoom | None"] = ContextVar("_room", default=None)
MAX_PROGRAM = 2**14
"""The most bytes that RE2 may use for one pattern; a pattern that needs more is refused when it is built."""

_MATCH = 1024
"""The work of handing one text to RE2, in the units of `Constraint.work_once`."""
_REMEMBERED = 1024
"""The patterns that are kept ready, each of 16 KiB at most. One token cannot hold more, or it would build them anew for
each value."""
# What follows a backslash is plain text; a character may be written as `\x{1234}`. RE2 reads no number above 1000.
_BRACES = re.compile(r"\\(?:x\{|.)|\{([0-9]{1,4}),?([0-9]{0,4})", re.DOTALL)
_WILD = re.compile(r"(\*\*?|\?)")
_TOO_LONG: Final[Mapping[type, str]] = {str: "is too long"}
# `\p` or `\P` after an even number of backslashes; after an odd number, the `p` is plain text.
_UNICODE_CLASS = re.compile(r"(?<!\\)(?:\\\\)*\\[pP]")


class Prefix(Constraint, frozen=True, tag="prefix"):
    """The text begins with this text; any other type cannot be judged."""

    text: Text

    def judge(self, value: Value) -> Judgement:
        return value.startswith(self.text) if isinstance(value, str) else None

    def sentence(self) -> str:
        return f"begins with {shown(self.text)}"


class Glob(Constraint, frozen=True, tag="glob"):
    """The whole text matches: `*` is any run without `/`, `**` any run, `?` one character other than `/`.

    All other characters match themselves. There are no classes and no escapes, and `a/**/b` does not match `a/b`. Dots
    are plain text too: use `path` where `..` could lead out of a folder.
    """

    work_once = _MATCH
    obstacles = _TOO_LONG
    text: Text

    def __post_init__(self) -> None:
        if "***" in self.text:
            raise InvalidCaveat("a glob may have `*` and `**`, but not `***`")
        _build(_glob(self.text))

    @property
    def work_character(self) -> int:  # type: ignore[override] # derived from the pattern
        return _program(_glob(self.text)).programsize

    def judge(self, value: Value) -> Judgement:
        return _matches(_program(_glob(self.text)), value)

    def sentence(self) -> str:
        return f"matches {shown(self.text)}"


class Regex(Constraint, frozen=True, tag="regex"):
    """The whole text matches this regular expression of RE2, without flags: `.` does not match a newline.

    `a|b` matches the text `a` or the text `b`. Unicode classes (`p` after a backslash) are not allowed, because they
    differ between versions of Unicode. A text cannot be judged if it has more than 4096 characters, or if its
    characters times the instructions of the program are more than 2¹⁹.
    """

    work_once = _MATCH
    obstacles = _TOO_LONG
    text: Text

    def __post_init__(self) -> None:
        if _UNICODE_CLASS.search(self.text):
            raise InvalidCaveat("a regular expression may not use Unicode classes: versions of Unicode differ in them")
        _build(self.text)

    @property
    def work_character(self) -> int:  # type: ignore[override] # derived from the pattern
        return _program(self.text).programsize

    def judge(self, value: Value) -> Judgement:
        return _matches(_program(self.text), value)

    def sentence(self) -> str:
        return f"matches the regular expression {shown(self.text)}"


def _segments(path: str) -> list[str] | None:
    """Return the segments of an absolute path in its only canonical spelling; None for any other text."""
    if path == "/":
        return []
    return None if _flaw(path) else path[1:].split("/")


def _flaw(path: str) -> str:
    """Say what keeps a path from being one in canonical spelling; empty if it is one."""
    if len(path) > MAX_TEXT:
        return "is too long"
    if not path.startswith("/"):
        return "does not begin with `/`"
    # Some programs decode `%`, take a backslash for a slash, or stop at a NUL: they would open another file.
    for character, name in (("%", "`%`"), ("\\", "a backslash"), ("\0", "a NUL")):
        if character in path:
            return f"contains {name}"
    segments = path[1:].split("/")
    for segment, why in (("..", "contains `..`"), (".", "contains `.`"), ("", "has an empty segment")):
        if segment in segments:
            return why
    return ""


class Path(Constraint, frozen=True, tag="path"):
    """The path is the root or below it, by whole segments; a path that is not canonically spelled cannot be judged."""

    work_character = 4
    root: str

    @property
    def work_once(self) -> int:  # type: ignore[override] # its own root is read each time
        return Constraint.work_once + 8 * len(self.root)

    def __post_init__(self) -> None:
        if _segments(self.root) is None:
            raise InvalidCaveat(f"{self.root!r:.80} is not an absolute path in canonical spelling, such as /srv/data")

    def judge(self, value: Value) -> Judgement:
        if not isinstance(value, str) or (segments := _segments(value)) is None:
            return None
        root = _segments(self.root) or []
        return segments[: len(root)] == root

    def obstacle(self, value: Value, it: str = "it") -> str:
        return f"{it} {_flaw(value)}" if isinstance(value, str) else super().obstacle(value, it)

    def sentence(self) -> str:
        return f"is within {shown(self.root)}"


class Argv(Constraint, frozen=True, tag="argv"):
    """An array of texts: first one of the programs, then, if `arguments` is given, one of its lists; more may follow.

    Each word is compared as a whole and as it is: there is no shell and no search path. An array of more than 1024
    words cannot be judged.
    """

    work_each = 32
    obstacles = {list: "has more than 1024 elements, or one that is not text"}  # noqa: RUF012 # a class variable
    programs: Texts
    arguments: Annotated[tuple[Texts, ...], Meta(min_length=1)] | UnsetType = UNSET

    @property
    def work_once(self) -> int:  # type: ignore[override] # each program and each list is compared
        lists = () if self.arguments is UNSET else self.arguments
        return Constraint.work_once + 64 * (len(self.programs) + len(lists))

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
    if not isinstance(value, str) or len(value) > MAX_TEXT or len(value) * program.programsize > MAX_MATCH_WORK:
        return None
    try:
        return program.fullmatch(value) is not None
    except UnicodeEncodeError:  # a lone surrogate, which UTF-8 cannot encode
        return None


class PatternRoom:
    """What the patterns of one token may still count together: `left`. Below zero, a pattern had no room."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    @property
    def is_exceeded(self) -> bool:
        """Whether a pattern had no room."""
        return self.left < 0

    def demand(self, counted: int) -> None:
        """Raise InvalidCaveat unless there is room for a pattern that counts so much before it is built."""
        if counted > self.left:
            self.left = -1
            raise InvalidCaveat("the patterns of a token are too large together")

    def take(self, counted: int) -> None:
        """Take the room of a pattern that was built, and counts so much."""
        self.left -= counted


@contextmanager
def bounded_patterns(most: int = MAX_PATTERNS) -> Generator[PatternRoom]:
    """Open a block that builds patterns that count so much together, and refuses those after that."""
    room = PatternRoom(most)
    token = _room.set(room)
    try:
        yield room
    finally:
        _room.reset(token)


def pattern_room() -> PatternRoom:
    """Return the room of the innermost block of `bounded_patterns`; outside of one, one pattern has all of it."""
    return _room.get() or PatternRoom(MAX_PATTERNS)


def _build(pattern: str) -> None:
    room = pattern_room()
    # Counted whether it was built before or not: the answer must not depend on what this process remembers.
    counted = _BUILT + len(pattern.encode()) + _repetitions(pattern)
    room.demand(counted)
    found = _compiled(pattern)
    room.take(counted + (_FAILED if isinstance(found, str) else found.programsize))
    _program(pattern)  # raises if it was refused


def _repetitions(pattern: str) -> int:
    """Return the sum of the largest numbers in all braces: RE2 unfolds repetitions before it knows what they take."""
    return sum(max(int(low or 0), int(high or 0)) for low, high in _BRACES.findall(pattern))


@lru_cache(maxsize=_REMEMBERED)
def _glob(text: str) -> str:
    """Return the regular expression of a glob."""
    wild = {"": "", "**": "(?s:.*)", "*": "[^/]*", "?": "[^/]"}
    return "".join(wild[part] if part in wild else _escaped(part) for part in _WILD.split(text))


def _escaped(text: str) -> str:
    import re2

    return re2.escape(text)


def _program(pattern: str) -> "Program":
    found = _compiled(pattern)
    if isinstance(found, str):
        raise InvalidCaveat(f"RE2 refuses {shown(pattern)}: {found}")
    return found


@lru_cache(maxsize=_REMEMBERED)
def _compiled(pattern: str) -> "Program | str":
    """Return the program, or why RE2 refuses the pattern: that is remembered too, because to find it out is work."""
    # Imported on first use: it is slow to load, and most tokens have no pattern.
    import re2

    options = re2.Options()
    options.log_errors = False  # else RE2 writes to stderr
    options.max_mem = MAX_PROGRAM
    options.never_capture = True
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace")
        return f"{printable(reason):.80}"
