"""What caveats see of a value that a function gets.

Laws: what is no JSON is converted in plain sight or refused. Of what has members every one is seen, whether it was
declared, is a default, begins with an underscore or was put there by hand; a value that holds more than is seen of it
is refused. Bytes are refused: no text that could stand for them is what the function gets.
"""

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, cast

import msgspec

from capx.errors import InvalidRequest
from capx_caveats import JSON

Hook = Callable[[Any], Any]
"""Opens one value of a type that is not known here; TypeError if it cannot."""

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_BARE: Final = frozenset({dict, list, tuple, set, frozenset})


def plain(name: str, value: Any, hook: Hook | None = None) -> JSON:
    """The JSON value of an argument, times as RFC 3339 and structs as objects; InvalidRequest if there is none."""
    try:
        return _seen(value, hook)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the argument {name!r} cannot be judged, as it is no JSON value: {error}") from None


def _members(value: Any, declared: Iterable[str]) -> dict[str, Any]:
    """What a value holds by name: what is declared and there, and what else was put into it."""
    there = {name: getattr(value, name) for name in declared if hasattr(value, name)}
    return _state(value) | there


def _state(value: Any) -> dict[str, Any]:
    """What a value holds in its dictionary and in its slots, whatever its class makes of that."""
    state = cast("dict[str, Any] | tuple[dict[str, Any] | None, ...] | None", object.__getstate__(value))
    parts = state if isinstance(state, tuple) else (state,)
    return {name: held for part in parts for name, held in (part or {}).items()}


def _seen(value: Any, hook: Hook | None) -> JSON:
    kind = cast("type[object]", type(value))
    if kind in _SCALARS:
        return value  # type: ignore[no-any-return] # one of the scalars of JSON
    if isinstance(value, enum.Enum):
        return _seen(value.value, hook)
    if issubclass(kind, (dict, list, tuple, set, frozenset)):
        if kind not in _BARE and _state(value):
            raise TypeError(f"a {kind.__name__} holds more than its elements")
        return _object(value, hook) if issubclass(kind, dict) else [_seen(element, hook) for element in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError("bytes are no text, and the service has not stated what is judged of them")
    if isinstance(value, msgspec.Struct):
        return _struct(value, hook)
    if (declared := _declared(kind)) is not None:
        return _object(_members(value, declared), hook)
    converted: JSON = msgspec.to_builtins(value, enc_hook=None if hook is None else lambda odd: _seen(hook(odd), hook))
    return converted


def _object(value: Mapping[Any, Any], hook: Hook | None) -> JSON:
    seen: dict[Any, JSON] = {_seen(name, hook): _seen(member, hook) for name, member in value.items()}
    if len(seen) != len(value):
        raise TypeError("two of its names are spelt alike, so neither can be told apart")
    return seen


def _struct(value: msgspec.Struct, hook: Hook | None) -> JSON:
    config = value.__struct_config__
    spelt = dict(zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True))
    held = {spelt.get(name, name): member for name, member in _members(value, spelt).items()}
    if config.tag_field is not None:
        held = {config.tag_field: config.tag} | held
    there = {name: member for name, member in held.items() if member is not msgspec.UNSET}
    return [_seen(member, hook) for member in held.values()] if config.array_like else _object(there, hook)


def _declared(kind: Any) -> list[str] | None:
    """The names of a dataclass's or an attrs class's fields; None for others."""
    if hasattr(kind, "__dataclass_fields__"):
        import dataclasses

        return [field.name for field in dataclasses.fields(kind)]
    if hasattr(kind, "__attrs_attrs__"):
        return [attribute.name for attribute in kind.__attrs_attrs__]
    return None
