"""Conversion to and from the formats of other macaroon libraries, with pymacaroons. The MAC stays the same.

    v1        base64 of libmacaroons' packets
    v2        base64 of the version 2 bytes: a token without its prefix
    v2json    version 2 as JSON
              version 1 as JSON is read, and not written

Laws:

- Import is as strict as `Capability.parse`. A capability that was exported is imported byte for byte.
- Input that two readers could read as two different macaroons is refused.
- There is no key here, so nothing is verified.
- The location of a third-party caveat is dropped: no MAC covers it.
- A verifier accepts none of these formats.
"""

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

from msgspec import Meta, Struct, ValidationError, convert, field

from capx.crypto.base64url import unb64u
from capx.errors import InvalidRequest, MalformedToken
from capx.tokens import wire
from capx.tokens.capability import Capability, Token
from capx.tokens.chain import ThirdParty

if TYPE_CHECKING:
    from pymacaroons import Macaroon

Format = Literal["v1", "v2", "v2json"]
"""The formats in which other libraries read macaroons."""

MAX_SPELLED: Final = 64 * 1024
"""Most characters of a macaroon to import: pymacaroons takes quadratic time."""

_BASE64: Final = r"([A-Za-z0-9_-]*|[A-Za-z0-9+/]*)={0,2}"
_TO_URL = str.maketrans("+/", "-_", "=")


def to_macaroon(token: Token) -> "Macaroon":
    """The token as a macaroon of version 2."""
    from pymacaroons import Macaroon

    try:
        return Macaroon.deserialize(token.text.removeprefix(wire.PREFIX))
    except Exception as error:  # noqa: BLE001 - it raises some ten kinds
        raise MalformedToken(f"pymacaroons cannot read this token: {type(error).__name__}") from None


def from_macaroon(macaroon: "Macaroon") -> Capability:
    """The capability in a macaroon of either version, not verified; MalformedToken for any other macaroon."""
    try:
        return Capability.parse(_text(macaroon))
    except MalformedToken:
        raise
    except Exception as error:  # noqa: BLE001 - a macaroon checks nothing when it is built, and fails when it is asked
        raise MalformedToken(f"this macaroon has an invalid field: {type(error).__name__}") from None


def to_text(token: Token, format: Format) -> str:
    """The token in a format of other libraries, in ASCII: as secret as the token itself.

    InvalidRequest if the format cannot hold the token: version 1 needs the location of each third-party caveat, which a
    token does not keep, and JSON has no empty block.
    """
    if format not in get_args(Format):
        raise InvalidRequest(f"{format!r:.80} is not a format: use {', '.join(get_args(Format))}")
    if format == "v2":
        return token.text.removeprefix(wire.PREFIX)
    spelled = _version_1(token) if format == "v1" else _json(token)
    # pymacaroons silently leaves out what the format cannot hold, so read back what it wrote.
    if not _spells(spelled, token):
        raise InvalidRequest(f"{format} cannot hold this token: use v2")
    return spelled


def from_text(text: str) -> Capability:
    """The capability in a text, not verified: a macaroon in any format, or a capx token. Else MalformedToken."""
    return Capability.parse(_read(text.strip()))


def _read(spelled: str) -> str:
    if spelled.startswith(wire.PREFIX):
        return spelled
    if len(spelled) > MAX_SPELLED:
        raise MalformedToken(f"this macaroon is too large: more than {MAX_SPELLED} characters", "too_large")
    try:
        return _from_json(spelled) if spelled.startswith("{") else _from_base64(spelled)
    except MalformedToken:
        raise
    except Exception as error:  # noqa: BLE001 - pymacaroons raises some ten kinds
        raise MalformedToken(f"pymacaroons cannot read this as a macaroon: {type(error).__name__}") from None


def _spells(spelled: str, token: Token) -> bool:
    try:
        return _read(spelled) == token.text
    except MalformedToken:
        return False


