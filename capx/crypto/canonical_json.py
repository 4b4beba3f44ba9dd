"""Canonical JSON (RFC 8785), quickly where that is safe.

Law: the bytes are always those of the `rfc8785` library; what is no JSON value here raises InvalidCaveat.
"""

from typing import cast

import msgspec

from capx_caveats import JSON, SAFE_INTEGER, demand_json

_DEPTH = 64
_sorted = msgspec.json.Encoder(order="sorted")


def canonical(value: JSON) -> bytes:
    """The canonical bytes of a value."""
    if _plain(value, _DEPTH):
        return _sorted.encode(value)
    demand_json(value)
    import rfc8785

    return rfc8785.dumps(value)


def _plain(value: object, depth: int) -> bool:
    """Whether it is JSON for which msgspec's sorted encoder is known to give the same bytes.

    That is printable ASCII, integers that a double holds, true, false, null, and what is made of them.
    """
    kind = type(value)
    if kind is str:
        return _is_plain_text(value)
    if kind is int:
        return -SAFE_INTEGER <= cast("int", value) <= SAFE_INTEGER
    if kind is dict and depth:
        for name, element in cast("dict[object, object]", value).items():
            if type(name) is not str or not _is_plain_text(name) or not _plain(element, depth - 1):
                return False
        return True
    if (kind is list or kind is tuple) and depth:
        return all(_plain(element, depth - 1) for element in cast("list[object]", value))
    return value is None or kind is bool


def _is_plain_text(text: object) -> bool:
    text = cast("str", text)
    return text.isascii() and text.isprintable()
