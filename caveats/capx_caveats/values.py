"""JSON values as capx judges them: by type, within what a double holds exactly.

Laws: `true` is not 1; 1 equals 1.0; a number that is not finite or lies beyond ±(2⁵³ - 1) is no value here;
nothing is converted.
"""

import math
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import Annotated, Final, TypeAlias, TypeVar, cast

from msgspec import UNSET, Meta, UnsetType

from capx_caveats.errors import InvalidCaveat

Scalar: TypeAlias = bool | int | float | str | None
"""A JSON value that holds no other value."""
JSON: TypeAlias = Scalar | Sequence["JSON"] | Mapping[str, "JSON"]
"""A JSON value as Python has it."""

MISSING: Final = UNSET
"""Stands for an argument or attribute that a call does not have."""
Value: TypeAlias = JSON | UnsetType
"""What a constraint judges: a JSON value, or MISSING."""
T = TypeVar("T")

SAFE_INTEGER: Final = 2**53 - 1
"""The largest integer that every JSON implementation agrees on (RFC 8259, section 6)."""

Natural = Annotated[int, Meta(ge=0, le=SAFE_INTEGER)]
"""A field: an integer from 0 to 2⁵³ - 1, without fraction or exponent."""
Number = (
    Annotated[int, Meta(ge=-SAFE_INTEGER, le=SAFE_INTEGER)] | Annotated[float, Meta(ge=-SAFE_INTEGER, le=SAFE_INTEGER)]
)
"""A field: a number that is finite and within ±(2⁵³ - 1)."""
Text = Annotated[str, Meta(min_length=1)]
"""A field: a text that is not empty, since no rule means an empty one."""
Texts = Annotated[tuple[Text, ...], Meta(min_length=1)]
"""A field: one text or more."""
Plain = bool | Number | Text | None
"""A field: null, a boolean, a number or a text."""
Literal: TypeAlias = Plain | Annotated[tuple[Plain, ...], Meta(min_length=1)]
"""A field: null, a boolean, a number, a text, or a flat array of them."""
Literals = Annotated[tuple[Literal, ...], Meta(min_length=1)]
"""A field: one literal or more."""

_NUMBERS = frozenset({int, float})
_DEPTH = 64
_SHOWN = 80
_SHOWN_ELEMENTS = 20
_SHOWN_DEPTH = 3
_whole = ContextVar("_whole", default=False)
_UNSEEN = frozenset(
    [
        *"\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U00013441\U00013442\U00016fe4\U0001d159",
        *(
            chr(point)
            for first, last in ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
            for point in range(first, last + 1)
        ),
    ]
)
"""Letters, marks and symbols by category that show as nothing."""
_IN_A_ROW = re.compile(r"""(?<= ) |(?<=^") |(?<=[^\\]") """)
"""Spaces of a JSON text behind another one, or that its value begins with."""


def demand_json(value: object, depth: int = _DEPTH) -> None:
    """Raise InvalidCaveat unless the value is JSON of exact built-in types, at most 64 levels deep."""
    kind = type(value)
    if kind is str:
        demand_unicode(cast("str", value))
    elif kind is int or kind is float:
        if not -SAFE_INTEGER <= cast("float", value) <= SAFE_INTEGER:
            raise InvalidCaveat("a number is beyond ±(2^53 - 1) or not finite: pass it as a string")
    elif kind is bool or value is None:
        return
    elif depth == 0:
        raise InvalidCaveat(f"a value nests deeper than {_DEPTH} levels")
    elif kind is list or kind is tuple:
        for element in cast("Sequence[object]", value):
            demand_json(element, depth - 1)
    elif kind is dict:
        for name, element in cast("dict[object, object]", value).items():
            if type(name) is not str:
                raise InvalidCaveat(f"{name!r:.40} is not text, so it names no member of an object")
            demand_unicode(name)
            demand_json(element, depth - 1)
    else:
        raise InvalidCaveat(f"a {kind.__name__} is no JSON value: convert it before it is judged")


