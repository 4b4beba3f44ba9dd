"""Judges only objects of classes that the type at their place names.

Law: a validator may return an object of another class than the endpoint names, such as a subclass with other defaults,
and the bearer may be able to choose which. Caveats see two such objects alike. So a call is denied if a parameter, or
a member at any depth, is an object with fields whose very class is not in its type.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, TypeVar, cast, get_origin

from pydantic.fields import FieldInfo

from capx.errors import InvalidRequest
from capx.guard.hidden_fields import has_parts, inner_types, is_class, parts
from capx.guard.json_values import members, plain
from capx.guard.model_values import converted
from capx.guard.unions import NAME_IT
from capx_caveats import JSON

Classes = frozenset[Any]
"""The classes that a type names; TypeVar itself if it names one that the type around it decides."""

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


def judged(name: str, value: Any, named: Classes) -> JSON:
    """Return what caveats see of an argument at a place with these classes; InvalidRequest if it cannot be judged."""
    seen = plain(name, value, converted)
    # What is JSON already holds no objects.
    if seen is not value:
        _demand(name, value, named)
    return seen


def named_classes(annotation: Any) -> Classes:
    """Return the classes that a type names for a value and for what containers in it hold, without their members."""
    return frozenset(_within(annotation, {}))


@lru_cache(maxsize=1024)
def _named_by(kind: type[object]) -> Mapping[str, Classes]:
    """Return what the types of a class's members name."""
    return {name: named_classes(each) for name, each in parts(kind).items()}


def _within(annotation: Any, seen: dict[int, Any]) -> Iterator[Any]:
    # An alias may hold itself. Keep each type that was seen: after its end, another one could get its id.
    if id(annotation) in seen:
        return
    seen[id(annotation)] = annotation
    if isinstance(annotation, FieldInfo):
        annotation = annotation.annotation
    kind: Any = get_origin(annotation) or annotation
    inner = inner_types(annotation)
    if isinstance(kind, TypeVar):
        yield TypeVar
    elif is_class(kind):
        yield kind
        # Values of a typed dict are plain dicts.
        if hasattr(kind, "__total__"):
            inner += parts(kind).values()
    for each in inner:
        yield from _within(each, seen)


def _demand(name: str, value: Any, named: Classes) -> None:
    kind: Any = cast("type[object]", type(value))
    if kind in _SCALARS:
        return
    if has_parts(kind):
        if kind not in named:
            raise InvalidRequest(
                f"{name} cannot be judged, because it holds a {kind.__name__}, which the type at its place does not "
                f"name: have the type name the class, or {NAME_IT}"
            )
        known = _named_by(kind)
        for member, held in members(value, known).items():
            inner = known.get(member, frozenset())
            _demand(name, held, inner | named if TypeVar in inner else inner)
    elif issubclass(kind, dict | list | tuple | set | frozenset):
        for each in value.values() if issubclass(kind, dict) else value:
            _demand(name, each, named)
