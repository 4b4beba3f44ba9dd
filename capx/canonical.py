"""Canonical JSON (RFC 8785), quickly where that is safe.

Law: the bytes are always those of the `rfc8785` library; what is no JSON value here raises InvalidCaveat.
"""

from typing import Any

import msgspec

from capx_caveats import JSON, demand_json

_sorted = msgspec.json.Encoder(order="sorted")


def canonical(value: JSON) -> bytes:
    """The canonical bytes of a value."""
    demand_json(value)
    if _plain(value):
        return _sorted.encode(value)
    import rfc8785

    return rfc8785.dumps(value)  # type: ignore[arg-type] # a JSON value, by demand_json


def _plain(value: Any) -> bool:
    """Whether msgspec's sorted encoder is known to give the same bytes: printable ASCII, and no fractions."""
    kind = type(value)
    if kind is str:
        plain: bool = value.isascii() and value.isprintable()
        return plain
    if kind is dict:
        return all(_plain(name) and _plain(element) for name, element in value.items())
    if kind is list or kind is tuple:
        return all(map(_plain, value))
    return kind is not float