def demand_unicode(text: str) -> None:
    """Raise InvalidCaveat for a text that UTF-8 cannot spell."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidCaveat("a text holds a lone surrogate") from error


def same(value: Value, literal: Literal) -> bool | None:
    """Whether two values are equal by type: None where their types differ, at any depth."""
    kind, other = type(value), type(literal)
    if kind is other and kind is not tuple:
        return value == literal
    if kind in _NUMBERS and other in _NUMBERS:
        return value == literal
    if (kind is list or kind is tuple) and other is tuple:
        return _same_elements(value, literal)  # type: ignore[arg-type] # both are sequences
    return None


def _same_elements(value: Sequence[JSON], literal: tuple[Scalar, ...]) -> bool | None:
    equal = len(value) == len(literal)
    for one, other in zip(value, literal, strict=False):
        judgement = same(one, other)
        if judgement is None:
            return None
        equal = equal and judgement
    return equal


def as_array(value: Value) -> Sequence[JSON] | None:
    """The value if it is an array; a text is none."""
    kind = type(value)
    return cast("Sequence[JSON]", value) if kind is list or kind is tuple else None


def holds_more(value: object, limit: int, characters: int) -> bool:
    """Whether a value holds more than `limit` values or more characters of text, at all depths.

    It looks at no more values than that.
    """
    waiting = [value]
    for _ in range(limit + 1):
        if not waiting:
            return False
        found = waiting.pop()
        if isinstance(found, list | tuple):
            elements = cast("Sequence[object]", found)
        elif isinstance(found, Mapping):
            elements = tuple(cast("Mapping[str, object]", found).values())
        else:
            characters -= len(found) if isinstance(found, str) else 0
            if characters < 0:
                return True
            continue
        if len(elements) > limit:
            return True
        waiting.extend(elements)
    return bool(waiting)


def shown(value: object) -> str:
    """A value as people read it: JSON in one line of what shows, cut at 80 characters.

    The work is bounded, however large the value; within `whole` by the value alone.
    """
    if value is MISSING:
        return "nothing"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    import json

    everything = _whole.get()
    written = json.dumps(value if everything else _brief(value, _SHOWN_DEPTH), ensure_ascii=False, default=_plain)
    return excerpt(written, _SHOWN)


@contextmanager
def whole() -> Generator[None]:
    """A block in which whatever is shown is shown whole, for people to agree to; the values are small.

    No run of spaces in it can be taken for the end of a line, nor one before it for the margin.
    """
    token = _whole.set(True)
    try:
        yield
    finally:
        _whole.reset(token)


def excerpt(text: str, longest: int) -> str:
    """JSON text as it is shown: so many characters of it, within `whole` all of them."""
    if _whole.get():
        return printable(_IN_A_ROW.sub(r"\\u0020", text))
    text = printable(text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def evidence(value: JSON) -> JSON:
    """A value as evidence: itself if it is short, else as it is shown."""
    text = shown(value)
    return text if "…" in text else value


def printable(text: str) -> str:
    """The text with whatever does not show, or acts on a terminal, spelled as an escape."""
    if text.isprintable() and (text.isascii() or _UNSEEN.isdisjoint(text)):
        return text
    return "".join(
        one if one.isprintable() and one not in _UNSEEN else one.encode("unicode_escape").decode() for one in text
    )


def _plain(other: object) -> object:
    """What JSON knows for another value."""
    return dict(cast("Mapping[object, object]", other)) if isinstance(other, Mapping) else type(other).__name__


def _brief(value: object, depth: int) -> object:
    """The beginning of a value, no larger than what is shown."""
    if isinstance(value, str):
        return value if len(value) <= _SHOWN else value[:_SHOWN] + "…"
    if isinstance(value, int) and not -SAFE_INTEGER <= value <= SAFE_INTEGER:
        return "a number beyond ±(2^53 - 1)"
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value).items()
        if depth == 0 and pairs:
            return "…"
        brief_pairs = {str(_brief(name, 0)): _brief(element, depth - 1) for name, element in _first(pairs)}
        return brief_pairs if len(brief_pairs) == len(pairs) else {**brief_pairs, "…": "…"}
    if isinstance(value, list | tuple):
        elements = cast("Sequence[object]", value)
        if depth == 0 and elements:
            return "…"
        brief = [_brief(element, depth - 1) for element in _first(elements)]
        return brief if len(brief) == len(elements) else [*brief, "…"]
    return value


def _first(elements: Iterable[T]) -> Iterable[T]:
    return islice(elements, _SHOWN_ELEMENTS)
