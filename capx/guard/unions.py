"""Finds unions of which caveats could not see the member.

Law: two members of a union never look alike to caveats. Pydantic chooses the member by what was sent: by the fields
that are there, or by text in place of a number. Caveats see only the JSON of the result, with the defaults filled in.
So a person could consent to a draft, and the endpoint would send it.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin
from uuid import UUID

import msgspec
from pydantic import (
    AwareDatetime,
    BaseModel,
    Discriminator,
    EmailStr,
    FutureDate,
    FutureDatetime,
    IPvAnyAddress,
    IPvAnyInterface,
    IPvAnyNetwork,
    NaiveDatetime,
    PastDate,
    PastDatetime,
    RootModel,
)
from pydantic.fields import FieldInfo

from capx.guard.model_values import SPELT

UNIONS: Final = (Union, UnionType)
NAME_IT: Final = "name what is judged with `args=`"
"""What to do about an input that caveats cannot see: the end of a sentence about it."""

_TEXTS: Final = (str, date, time, timedelta, UUID, IPvAnyAddress, IPvAnyInterface, IPvAnyNetwork, *SPELT)
_NUMBERS: Final = (int, float, Decimal, datetime)
_NO_CLASSES_OF_VALUES: Final[dict[Any, type[object]]] = {
    EmailStr: str,
    PastDate: date,
    FutureDate: date,
    AwareDatetime: datetime,
    NaiveDatetime: datetime,
    PastDatetime: datetime,
    FutureDatetime: datetime,
}
"""Classes that only say how pydantic validates, with the class that their values have."""
_REFUSED: Final = (bytes, bytearray, memoryview)
"""Types whose values are never judged."""
_ANY: Final = {"null": NoneType, "boolean": bool, "number": float, "text": str, "array": Any, "object": Any}
"""What values of any type look like: JSON, as it was sent."""

Look = tuple[str, Any]
"""The JSON type as which caveats see a value, and what the value is in Python."""


def alike(annotation: Any) -> str | None:
    """Report two members of a union that look alike: the end of a sentence about the parameter. None if there are none.

    An alias or a type variable can be such a union, too.
    """
    found: dict[str, list[Any]] = {}
    for json_type, member in _looks(annotation):
        members = found.setdefault(json_type, [])
        # Annotations may hold what cannot be hashed.
        if member not in members:
            members.append(member)
    same = next((members for members in found.values() if len(members) > 1), None)
    if same is None:
        return None
    *others, last = map(_named, same)
    remedy = f"give it a discriminator, or {NAME_IT}" if all(map(_may_have_a_tag, same)) else NAME_IT
    return f"holds a union of {', '.join(others)} and {last}, and caveats could not see which one it is: {remedy}"


def is_told_apart(metadata: Iterable[object]) -> bool:
    """Whether a field or `Annotated` names the member of the union whose value tells which one it is.

    Pydantic then demands this member, and caveats see it. A function as discriminator could read anything.
    """
    names = list(_discriminators(metadata))
    return bool(names) and all(isinstance(name, str) for name in names)


def _discriminators(metadata: Iterable[object]) -> Iterator[object]:
    for one in metadata:
        if isinstance(one, Discriminator):
            yield one.discriminator
        elif isinstance(one, FieldInfo):
            yield from _discriminators(one.metadata)
            if isinstance(one.discriminator, Discriminator):
                yield one.discriminator.discriminator
            elif one.discriminator is not None:
                yield one.discriminator


def _looks(annotation: Any) -> Iterator[Look]:
    kind = get_origin(annotation) or annotation
    if kind is Annotated:
        inner, *metadata = get_args(annotation)
        yield from [("object", inner)] if is_told_apart(metadata) else _looks(inner)
    elif kind in UNIONS:
        for member in get_args(annotation):
            yield from _looks(member)
    elif kind is Literal:
        for value in get_args(annotation):
            yield from _looks(type(value))
    elif isinstance(kind, TypeVar):
        # Pydantic takes the default (PEP 696), if there is one, for a generic model without parameters.
        bounds = [one for one in (kind.__bound__, _default(kind)) if one is not None]
        for choice in kind.__constraints__ or bounds or (Any,):
            yield from _looks(choice)
    elif (behind := getattr(kind, "__value__", None) or getattr(kind, "__supertype__", None)) is not None:
        yield from _looks(behind)
    elif inspect.isclass(kind) and kind is not object:
        yield from _looks_of_class(_NO_CLASSES_OF_VALUES.get(kind, kind), annotation)
    else:
        yield from _ANY.items()


def _default(variable: Any) -> Any:
    found = getattr(variable, "__default__", None)
    return None if type(found).__name__ == "NoDefaultType" else found


def _looks_of_class(kind: type[Any], annotation: Any) -> Iterator[Look]:
    if issubclass(kind, Enum):
        yield from ((look[0], kind) for value in kind for look in _looks(type(value.value)))
    elif issubclass(kind, RootModel):
        root = kind.model_fields["root"]
        if is_told_apart([root]):
            yield "object", kind
        else:
            yield from ((look[0], kind) for look in _looks(root.annotation))
    elif kind is NoneType:
        yield "null", kind
    elif kind is bool:
        yield "boolean", kind
    # Before the texts: a datetime is a date, too.
    elif issubclass(kind, _NUMBERS):
        # 1 and 1.0 are one number to caveats, and to JSON.
        yield "number", float if kind in (int, float) else kind
    elif issubclass(kind, _TEXTS):
        yield "text", kind
    elif _has_fields(kind) or issubclass(kind, Mapping):
        yield "object", annotation
    elif issubclass(kind, msgspec.Struct):
        yield "array" if kind.__struct_config__.array_like else "object", annotation
    elif issubclass(kind, Iterable) and not issubclass(kind, _REFUSED):
        yield "array", annotation
    elif not issubclass(kind, _REFUSED):
        # A class that says itself how pydantic validates it: its values may be anything.
        yield from ((look, annotation) for look in _ANY if look != "null")


def _has_fields(kind: Any) -> bool:
    """Whether values of a class are judged by their fields, as an object."""
    signs = ("__dataclass_fields__", "__total__", "__attrs_attrs__")
    return inspect.isclass(kind) and (issubclass(kind, BaseModel) or any(hasattr(kind, sign) for sign in signs))


def _may_have_a_tag(member: Any) -> bool:
    """Whether a member of a union can have the discriminator."""
    if get_origin(member) in UNIONS:
        return all(map(_may_have_a_tag, get_args(member)))
    kind = get_origin(member) or member
    return _has_fields(kind) and not issubclass(kind, RootModel)


def _named(member: Any) -> str:
    return member.__name__ if inspect.isclass(member) else inspect.formatannotation(member)
