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
_FROZEN: Any = frozenset
_STRUCT: Any = msgspec.Struct
_MOST = 2**20
"""The most values that an argument may hold, at all depths."""


def own_copy(name: str, value: Any) -> Any:
    """Return a copy of an argument, with copies of everything in it; InvalidRequest if it holds itself, or too much.

    What cannot change is the same object in the copy. So is what is no JSON: it cannot be judged in any case.
    """
    try:
        return _copied(value, [_MOST])
    except RecursionError:
        raise InvalidRequest(f"the argument {name!r} cannot be judged: it nests too deep") from None
    except OverflowError:
        raise InvalidRequest(f"the argument {name!r} cannot be judged: it holds too many values") from None


def _copied(value: Any, left: list[int]) -> Any:
    # One list may stand in another many times, and so on: few objects can hold more values than there is memory.
    left[0] -= 1
    if left[0] < 0:
        raise OverflowError
    kind: Any = _kind(value)
    # By the methods of the base types, because a subclass may have its own.
    if issubclass(kind, _DICT):
        base = _ORDERED if issubclass(kind, _ORDERED) else _DICT
        return _filled(base, kind, {name: _copied(member, left) for name, member in base.items(value)})
    if issubclass(kind, _LIST):
        return _filled(_LIST, kind, [_copied(element, left) for element in _LIST.__iter__(value)])
    if issubclass(kind, _TUPLE):
        return _TUPLE.__new__(kind, [_copied(element, left) for element in _TUPLE.__iter__(value)])
    if issubclass(kind, _SET):
        return _filled(_SET, kind, [_copied(element, left) for element in _SET.__iter__(value)])
    if issubclass(kind, _FROZEN):
        return _FROZEN.__new__(kind, [_copied(element, left) for element in _FROZEN.__iter__(value)])
    is_struct = isinstance(value, msgspec.Struct)
    fields = value.__struct_fields__ if is_struct else declared_fields(kind)
    if fields is None:
        return value
    # Without its constructor, which may change or refuse what it gets.
    copy: Any = _STRUCT.__copy__(value) if is_struct else object.__new__(kind)
    put = force_setattr if is_struct else object.__setattr__
    for name, member in members(value, fields).items():
        put(copy, name, _copied(member, left))
    return copy


def _kind(value: object) -> type[object]:
    return type(value)


def _filled(base: Any, kind: type[object], content: Any) -> Any:
    """Return a new object of this subclass of dict, list or set with this content."""
    copy = base.__new__(kind)
    (base.extend if base is _LIST else base.update)(copy, content)
    return copy
