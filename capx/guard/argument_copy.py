"""Copies the arguments of a call, so that the function runs with what was judged.

Law: nobody but the guard holds the copy. While a person decides, or a database answers, the caller may change a list or
an object that it passed. The copy is judged, and the function gets the copy.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, cast

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


# As Any, because the types of what they hold are not known.
_DICT: Any = dict
_ORDERED: Any = OrderedDict
_LIST: Any = list
_TUPLE: Any = tuple
_SET: Any = set
_STRUCT: Any = msgspec.Struct


def _copied(value: Any) -> Any:
    kind = cast("Any", type(value))
    bases = kind.__mro__
    # By the methods of the base types, because a subclass may have its own.
    if dict in bases:
        base = _ORDERED if OrderedDict in bases else _DICT
        copy = base.__new__(kind)
        base.update(copy, {name: _copied(member) for name, member in base.items(value)})
    elif list in bases:
        copy = _LIST.__new__(kind)
        _LIST.extend(copy, [_copied(element) for element in _LIST.__iter__(value)])
    elif tuple in bases:
        copy = _TUPLE.__new__(kind, [_copied(element) for element in _TUPLE.__iter__(value)])
    elif set in bases:
        copy = _SET.__new__(kind)
        _SET.update(copy, _SET.__iter__(value))
    elif msgspec.Struct in bases:
        copy = _STRUCT.__copy__(value)
        _put(copy, force_setattr, members(value, kind.__struct_fields__))
    elif (fields := declared_fields(kind)) is not None:
        # Without its constructor, which may change or refuse what it gets.
        copy = object.__new__(kind)
        _put(copy, object.__setattr__, members(value, fields))
    else:
        copy = value
    return copy


def _put(copy: Any, put: Callable[[Any, str, Any], None], held: Mapping[str, Any]) -> None:
    for name, member in held.items():
        put(copy, name, _copied(member))
