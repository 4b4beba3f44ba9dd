"""pymacaroons and capx read one token alike; what either writes comes back, or is malformed.

An input is as for `wire`.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from pymacaroons import Macaroon

from capx.errors import MalformedToken
from capx.tokens import wire
from capx.tokens.capability import Capability
from capx.tokens.chain import ThirdParty
from capx.tokens.interop import from_macaroon, to_macaroon
from tests.fuzz import wire_target


def seeds() -> Iterable[bytes]:
    return wire_target.seeds()


def check(data: bytes) -> None:
    text = wire_target.spelled(data)
    capability: Capability | None = None
    with suppress(MalformedToken):
        capability = Capability.parse(text)
    if capability is not None:
        going(capability)
    if text.startswith(wire.PREFIX):
        coming(text.removeprefix(wire.PREFIX), capability)


def going(capability: Capability) -> None:
    """What we write is read as it is, and comes back."""
    try:
        macaroon = to_macaroon(capability)
    except MalformedToken:  # what is not text is no caveat there
        assert any(not_text(block) for block in capability.blocks), "a token that should pass does not"
        return
    frame = wire.decode(capability.text)
    assert macaroon.location == frame.identifier.audience
    assert macaroon.identifier_bytes == frame.identifier_bytes
    assert macaroon.signature == frame.signature.hex()
    for block, caveat in zip(frame.blocks, macaroon.caveats, strict=True):
        cid, vid = (block.cid, block.vid) if isinstance(block, ThirdParty) else (block, None)
        assert (caveat.caveat_id_bytes, caveat.verification_key_id) == (cid, vid), "a block that was misread"
    assert from_macaroon(macaroon).text == capability.text, "a token that does not come back"


def coming(serialized: str, known: Capability | None) -> None:
    """What pymacaroons reads is a capability in its one spelling, or malformed."""
    macaroon: Any
    try:
        macaroon = Macaroon.deserialize(serialized)
    except Exception:  # noqa: BLE001 # some ten kinds
        return
    try:
        capability = from_macaroon(macaroon)
    except MalformedToken:
        assert known is None or any(map(not_text, known.blocks)), "a capability that does not come in"
        return
    assert Capability.parse(capability.text).text == capability.text
    assert macaroon.location == capability.audience, "a location was exchanged"
    assert known is None or known.text == capability.text, "one macaroon comes in as another"


def not_text(block: bytes | ThirdParty) -> bool:
    """Whether pymacaroons cannot hold a block: it wants text, and drops what is empty."""
    for content in (block.cid, block.vid) if isinstance(block, ThirdParty) else (block,):
        try:
            if not content.decode():
                return True
        except UnicodeDecodeError:
            return True
    return False
