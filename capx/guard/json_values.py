"""Converts the arguments of a function to the JSON that caveats judge.

    Decimal("12.50")                        12.5: the number of the same digits, 15 at most
    datetime(2026, 11, 25, tzinfo=UTC)      1795564800: Unix seconds; without a time zone it is refused
    date, time, timedelta                   text of ISO 8601
    UUID                                    its text in lower case
    Enum                                    its value
    set                                     an array in the order of its JSON
    struct, dataclass, attrs class          an object

Laws:

- A value that is not JSON is converted by a documented rule, or refused. Numbers are exact: two decimals of different
  values are never judged as one number.
- Caveats see every member of a value: declared or not, default or not, with a leading underscore or not. A value that
  holds more than caveats would see is refused.
- A value is read as its built-in type, never by methods of a subclass. A subclass that could read differently is
  refused.
- Bytes are refused, because any text in their place differs from what the function gets.
"""

import enum
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from types import BuiltinFunctionType
from typing import Any, Final, cast
from uuid import UUID

import msgspec

from capx.crypto.canonical_json import canonical
from capx.errors import InvalidCaveat, InvalidRequest
from capx_caveats import JSON, SAFE_INTEGER, demand_json
from capx_caveats.levels import MANY, is_json

Hook = Callable[[Any], Any]
"""Converts one value of a type that this module does not know; raises TypeError if it cannot."""

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_TEXT: Final = frozenset({str})
_BARE: Final = frozenset({dict, list, tuple, set, frozenset})
_SHARED: Final = frozenset({dict, list})
_HARMLESS: Final = frozenset(
    {"__class_getitem__", "__doc__", "__getnewargs__", "__hash__", "__init__", "__new__", "__repr__"}
)
"""What a subclass of these may define anew: it changes nothing that a function reads."""
_READ_BY: Final = frozenset({"__missing__", "__bool__"})
"""What a subclass may not define either, although these do not define it themselves."""
_DIGITS: Final = 15
"""A double holds each decimal number of so many digits: written anew, it has the same digits."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def plain(name: str, value: Any, hook: Hook | None = None) -> JSON:
    """Return the JSON value of an argument; `hook` converts values of other types than those above.

    What consists of dicts, lists and scalars is JSON already: it is returned as it is, and not copied.
    Raises InvalidRequest if the argument has no JSON value that `demand_json` accepts.
    """
    try:
        if type(value) in _SHARED and is_json(value, with_tuples=False):
            return cast("JSON", value)
        seen = _seen(value, hook)
        demand_json(seen)
    except (TypeError, ValueError, RecursionError, InvalidCaveat) as error:
        raise InvalidRequest(f"the argument {name!r} cannot be judged, because it is not JSON: {error}") from None
    return seen


def members(value: Any, declared: Iterable[str]) -> dict[str, Any]:
    """The members of a value by name: the declared ones that are set, and all others that it holds."""
    there = {name: getattr(value, name) for name in declared if hasattr(value, name)}
    return _state(value) | there


def _state(value: Any) -> dict[str, Any]:
    """The content of a value's dictionary and slots."""
    # Of `object`: a class may override __getstate__ and leave members out.
    state = cast("dict[str, Any] | tuple[dict[str, Any] | None, ...] | None", object.__getstate__(value))
    parts = state if isinstance(state, tuple) else (state,)
    return {name: held for part in parts for name, held in (part or {}).items()}


def _seen(value: object, hook: Hook | None) -> JSON:
    kind: Any = type(value)
    # The exact type: a subclass of str or int may hold more than the scalar shows.
    if kind in _SCALARS:
        return cast("JSON", value)
    if (written := _WRITTEN.get(kind)) is not None:
        return written(value)
    if isinstance(value, enum.Enum):
        _demand_own_member(value)
        return _seen(value.value, hook)
    if (base := _base_with_content(kind)) is not None:
        plainly = base.__name__
        raise TypeError(f"{kind.__name__} is a subclass of {plainly} and may read differently: pass a plain {plainly}")
    if issubclass(kind, (dict, list, tuple, set, frozenset)):
        return _container(value, hook)
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError("it is bytes, and the service has not stated how to judge them")
    if isinstance(value, msgspec.Struct):
        return _struct(value, hook)
    if (declared := declared_fields(kind)) is not None:
        return _object(members(value, declared), hook)
    if hook is None:
        raise TypeError(f"a {kind.__name__} is not a JSON value: pass a plain dict, list, text or number")
    return _seen(hook(value), hook)


def _container(value: Any, hook: Hook | None) -> JSON:
    kind = cast("type[object]", type(value))
    if kind not in _BARE:
        _demand_plain(value)
    elif len(value) > MANY and kind in _SHARED and is_json(value, with_tuples=False):
        return cast("JSON", value)
    if issubclass(kind, dict):
        return _object(value, hook)
    elements = [_seen(element, hook) for element in value]
    # A set has another order in each process. A consent would be for one of them.
    return sorted(elements, key=canonical) if issubclass(kind, (set, frozenset)) else elements


def _decimal(value: Decimal) -> int | float:
    number = _number(value)
    # Of the number, because it never has more than 17 digits.
    digits = Decimal(repr(number)).as_tuple().digits
    if len("".join(map(str, digits)).rstrip("0")) > _DIGITS:
        raise TypeError(f"a JSON number holds no more than {_DIGITS} digits of a Decimal: pass it as text")
    return number


