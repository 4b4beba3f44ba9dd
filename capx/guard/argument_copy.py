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

# Of any type, because nothing is known of what they hold.
_DICT: Any = dict
_ORDERED: Any = OrderedDict
_LIST: Any = list
_TUPLE: Any = tuple
_SET: Any = set
_STRUCT: Any = msgspec.Struct


def own_copy(name: str, value: Any) -> Any:
    """Return a copy of an argument, with copies of everything in it; InvalidRequest if it holds itself.

    What cannot change is the same object in the copy. So is what is no JSON: it cannot be judged in any case.
    """
    try:
        return _copied(value)
    except RecursionError:
        raise InvalidRequest(f"the argument {name!r} cannot be judged: it nests too deep") from None


def _copied(value: Any) -> Any:
    kind = _kind(value)
    # By the methods of the base types, because a subclass may have its own.
    if issubclass(kind, _DICT):
        base = _ORDERED if issubclass(kind, _ORDERED) else _DICT
        return _filled(base, kind, {name: _copied(member) for name, member in base.items(value)})
    if issubclass(kind, _LIST):
        return _filled(_LIST, kind, [_copied(element) for element in _LIST.__iter__(value)])
    if issubclass(kind, _TUPLE):
        return _TUPLE.__new__(kind, [_copied(element) for element in _TUPLE.__iter__(value)])
    if issubclass(kind, _SET):
        return _filled(_SET, kind, _SET.__iter__(value))
    is_struct = isinstance(value, msgspec.Struct)
    fields = value.__struct_fields__ if is_struct else declared_fields(kind)
    if fields is None:
        return value
    # Without its constructor, which may change or refuse what it gets.
    copy: Any = _STRUCT.__copy__(value) if is_struct else object.__new__(kind)
    put = force_setattr if is_struct else object.__setattr__
    for name, member in members(value, fields).items():
        put(copy, name, _copied(member))
    return copy


def _kind(value: object) -> type[object]:
    return type(value)


def _filled(base: Any, kind: type[object], content: Any) -> Any:
    """Return a new object of this subclass of dict, list or set with this content."""
    copy = base.__new__(kind)
    (base.extend if base is _LIST else base.update)(copy, content)
    return copy
