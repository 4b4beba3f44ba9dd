"""Strict reading of JSON from others into a type.

Law: JSON is refused if it is not of the type, which can forbid unknown members, if a member is named twice, or if a
value stands in more than DEEPEST objects and arrays. What was read can be written.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import jiter
import msgspec

from capx.errors import InvalidRequest

T = TypeVar("T")

DEEPEST: Final = 200
"""The most objects and arrays in which one value may stand: the bound of jiter."""
UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, ValueError)
"""The exceptions that are raised for bytes that are not the JSON of a type."""


def read(data: bytes, kind: type[T], hook: Callable[[type, Any], Any] | None = None) -> T:
    """Return the value that these bytes hold; InvalidRequest says what is wrong with them.

    `hook` converts to types that msgspec does not know: its `dec_hook`.
    """
    try:
        # msgspec lets a later member win over an earlier one of the same name. This first reading is for names and
        # depth; nothing is kept of it, nor of its texts.
        jiter.from_json(data, catch_duplicate_keys=True, cache_mode="none")
    except ValueError as error:
        # It repeats a name, of any length.
        raise InvalidRequest(f"this is not the JSON that belongs here: {ascii(str(error))[1:-1]:.120}") from None
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=hook)
    except UNREADABLE as error:
        raise InvalidRequest(f"this is not the JSON that belongs here: {error}") from None
