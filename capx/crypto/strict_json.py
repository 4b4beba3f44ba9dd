"""JSON of others, read strictly into a type: what is unknown, missing, of another type or named twice is refused."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from capx.errors import InvalidRequest

T = TypeVar("T")

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)
"""What reading bytes that are none of a type raises."""


def read(data: bytes, kind: type[T], hook: Callable[[type, Any], Any] | None = None) -> T:
    """The value that these bytes are; InvalidRequest says what is wrong with others.

    `hook` makes what msgspec does not know, as its `dec_hook`.
    """
    try:
        value = msgspec.json.decode(data, type=kind, dec_hook=hook)
        # That it is JSON is known: nothing but names is made of it.
        json.loads(data.decode(), object_pairs_hook=_distinct, parse_int=len, parse_float=len)
    except UNREADABLE as error:
        raise InvalidRequest(f"this is not the JSON that belongs here: {error}") from None
    return value


def _distinct(pairs: list[tuple[str, object]]) -> None:
    if len(names := [name for name, _ in pairs]) != len(set(names)):
        twice = next(name for name, times in Counter(names).items() if times > 1)
        raise ValueError(f"{twice!a:.40} is named twice in one object")
