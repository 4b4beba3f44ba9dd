"""Canonical JSON (RFC 8785), quickly where that is safe.

Law: the bytes are always those of the `rfc8785` library; what is no JSON value here raises InvalidCaveat.
"""

import msgspec

from capx_caveats import JSON, demand_json

_sorted = msgspec.json.Encoder(order="sorted")


def canonical(value: JSON) -> bytes:
    """The canonical bytes of a value."""
    demand_json(value)
    if _plain(value):
        return _sorted.encode(value)
    import rfc8785

    return rfc8785.dumps(value)


def _plain(value: JSON) -> bool:
    """Whether msgspec's sorted encoder is known to give the same bytes: printable ASCII, and no fractions."""
    if isinstance(value, str):
        return value.isascii() and value.isprintable()
    if isinstance(value, dict):
        return all(_plain(name) and _plain(element) for name, element in value.items())
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return not isinstance(value, float)
