"""Converts the arguments of a function to the JSON that caveats judge.

Laws:

- A value that is not JSON is converted by a documented rule, or refused. Bytes are refused, because any text in their
  place differs from what the function gets.
- Caveats see every member of a value: declared or not, default or not, with a leading underscore or not. A value that
  holds more than caveats would see is refused, and so is a dictionary or list of a class that reads in its own way.
"""

import enum
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, cast

import msgspec

from capx.errors import InvalidRequest
from capx_caveats import JSON

Hook = Callable[[Any], Any]
"""Converts one value of a type that this module does not know; raises TypeError if it cannot."""


class _Named(NamedTuple):
    field: None


_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_BARE: Final = frozenset({dict, list, tuple, set, frozenset})
_KNOWN: Final = frozenset({OrderedDict, defaultdict, Counter, object})
_READING: Final = frozenset(
    {"__getitem__", "__iter__", "__len__", "__contains__", "__reversed__", "__eq__", "__missing__"}
    | {"__getattribute__", "__getattr__", "items", "keys", "values", "get", "pop", "popitem", "copy", "index", "count"}
)
"""Methods by which a function reads a dictionary, a list, a tuple or a set."""
_FIELD: Final = cast("type[object]", type(vars(_Named)["field"]))
"""A field of a named tuple, which may have the name of a method."""


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
        return _seen(value.value, hook)
    if issubclass(kind, (dict, list, tuple, set, frozenset)):
        if kind not in _BARE:
            _demand_plain(value)
        return _object(value, hook) if issubclass(kind, dict) else [_seen(element, hook) for element in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError("it is bytes, and the service has not stated how to judge them")
    if isinstance(value, msgspec.Struct):
        return _struct(value, hook)
    if (declared := _declared(kind)) is not None:
        return _object(_members(value, declared), hook)
    converted: JSON = msgspec.to_builtins(value, enc_hook=None if hook is None else lambda odd: _seen(hook(odd), hook))
    return converted


def _demand_plain(value: object) -> None:
    kind = type(value)
    if _state(value):
        raise TypeError(f"a {kind.__name__} has attributes that JSON would lose: pass a plain list or dict")
    for owner in kind.__mro__:
        # Its methods could show one value to caveats, and another one to the function.
        own = vars(owner).items() if owner not in _BARE | _KNOWN else ()
        if found := sorted(name for name, member in own if name in _READING and not isinstance(member, _FIELD)):
            raise TypeError(f"a {kind.__name__} has {found[0]} of its own: pass a plain list or dict")


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

        return [field.name for field in dataclasses.fields(kind)]
    if hasattr(kind, "__attrs_attrs__"):
        return [attribute.name for attribute in kind.__attrs_attrs__]
    return None
