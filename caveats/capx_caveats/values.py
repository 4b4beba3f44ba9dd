"""JSON values as capx judges them: by type, with numbers that a double holds exactly.

Laws: `true` is not 1. 1 equals 1.0. A number that is not finite or is beyond ±(2⁵³ - 1) is not a value. Nothing is
converted.
"""

import gc
import math
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeAlias, TypeGuard, TypeVar, cast

from msgspec import UNSET, Meta, UnsetType

from capx_caveats.errors import InvalidCaveat
from capx_caveats.levels import MANY, MAX_DEPTH, SAFE_INTEGER, is_json

Scalar: TypeAlias = bool | int | float | str | None
"""A JSON value that holds no other value."""
JSON: TypeAlias = Scalar | Sequence["JSON"] | Mapping[str, "JSON"]
"""A JSON value in Python: a scalar, a sequence, or a mapping with text as keys."""

MISSING: Final = UNSET
"""The value of an argument or attribute that a call does not have."""
Value: TypeAlias = JSON | UnsetType
"""A value that a constraint judges: a JSON value, or MISSING."""
T = TypeVar("T")


Natural = Annotated[int, Meta(ge=0, le=SAFE_INTEGER)]
"""The type of a field: an integer from 0 to 2⁵³ - 1, without fraction or exponent."""
Number = (
    Annotated[int, Meta(ge=-SAFE_INTEGER, le=SAFE_INTEGER)] | Annotated[float, Meta(ge=-SAFE_INTEGER, le=SAFE_INTEGER)]
)
"""The type of a field: a number that is finite and within ±(2⁵³ - 1)."""
Text = Annotated[str, Meta(min_length=1)]
"""The type of a field: a text that is not empty, because no rule needs an empty one."""
Texts = Annotated[tuple[Text, ...], Meta(min_length=1)]
"""The type of a field: one or more texts."""
Plain = bool | Number | Text | None
"""The type of a field: null, a boolean, a number or a text."""
Literal: TypeAlias = Plain | Annotated[tuple[Plain, ...], Meta(min_length=1)]
"""The type of a field: null, a boolean, a number, a text, or a flat array of them."""
Literals = Annotated[tuple[Literal, ...], Meta(min_length=1)]
"""The type of a field: one or more literals."""

_NUMBERS = frozenset({int, float})
_CONTAINERS = frozenset({list, tuple, dict})
_SHOWN = 80
_SHOWN_ELEMENTS = 20
_SHOWN_DEPTH = 3
_SHOWN_VALUES = 40
# Set in a block of `whole()`. A context variable, because requests in other threads and tasks must not be affected.
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
"""Characters that are invisible although Unicode counts them as letters, marks or symbols."""
_IN_A_ROW = re.compile(r"""(?<= ) |(?<=^") |(?<=[^\\]") """)
"""Spaces of a JSON text that follow another space, or that are the first character of a value."""


def demand_json(value: object, depth: int = MAX_DEPTH) -> None:
    """Raise InvalidCaveat unless the value is JSON of exact built-in types, at most 64 levels deep."""
    # By exact type: an instance of a subclass may compare or print differently from its JSON.
    kind = type(value)
    held: Any = value
    if kind is str:
        demand_unicode(held)
    elif kind is int or kind is float:
        if not -SAFE_INTEGER <= held <= SAFE_INTEGER:
            raise InvalidCaveat("a number is beyond ±(2^53 - 1) or not finite: pass it as text")
    elif kind is bool or value is None:
        return
    elif depth == 0:
        raise InvalidCaveat(f"a value is nested deeper than {MAX_DEPTH} levels: make it flatter")
    elif kind in _CONTAINERS and len(held) > MANY and is_json(value, depth):
        return
    elif kind is list or kind is tuple:
        for element in held:
            demand_json(element, depth - 1)
    elif kind is dict:
        for name, element in held.items():
            if type(name) is not str:
                raise InvalidCaveat(f"a name is a {type(name).__name__}: the names of members of an object are texts")
            demand_unicode(name)
            demand_json(element, depth - 1)
    else:
        raise InvalidCaveat(f"a {kind.__name__} is not a JSON value: convert it first")


def demand_members(members: Mapping[str, object]) -> None:
    """Raise InvalidCaveat unless the value of each member is JSON, as `demand_json` demands it."""
    if len(members) > MANY and is_json(dict(members), MAX_DEPTH + 1):
        return
    for value in members.values():
        demand_json(value)


def demand_dict(value: object) -> None:
    """Raise InvalidCaveat unless the value is a plain dict with texts as keys, or a read-only view of one.

    Other mappings can hold more than they show, such as the repeated parameters of a query.
    """
    if type(value) is MappingProxyType:
        # A view reads as what is behind it. Only the garbage collector tells the type of that.
        (value,) = gc.get_referents(value)
    if type(value) is not dict:
        raise InvalidCaveat(
            f"a {type(value).__name__} may hold more than it shows: pass a plain dict, in which a name that is "
            "repeated has a list"
        )
    for name in cast("dict[object, object]", value):
        if type(name) is not str:
            raise InvalidCaveat(f"a name is a {type(name).__name__}: names are plain texts")