def _instant(value: datetime) -> int | float:
    if value.utcoffset() is None:
        raise TypeError("a datetime without a time zone names no instant: give it one, as 2026-01-01T00:00:00Z has")
    microseconds = (value - _EPOCH) // timedelta(microseconds=1)
    # By its text: a sum or a quotient of Decimals is rounded in the context of the calling code.
    return _number(Decimal(f"{microseconds}E-6"))


def _number(exact: Decimal) -> int | float:
    """Return the JSON number of this value; TypeError if no number is exactly that when it is read back."""
    if not exact.is_finite() or not -SAFE_INTEGER <= (number := float(exact)) <= SAFE_INTEGER:
        raise TypeError("a number is beyond ±(2^53 - 1) or not finite: pass it as text")
    if Decimal(repr(number)) != exact:
        raise TypeError("a JSON number would have other digits than this value: pass it as text")
    return int(number) if number.is_integer() else number


_WRITTEN: Final[dict[type[Any], Callable[[Any], JSON]]] = {
    Decimal: _decimal,
    datetime: _instant,
    date: date.isoformat,
    time: msgspec.to_builtins,
    timedelta: msgspec.to_builtins,
    UUID: str,
}
"""How values of exactly these types are written in JSON."""


@lru_cache(maxsize=1024)
def _base_with_content(kind: type[Any]) -> type[object] | None:
    """The built-in type whose content the values of a subclass have; None if they have none."""
    return next((base for base in kind.__mro__ if base in _SCALARS or base in _WRITTEN), None)


def _demand_own_member(value: enum.Enum) -> None:
    """Raise TypeError if this is no member of its Enum, or one that is a text or a number other than its value."""
    kind = type(value)
    # `_missing_` may make an object that looks like a member, and holds what the bearer sent.
    is_flag = isinstance(value, enum.Flag)
    found = kind._value2member_map_.get(value._value_) if is_flag else kind._member_map_.get(value._name_)
    if found is not value:
        raise TypeError(f"{kind.__name__}.{value.name} is no member of its class: have `_missing_` return a member")
    base: Any = _base_with_content(type(value))
    # Of the base, because the Enum may define its own.
    if base is not None and base.__eq__(value, value.value) is not True:
        raise TypeError(f"{type(value).__name__}.{value.name} has another content than its value: pass one of the two")


def _demand_plain(value: Any) -> None:
    """Raise TypeError if a function would find more, or something else, in this dict, list, tuple or set."""
    kind = cast("type[object]", type(value))
    if _state(value):
        raise TypeError(f"a {kind.__name__} has attributes that JSON would lose: pass a plain list or dict")
    ancestors = kind.__mro__
    known = next(index for index, ancestor in enumerate(ancestors) if ancestor in _BARE or ancestor is OrderedDict)
    own = {name for ancestor in ancestors[:known] for name in vars(ancestor)}
    # The fields of a named tuple may have names of methods, such as `count`.
    allowed = {*_HARMLESS, *getattr(kind, "_fields", ())}
    if not own.isdisjoint({*vars(ancestors[known]), *_READ_BY} - allowed):
        raise TypeError(f"a {kind.__name__} may read differently than JSON shows it: pass a plain list or dict")


def _object(value: Mapping[Any, Any], hook: Hook | None) -> JSON:
    if set(map(type, value)) <= _TEXT:
        # Scalars without a call: a large body holds many.
        return {
            name: member if type(member) in _SCALARS else _seen(member, hook)  # pyright: ignore[reportUnknownArgumentType]
            for name, member in value.items()
        }
    seen: dict[Any, JSON] = {_seen(name, hook): _seen(member, hook) for name, member in value.items()}
    # Two keys such as 1 and "1" have one spelling in JSON: caveats would see only one of the two members.
    if len(seen) != len(value):
        raise TypeError("two of its names have the same spelling in JSON, so a caveat could not see both")
    if any(type(name) is not str for name in seen):
        raise TypeError("the names of the members of an object are texts: pass them as text")
    return seen


def _struct(value: msgspec.Struct, hook: Hook | None) -> JSON:
    config = value.__struct_config__
    spelt = dict(zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True))
    held = {spelt.get(name, name): member for name, member in members(value, spelt).items()}
    # The tag goes first, so that a member of that name overwrites it: caveats see the member that the function gets.
    if config.tag_field is not None:
        held = {config.tag_field: config.tag} | held
    there = {name: member for name, member in held.items() if member is not msgspec.UNSET}
    return [_seen(member, hook) for member in held.values()] if config.array_like else _object(there, hook)


@lru_cache(maxsize=1024)
def declared_fields(kind: type[Any]) -> tuple[str, ...] | None:
    """The field names of a dataclass or an attrs class; None for other types."""
    # By attribute and not by import: a service may have no attrs.
    if hasattr(kind, "__dataclass_fields__"):
        import dataclasses

        _demand_no_content(kind)
        return tuple(field.name for field in dataclasses.fields(kind))
    if hasattr(kind, "__attrs_attrs__"):
        _demand_no_content(kind)
        return tuple(attribute.name for attribute in kind.__attrs_attrs__)
    return None


def _demand_no_content(kind: type[object]) -> None:
    """Raise TypeError if values of this class have content besides their fields, as a subclass of Decimal has."""
    # A class of Python has no content of its own; only a built-in `__new__` makes some.
    for base in kind.__mro__:
        if base is not object and isinstance(vars(base).get("__new__"), BuiltinFunctionType):
            raise TypeError(f"a {kind.__name__} has the content of {base.__name__}, which its fields do not show")
