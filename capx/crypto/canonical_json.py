"""Canonical JSON (RFC 8785), with a faster way for values where that is safe, and sorted JSON.

Law: canonical bytes are always the same as those of the `rfc8785` library. A value that is not JSON raises
InvalidCaveat.
"""

from typing import cast

import msgspec

from capx_caveats import JSON, SAFE_INTEGER, demand_json
from capx_caveats.levels import MANY, MAX_DEPTH, Level, levels

_CONTAINERS = frozenset({dict, list, tuple})
_encoded = msgspec.json.Encoder(order="sorted").encode


def canonical(value: JSON) -> bytes:
    """Return the canonical bytes of a value; InvalidCaveat if it is not JSON."""
    if _plain(value, MAX_DEPTH):
        return _encoded(value)
    # The check comes first, so that a caller sees InvalidCaveat and never an error of the library.
    demand_json(value)
    import rfc8785

    return rfc8785.dumps(value)


def sorted_json(value: JSON) -> bytes:
    """Return JSON in which the members of each object are sorted by name, for bytes that nobody else computes.

    It is not canonical: that takes twenty times as long for a large value. 1 and 1.0 are different. Raises TypeError,
    ValueError, OverflowError or RecursionError for a value that cannot be written.
    """
    return _encoded(value)


def _plain(value: object, depth: int) -> bool:
    """Whether msgspec's sorted encoder gives the canonical bytes of this value.

    It does for printable ASCII, integers that a double holds exactly, true, false, null, and arrays and objects of
    these.
    """
    # No floats: the two libraries write some of them differently. No other text: they differ in escapes and in order.
    kind = type(value)
    if kind is str:
        return _is_plain_text(value)
    if kind is int:
        return -SAFE_INTEGER <= cast("int", value) <= SAFE_INTEGER
    if kind in _CONTAINERS and depth and len(cast("list[object]", value)) > MANY:
        found = levels(value, depth)
        return found is not None and all(map(_are_plain, found))
    if kind is dict and depth:
        for name, element in cast("dict[object, object]", value).items():
            if type(name) is not str or not _is_plain_text(name) or not _plain(element, depth - 1):
                return False
        return True
    if (kind is list or kind is tuple) and depth:
        return all(_plain(element, depth - 1) for element in cast("list[object]", value))
    return value is None or kind is bool


def _are_plain(level: Level) -> bool:
    return float not in level.values and _is_plain_text(level.texts) and level.has_safe_numbers


def _is_plain_text(text: object) -> bool:
    text = cast("str", text)
    return text.isascii() and text.isprintable()
