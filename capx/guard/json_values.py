"""Converts the arguments of a function to the JSON that caveats judge.

Laws: a value that is not JSON is converted by a documented rule, or refused. Caveats see every member of a value:
declared or not, default or not, with a leading underscore or not. A value that holds more than caveats would see is
refused. Bytes are refused, because any text in their place differs from what the function gets.
"""

import enum
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from types import BuiltinFunctionType
from typing import Any, Final, cast

import msgspec

from capx.crypto.canonical_json import canonical
from capx.errors import InvalidRequest
from capx_caveats import JSON

Hook = Callable[[Any], Any]
"""Converts one value of a type that this module does not know; raises TypeError if it cannot."""

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_BARE: Final = frozenset({dict, list, tuple, set, frozenset})
_HARMLESS: Final = frozenset(
    {"__class_getitem__", "__doc__", "__getnewargs__", "__hash__", "__init__", "__new__", "__repr__"}
)
"""What a subclass of these may define anew: it changes nothing that a function reads."""


def plain(name: str, value: Any, hook: Hook | None = None) -> JSON:
    """Return the JSON value of an argument: times as RFC 3339, structs as objects.

    Raises InvalidRequest if the argument has no JSON value.
    """
    try:
        return _seen(value, hook)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the argument {name!r} cannot be judged, because it is not JSON: {error}") from None


def _members(value: Any, declared: Iterable[str]) -> dict[str, Any]:
    """The members of a value by name: the declared ones that are set, and all others that it holds."""
    there = {name: getattr(value, name) for name in declared if hasattr(value, name)}
    return _state(value) | there


def _state(value: Any) -> dict[str, Any]:
    """The content of a value's dictionary and slots."""
    # Of `object`: a class may override __getstate__ and leave members out.
    state = cast("dict[str, Any] | tuple[dict[str, Any] | None, ...] | None", object.__getstate__(value))
    parts = state if isinstance(state, tuple) else (state,)
    return {name: held for part in parts for name, held in (part or {}).items()}


def _seen(value: Any, hook: Hook | None) -> JSON:
    kind = cast("type[object]", type(value))
    # The exact type: a subclass of str or int may hold more than the scalar shows.
    if kind in _SCALARS:
        return value  # type: ignore[no-any-return] # one of the scalars of JSON
    if isinstance(value, enum.Enum):
        _demand_own_content(value)
        return _seen(value.value, hook)
    if issubclass(kind, (dict, list, tuple, set, frozenset)):
        if kind not in _BARE:
            _demand_plain(value)
        if issubclass(kind, dict):
            return _object(value, hook)
        elements = [_seen(element, hook) for element in value]
        # A set has another order in each process. A consent would be for one of them.
        return sorted(elements, key=canonical) if issubclass(kind, (set, frozenset)) else elements
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError("it is bytes, and the service has not stated how to judge them")
    if isinstance(value, msgspec.Struct):
        return _struct(value, hook)
    if (declared := _declared(kind)) is not None:
        return _object(_members(value, declared), hook)
    converted: JSON = msgspec.to_builtins(value, enc_hook=None if hook is None else lambda odd: _seen(hook(odd), hook))
    return converted


def _demand_own_content(value: enum.Enum) -> None:
    """Raise TypeError if this member of an Enum is a text or a number of another content than its value."""
    # Of the base, because the Enum may define its own.
    bases: list[Any] = [base for base in type(value).__mro__ if base in _SCALARS]
    if any(base.__eq__(value, value.value) is not True for base in bases):
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
    if not own.isdisjoint({*vars(ancestors[known]), "__missing__"} - allowed):
        raise TypeError(f"a {kind.__name__} may read differently than JSON shows it: pass a plain list or dict")


def _object(value: Mapping[Any, Any], hook: Hook | None) -> JSON:
    seen: dict[Any, JSON] = {_seen(name, hook): _seen(member, hook) for name, member in value.items()}
    # Two keys such as 1 and "1" have one spelling in JSON: caveats would see only one of the two members.
    if len(seen) != len(value):
        raise TypeError("two of its names have the same spelling in JSON, so a caveat could not see both")
    return seen


def _struct(value: msgspec.Struct, hook: Hook | None) -> JSON:
    config = value.__struct_config__
    spelt = dict(zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True))
    held = {spelt.get(name, name): member for name, member in _members(value, spelt).items()}
    # The tag goes first, so that a member of that name overwrites it: caveats see the member that the function gets.
    if config.tag_field is not None:
        held = {config.tag_field: config.tag} | held
    there = {name: member for name, member in held.items() if member is not msgspec.UNSET}
    return [_seen(member, hook) for member in held.values()] if config.array_like else _object(there, hook)


def _declared(kind: Any) -> list[str] | None:
    """The field names of a dataclass or an attrs class; None for other types."""
    # By attribute and not by import: a service may have no attrs.
    if hasattr(kind, "__dataclass_fields__"):
        import dataclasses

        _demand_no_content(kind)
        return [field.name for field in dataclasses.fields(kind)]
    if hasattr(kind, "__attrs_attrs__"):
        _demand_no_content(kind)
        return [attribute.name for attribute in kind.__attrs_attrs__]
    return None


def _demand_no_content(kind: type[object]) -> None:
    """Raise TypeError if values of this class have content besides their fields, as a subclass of Decimal has."""
    # A class of Python has no content of its own; only a built-in `__new__` makes some.
    for base in kind.__mro__:
        if base is not object and isinstance(vars(base).get("__new__"), BuiltinFunctionType):
            raise TypeError(f"a {kind.__name__} has the content of {base.__name__}, which its fields do not show")
