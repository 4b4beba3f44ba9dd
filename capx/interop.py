"""The way in and out of other macaroon libraries, through pymacaroons: the same bytes under another roof.

Laws: what comes in is a capability as strictly as if it had been read as text, and what goes out has the same MAC.
Only a version 2 macaroon over an identifier of ours is a capability. Where a third-party caveat is discharged is
covered by no MAC and not kept.
"""

from typing import TYPE_CHECKING

from capx import wire
from capx.capability import Capability, Token
from capx.chain import ThirdParty
from capx.errors import MalformedToken

if TYPE_CHECKING:
    from pymacaroons import Macaroon


def to_macaroon(token: Token) -> "Macaroon":
    """The token as a macaroon of version 2."""
    from pymacaroons import Macaroon

    try:
        return Macaroon.deserialize(token.text.removeprefix(wire.PREFIX))
    except Exception as error:  # noqa: BLE001 - it raises some ten kinds
        raise MalformedToken(f"pymacaroons cannot read this token: {type(error).__name__}") from None


def from_macaroon(macaroon: "Macaroon") -> Capability:
    """The capability that a macaroon spells; MalformedToken for any other macaroon."""
    try:
        return Capability.parse(_text(macaroon))
    except MalformedToken:
        raise
    except Exception as error:  # noqa: BLE001 - a macaroon checks nothing when it is built, and fails when it is asked
        raise MalformedToken(f"this macaroon holds what none may: {type(error).__name__}") from None


def _text(macaroon: "Macaroon") -> str:
    from pymacaroons import MACAROON_V2

    if macaroon.version != MACAROON_V2:
        raise MalformedToken("this macaroon is not of version 2", "unknown_version")
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
