"""Reads names and texts, as in the query of a URL, into a type.

Laws:

- It reads strictly. It refuses an unknown name, a second value for a name that has one, and other spellings of a
  number or a boolean.
- A query of more than FIELDS fields or BYTES bytes is refused before it is parsed, because a stranger may have sent it.
  Only a type with a list has no such bound: no stranger's query has one.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from capx.errors import InvalidRequest

T = TypeVar("T", bound=Struct)

FIELDS: Final = 16
"""The most fields of a query whose type has no list."""
BYTES: Final = 4096
"""The most bytes of a query whose type has no list."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")
_BOOLEANS: Final = {"true": True, "false": False}


class NoQuery(Struct, frozen=True):
    """The type of a query without names."""


@lru_cache(maxsize=64)
def _hints(kind: type[Struct]) -> Mapping[str, Any]:
    # To find them takes as long as to read a query.
    return get_type_hints(kind)


def demand_short(query: bytes, kind: type[Struct] = NoQuery) -> None:
    """InvalidRequest for a query that has too many fields or bytes for this type. The query is not parsed."""
    if query.count(b"&") < FIELDS and len(query) <= BYTES:
        return
    if not any(get_origin(hint) is tuple for hint in _hints(kind).values()):
        raise InvalidRequest(f"a query may have at most {FIELDS} fields and {BYTES} bytes")


def decode_query(pairs: Iterable[tuple[str, str]], kind: type[T]) -> T:
    """Return the value that these names and texts spell; raises InvalidRequest, which says what is wrong."""
    found: dict[str, Any] = {}
    hints = _hints(kind)
    for name, text in pairs:
        if name not in hints:
            known = f": only {', '.join(hints)}" if hints else ""
            raise InvalidRequest(f"{name!a:.40} is not a name of this query{known}")
        if get_origin(hints[name]) is tuple:
            found.setdefault(name, []).append(text)
        elif name in found:
            raise InvalidRequest(f"{name} is named twice")
        else:
            found[name] = _value(name, text, hints[name])
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, InvalidRequest):
            # The type itself found the mistake, and its sentence is better than the one of msgspec.
            raise error.__cause__ from None
        raise InvalidRequest(f"this query is not valid: {error}") from None


def _value(name: str, text: str, hint: Any) -> str | int | bool:
    kinds = {hint, *get_args(hint)}
    if bool in kinds:
        if text not in _BOOLEANS:
            raise InvalidRequest(f"{name} is true or false, not {text!a:.40}")
        return _BOOLEANS[text]
    if int in kinds:
        if not _NUMBER.fullmatch(text):
            raise InvalidRequest(f"{name} is a whole number, not {text!a:.40}")
        return int(text)
    return text
