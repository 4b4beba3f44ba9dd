"""Decoders for a vocabulary that has a service's own constraints.

Law: the union of built-in constraints is fixed when Python imports the classes, and no service changes it for others.
A vocabulary with own constraints therefore decodes with copies of the classes that hold constraints. Then it converts
the copies back to the classes themselves: the same checks, the same types.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from types import UnionType, new_class
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

import msgspec
from msgspec import inspect
from msgspec.structs import astuple

from capx_caveats.constraint import Constraint, Wire, is_own
from capx_caveats.constraints import AnyConstraint
from capx_caveats.errors import InvalidCaveat
from capx_caveats.levels import SAFE_INTEGER

Own = frozenset[type[Constraint]]
"""A set of a service's own constraints."""
Decode = Callable[[bytes | msgspec.Raw], Any]


@lru_cache(maxsize=256)
def decoder(form: Any, own: Own) -> Decode:
    """Return a function that strictly reads JSON of this form, with these constraints besides the built-in ones."""
    if not own:
        return msgspec.json.Decoder(form).decode
    copies = {kind: _copy(kind) for kind in _held(form, AnyConstraint, *own)}
    kinds = {copy: kind for kind, copy in copies.items()}
    swap: dict[Any, Any] = dict(copies)
    swap[AnyConstraint] = Union[tuple(copies.get(kind, kind) for kind in (*get_args(AnyConstraint), *own))]  # noqa: UP007 - made at run time
    # Only now are all copies there: their fields refer to each other.
    for kind, copy in copies.items():
        hints = get_type_hints(kind, include_extras=True)
        copy.__annotations__ = {field: _swapped(hints[field], swap) for field in kind.__struct_fields__}
    decode = msgspec.json.Decoder(_swapped(form, swap)).decode

    def themselves(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(themselves, value))  # pyright: ignore[reportUnknownArgumentType] # elements of any kind
        if isinstance(value, Wire):
            fields = [themselves(getattr(value, field)) for field in value.__struct_fields__]
            # This skips the metaclass, which would convert the value again: the decoder has just checked it.
            return msgspec.StructMeta.__call__(kinds[type(value)], *fields)
        return value

    return lambda raw: themselves(decode(raw))


def demand_readable(kind: type[Wire]) -> None:
    """Raise InvalidCaveat for a class with a field that a block cannot hold: an object, a list, an unbounded number."""
    waiting: list[inspect.Type] = [inspect.type_info(kind)]
    seen: set[int] = set()
    while waiting:
        found = waiting.pop()
        # A class may hold itself: without this, the loop would never end.
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, inspect.StructType):
            waiting += [field.type for field in found.fields]
        elif isinstance(found, inspect.UnionType):
            waiting += found.types
        elif isinstance(found, inspect.VarTupleType):
            waiting.append(found.item_type)
        elif isinstance(found, inspect.TupleType):
            waiting += found.item_types
        elif isinstance(found, inspect.IntType | inspect.FloatType):
            if found.ge is None or found.le is None or found.ge < -SAFE_INTEGER or found.le > SAFE_INTEGER:
                raise InvalidCaveat(f"{kind.__name__}: a number needs bounds: use Natural or Number, or give ge and le")
        elif not isinstance(found, _PLAIN):
            raise InvalidCaveat(
                f"{kind.__name__}: a {type(found).__name__.removesuffix('Type').lower()} cannot be in a block"
            )


_PLAIN = (inspect.StrType, inspect.BoolType, inspect.NoneType, inspect.LiteralType)


def own_constraints(value: Wire | tuple[object, ...]) -> Iterator[type[Constraint]]:
    """Yield the class of each constraint with a dotted tag in a value, at all depths."""
    if isinstance(value, Constraint) and is_own(type(value)):
        yield type(value)
    held: tuple[object, ...] = astuple(value) if isinstance(value, Wire) else cast("Any", value)
    for element in held:
        # Most fields are texts and numbers: to look into each of them would double the time to write a caveat.
        if isinstance(element, tuple | Wire):
            yield from own_constraints(cast("Wire", element))


def _held(*forms: Any) -> Iterator[type[Wire]]:
    """Yield the classes that a decoder reads for these forms, at all depths."""
    waiting: list[Any] = list(forms)
    seen: set[type[Wire]] = set()
    while waiting:
        found = waiting.pop()
        if isinstance(found, type) and issubclass(found, Wire):
            if found not in seen:
                seen.add(found)
                yield found
                waiting.extend(get_type_hints(found, include_extras=True)[field] for field in found.__struct_fields__)
        else:
            waiting.extend(get_args(found))


def _copy(kind: type[Wire]) -> type[Wire]:
    options = {"array_like": True, "frozen": True, "forbid_unknown_fields": True}
    return new_class(kind.__name__, (kind,), {"tag": kind.__struct_config__.tag, **options})


def _swapped(hint: Any, swap: dict[Any, Any]) -> Any:
    """Return the type hint with its classes replaced, at all depths."""
    if hint in swap:
        return swap[hint]
    origin: Any = get_origin(hint)
    if origin is None:
        return hint
    parts = tuple(part if part is Ellipsis else _swapped(part, swap) for part in get_args(hint))
    return Union[parts] if origin is Union or origin is UnionType else origin[parts]  # noqa: UP007 - made at run time
