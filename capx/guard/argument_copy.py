"""Copies the arguments of a call, so that the function runs with what was judged.

Law: nobody but the guard holds the copy. While a person decides, or a database answers, the caller may change a list or
an object that it passed. The copy is judged, and the function gets the copy.
"""

from collections import OrderedDict
from typing import Any

import msgspec
from msgspec.structs import force_setattr

from capx.errors import InvalidRequest
from capx.guard.json_values import declared_fields, members


def own_copy(name: str, value: Any) -> Any:
    """Return a copy of an argument, with copies of everything in it; InvalidRequest if it holds itself.

    What cannot change is the same object in the copy. So is what is no JSON: it cannot be judged in any case.
    """
    try:
        return _copied(value)
    except RecursionError:
        raise InvalidRequest(f"the argument {name!r} cannot be judged: it nests too deep") from None


def _copied(value: Any) -> Any:
    kind: Any = type(value)
    # By the methods of the base types, because a subclass may have its own.
    if issubclass(kind, dict):
        base = OrderedDict if issubclass(kind, OrderedDict) else dict
        return _filled(base, kind, {name: _copied(member) for name, member in base.items(value)})
    if issubclass(kind, list):
        return _filled(list, kind, [_copied(element) for element in list.__iter__(value)])
    if issubclass(kind, tuple):
        return tuple.__new__(kind, [_copied(element) for element in tuple.__iter__(value)])
    if issubclass(kind, set):
        return _filled(set, kind, set.__iter__(value))
    is_struct = issubclass(kind, msgspec.Struct)
    fields = kind.__struct_fields__ if is_struct else declared_fields(kind)
    if fields is None:
        return value
    # Without its constructor, which may change or refuse what it gets.
    copy = msgspec.Struct.__copy__(value) if is_struct else object.__new__(kind)  # type: ignore[attr-defined] # no stub
    put = force_setattr if is_struct else object.__setattr__
    for name, member in members(value, fields).items():
        put(copy, name, _copied(member))
    return copy


def _filled(base: Any, kind: type[Any], content: Any) -> Any:
    """Return a new object of this subclass of dict, list or set with this content."""
    copy = base.__new__(kind)
    (base.extend if base is list else base.update)(copy, content)
    return copy
