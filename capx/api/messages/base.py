"""Writes and reads the JSON messages between `capx serve` and its clients.

    agents, resources, outcomes    the messages of each face; those of operators are in capx.authority.remote.messages

Laws: requests are read strictly. An unknown field, a missing field, a wrong type or a repeated name is refused. Bytes
are base64url without padding, a bundle is its text, an amount is decimal text. The facts of an event are exactly the
JSON that its hash covers.
"""

from types import MappingProxyType
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from capx.crypto import strict_json
from capx.errors import InvalidRequest
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.tokens.discharge import Discharge
from capx_caveats import SAFE_INTEGER

T = TypeVar("T")

# The last condition refuses a line break at the end, because `$` accepts one.
Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)")]
Count = Annotated[int, Meta(ge=0, le=SAFE_INTEGER)]
Label = Annotated[str, Meta(min_length=1, max_length=128)]
Text = Annotated[str, Meta(max_length=128)]


class RequestBody(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A request of a client."""


class Problem(Struct, frozen=True, omit_defaults=True):
    """Problem details (RFC 9457); `position` and `why` say where a log is broken."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    position: int | None = None
    why: str | None = None


def encode(value: object) -> bytes:
    """A message, or a part of one, as JSON."""
    return msgspec.json.encode(value, enc_hook=_encoded)


def decode_body(data: bytes, kind: type[T]) -> T:
    """A message as `decode` reads it. InvalidRequest also if a name is repeated within one object."""
    return strict_json.read(data, kind, _decoded)


def decode(data: bytes, kind: type[T]) -> T:
    """A message of this type; InvalidRequest says what is wrong with other bytes."""
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=_decoded)
    except strict_json.UNREADABLE as error:
        raise InvalidRequest(f"this is not the JSON that belongs here: {error}") from None


def _encoded(value: object) -> object:
    if isinstance(value, Bundle | Capability | Discharge):
        return value.text
    if isinstance(value, MappingProxyType):
        return dict(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    raise TypeError(f"a {type(value).__name__} does not go over the wire")


def _decoded(kind: type, value: object) -> object:
    for one in (Bundle, Capability, Discharge):
        if kind is one and isinstance(value, str):
            return one.parse(value)
    raise TypeError(f"a {kind.__name__} does not come over the wire")