def _text(macaroon: "Macaroon") -> str:
    identifier = wire.Identifier.decode(macaroon.identifier_bytes)
    if macaroon.location != identifier.audience:
        raise MalformedToken("the location is not the identifier's audience")
    blocks = tuple(
        ThirdParty(caveat.verification_key_id, caveat.caveat_id_bytes)
        if caveat.verification_key_id is not None
        else caveat.caveat_id_bytes
        for caveat in macaroon.caveats
    )
    return wire.encode(identifier, blocks, bytes.fromhex(macaroon.signature_bytes.decode()))


def _version_1(token: Token) -> str:
    from pymacaroons import MACAROON_V1, Caveat, Macaroon

    macaroon = to_macaroon(token)
    if macaroon.third_party_caveats():
        raise InvalidRequest("v1 cannot hold a third-party caveat without its location: use v2 or v2json")
    return Macaroon(
        location=macaroon.location,
        identifier=macaroon.identifier_bytes,
        caveats=[Caveat(caveat.caveat_id_bytes, version=MACAROON_V1) for caveat in macaroon.caveats],
        signature=macaroon.signature_bytes,
        version=MACAROON_V1,
    ).serialize()


def _json(token: Token) -> str:
    from pymacaroons.serializers import JsonSerializer

    return to_macaroon(token).serialize(JsonSerializer())


def _from_base64(text: str) -> str:
    from pymacaroons.serializers import BinarySerializer

    if not (text and re.fullmatch(_BASE64, text)):
        raise MalformedToken("this is not a macaroon: it is neither base64 nor JSON")
    data = unb64u(text.translate(_TO_URL))
    serializer = BinarySerializer()
    macaroon = serializer.deserialize_raw(data)
    token = _text(macaroon)
    # pymacaroons ignores trailing bytes, repeated and misplaced fields, and other forms of lengths. Another reader may
    # not, so accept only the bytes that pymacaroons itself would write.
    if serializer.serialize_raw(macaroon) != data:
        raise MalformedToken("these bytes are not the canonical form of their macaroon")
    return token


def _from_json(text: str) -> str:
    import json

    from pymacaroons.serializers import JsonSerializer

    # pymacaroons takes the last of two members with one name, prefers `i` to `i64`, and ignores unknown members.
    # Another reader may choose differently, so all three are refused here.
    found = json.loads(text, object_pairs_hook=_distinct)
    try:
        convert(found, _Json1 if "identifier" in found else _Json2)
    except ValidationError as error:
        raise MalformedToken(f"this JSON is not a macaroon: {error!s:.200}") from None
    return _text(JsonSerializer().deserialize(text))


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name.removesuffix("64") for name, _ in pairs}) != len(pairs):
        raise MalformedToken("a member of this JSON occurs twice")
    return dict(pairs)


_Base64 = Annotated[str, Meta(pattern=rf"\A{_BASE64}\Z")]


class _JsonCaveat1(Struct, forbid_unknown_fields=True):
    cid: str
    vid: _Base64 | None = None
    cl: str | None = None


class _Json1(Struct, forbid_unknown_fields=True):
    location: str
    identifier: str
    signature: Annotated[str, Meta(pattern=r"\A[0-9A-Fa-f]{64}\Z")]
    caveats: list[_JsonCaveat1] = []


class _Field2(Struct, forbid_unknown_fields=True):
    """The members that a macaroon and a caveat both have in version 2: text, or base64 of bytes."""

    i: str | None = None
    i64: _Base64 | None = None
    location: str | None = field(name="l", default=None)
    location64: _Base64 | None = field(name="l64", default=None)


class _JsonCaveat2(_Field2, forbid_unknown_fields=True):
    v: str | None = None
    v64: _Base64 | None = None


class _Json2(_Field2, forbid_unknown_fields=True):
    v: Literal[2] = 2
    s: str | None = None
    s64: _Base64 | None = None
    c: list[_JsonCaveat2] = []
