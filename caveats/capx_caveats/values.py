"""JSON values as capx judges them: by type, with numbers that a double holds exactly.

Laws: `true` is not 1. 1 equals 1.0. A number that is not finite or is beyond ±(2⁵³ - 1) is not a value. Nothing is
converted.
"""

import gc
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeAlias, TypeGuard, cast

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
        if is_array(found):
            elements = found
        elif is_object(found):
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


def is_array(value: object) -> TypeGuard[Sequence[object]]:
    """Whether a value is a list or a tuple."""
    return isinstance(value, list | tuple)


def is_object(value: object) -> TypeGuard[Mapping[object, object]]:
    """Whether a value is a mapping."""
    return isinstance(value, Mapping)