def demand_unicode(text: str) -> None:
    """Raise InvalidCaveat for a text that cannot be encoded as UTF-8."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidCaveat("a text has a lone surrogate, which UTF-8 cannot encode: remove it") from error


def same(value: Value, literal: Literal) -> bool | None:
    """Whether two values are equal; None if their types differ, at any depth."""
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
    for judgement in map(same, value, literal):
        if judgement is None:
            return None
        equal = equal and judgement
    return equal


def as_array(value: Value) -> Sequence[JSON] | None:
    """Return the value if it is an array, otherwise None; a text is not an array."""
    kind = type(value)
    held: Any = value
    return held if kind is list or kind is tuple else None


def holds_more(value: object, limit: int, characters: int) -> bool:
    """Whether a value holds more than `limit` values, or more than `characters` characters of text, at all depths.

    The names of members do not count. It looks at no more than `limit` values, so its own work is bounded too.
    """
    waiting = [value]
    for _ in range(limit + 1):
        if not waiting:
            return False
        found = waiting.pop()
        if _is_array(found):
            elements = found
        elif _is_object(found):
            elements = tuple(found.values())
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
    """Return a value as people read it: one line of JSON with visible characters only, cut at 80 characters.

    The work is bounded, however large the value is. In a block of `whole`, nothing is cut.
    """
    if value is MISSING:
        return "nothing"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    import json

    everything = _whole.get()
    brief = value if everything else _brief(value, _SHOWN_DEPTH, [_SHOWN_VALUES])
    written = json.dumps(brief, ensure_ascii=False, default=_plain)
    return excerpt(written, _SHOWN)


@contextmanager
def whole() -> Generator[None]:
    """Open a block in which `shown` cuts nothing, because a person consents to what they read; use small values only.

    In it, runs of spaces are shown as escapes. So nobody can take them for the end of a line or for its margin.
    """
    token = _whole.set(True)
    try:
        yield
    finally:
        _whole.reset(token)


def excerpt(text: str, longest: int) -> str:
    """Return JSON text as it is shown: at most `longest` characters, or all of it in a block of `whole`."""
    if _whole.get():
        return printable(_IN_A_ROW.sub(r"\\u0020", text))
    # Cut first: to find what is invisible, each character is looked at.
    text = printable(text[: longest + 1])
    return text if len(text) <= longest else text[: longest - 1] + "…"


def evidence(value: JSON) -> JSON:
    """Return a value as evidence for an error or the log: the value itself if it is short, otherwise as `shown`."""
    text = shown(value)
    # The value may have an … of its own, but no JSON text ends with one.
    is_cut = text.endswith("…") or _brief(value, _SHOWN_DEPTH, [_SHOWN_VALUES]) != value
    return text if is_cut else value


def printable(text: str) -> str:
    """Return the text with escapes for characters that are invisible or that control a terminal."""
    if text.isprintable() and (text.isascii() or _UNSEEN.isdisjoint(text)):
        return text
    return "".join(
        one if one.isprintable() and one not in _UNSEEN else one.encode("unicode_escape").decode() for one in text
    )


def listed(values: Sequence[object], between: str = ", ") -> str:
    """Return a list of values as people read it: the first 20 of them, or all in a block of `whole`."""
    told = values if _whole.get() else values[:_SHOWN_ELEMENTS]
    more = [f"… ({len(values)} in all)"] if len(told) < len(values) else []
    return between.join([*map(shown, told), *more])


def _plain(other: object) -> object:
    """Return a JSON value for one that is not JSON: a dict for a mapping, otherwise the name of its type."""
    return dict(other) if _is_object(other) else type(other).__name__


def _brief(value: object, depth: int, room: list[int]) -> object:
    """Return the beginning of a value, cut so that writing it as JSON costs little; `room` is left for more values."""
    room[0] -= 1
    if room[0] < 0:
        return "…"
    if isinstance(value, str):
        # With its quotes it is longer than what is shown, so `excerpt` marks where it is cut.
        return value[:_SHOWN]
    if isinstance(value, int) and not -SAFE_INTEGER <= value <= SAFE_INTEGER:
        return "a number beyond ±(2^53 - 1)"
    if _is_object(value):
        pairs = value.items()
        if depth == 0 and pairs:
            return "…"
        brief_pairs = {str(_brief(name, 0, [1])): _brief(element, depth - 1, room) for name, element in _first(pairs)}
        return brief_pairs if len(brief_pairs) == len(pairs) else {**brief_pairs, "…": "…"}
    if _is_array(value):
        if depth == 0 and value:
            return "…"
        brief = [_brief(element, depth - 1, room) for element in _first(value)]
        if len(brief) < len(value):
            brief.append("…")
        return tuple(brief) if isinstance(value, tuple) else brief
    return value


def _is_array(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple)


def _is_object(value: object) -> TypeGuard[Mapping[object, object]]:
    return isinstance(value, Mapping)


def _first(elements: Iterable[T]) -> Iterable[T]:
    return islice(elements, _SHOWN_ELEMENTS)
