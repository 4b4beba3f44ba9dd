"""Strict reading of JSON from others into a type.

Law: JSON is refused if a member is unknown, missing, of another type, or named twice.
"""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from capx.errors import InvalidRequest

T = TypeVar("T")

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)
"""The exceptions that are raised for bytes that are not the JSON of a type."""


def read(data: bytes, kind: type[T], hook: Callable[[type, Any], Any] | None = None) -> T:
    """Return the value that these bytes hold; InvalidRequest says what is wrong with them.

    `hook` converts to types that msgspec does not know: its `dec_hook`.
    """
    try:
        value = msgspec.json.decode(data, type=kind, dec_hook=hook)
        # msgspec lets a later member win over an earlier one of the same name. This second reading looks only at names,
        # so numbers need no conversion, and a huge one costs nothing.
        json.loads(data.decode(), object_pairs_hook=_distinct, parse_int=len, parse_float=len)
    except UNREADABLE as error:
        raise InvalidRequest(f"this is not the JSON that belongs here: {error}") from None
    return value


def _distinct(pairs: list[tuple[str, object]]) -> None:
    if len(names := [name for name, _ in pairs]) != len(set(names)):
        twice = next(name for name, times in Counter(names).items() if times > 1)
        raise ValueError(f"{twice!a:.40} is named twice in one object")
