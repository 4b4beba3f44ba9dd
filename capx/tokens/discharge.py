"""A discharge: the macaroon that answers one demand for an approval, its text, and its chain.

    text     "capxd1_" base64url-without-padding(bytes)
    bytes    02 · 01 08 "approval" · 02 length cid · 00 · block+ · 00 · 06 20 signature
    block    02 length bytes · 00                       1 to 32 of them, never a third-party caveat

    t[0]     HMAC(HMAC("macaroons-key-generator", K), cid)               t[j]  = HMAC(t[j-1], block j)
    dd[0]    H("capx/1/discharge", cid)                                  dd[j] = H("capx/1/block", dd[j-1], block j)
    bound    HMAC(0^32, HMAC(0^32, signature of the token) || HMAC(0^32, last t))

Laws:

- A discharge is no token, and a token is no discharge: no decoder takes one for the other.
- It has one text, as a token has, and the same limits.
- Its holder can narrow it offline, and never widen it. What goes to a resource is bound to one presentation: to another
  it is of no use.
- It has no third-party caveat, so judging it never leads to another discharge.

Source: libmacaroons, `macaroon_prepare_for_request`.
"""

import re
from collections.abc import Iterable
from functools import cached_property
from itertools import accumulate
from typing import Final, NoReturn

from capx.crypto.base64url import b64u, demand_canonical, whole_bytes
from capx.crypto.hashing import digest, equal, mac, zero_mac
from capx.crypto.instants import now_or
from capx.errors import InvalidRequest, MalformedToken
from capx.tokens import wire
from capx.tokens.chain import block_digest, extend
from capx_caveats import (
    DEFAULT,
    Appendable,
    Caveat,
    ChainCaveat,
    InvalidCaveat,
    NotUnderstood,
    TooLarge,
    encode_block,
    misplaced,
    resolved,
)

PREFIX: Final = "capxd1_"
LOCATION: Final = b"approval"
MAX_BLOCKS: Final = 32
"""Blocks of a discharge."""
MAX_DISCHARGES: Final = 8
"""Discharges that go with one presentation."""
_HEAD: Final = b"\x02\x01\x08" + LOCATION
_OTHER_VERSION: Final = re.compile(r"capxd[0-9]+_")


class Discharge:
    """One discharge, as whoever holds it reads it; nothing in it is verified.

    `text` is what to pass on: without the token, it is of no use. `cid` names the demand that it answers.
    """

    text: str
    cid: bytes
    blocks: tuple[bytes, ...]
    signature: bytes
    body: bytes
    """The bytes before the signature."""

    def __init__(self, text: str, cid: bytes, blocks: tuple[bytes, ...], signature: bytes, body: bytes) -> None:
        # This bypasses __setattr__, which forbids changes: several holders may share one discharge.
        self.__dict__.update(text=text, cid=cid, blocks=blocks, signature=signature, body=body)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a discharge is immutable: {name} cannot be set")

    @classmethod
    def parse(cls, text: str) -> "Discharge":
        """The discharge in a text, not verified; MalformedToken for any other text."""
        if text != text.strip():
            raise MalformedToken("there is white space around the text of the approval: strip it, such as a line end")
        if len(text) > wire.MAX_TEXT:
            raise wire.too_large(f"more than {wire.MAX_TEXT} characters")
        if not text.startswith(PREFIX):
            if _OTHER_VERSION.match(text):
                raise MalformedToken(f"this discharge has another format version than {PREFIX}", "unknown_version")
            raise MalformedToken(f"a discharge begins with {PREFIX}")
        encoded = text[len(PREFIX) :]
        data = whole_bytes(encoded)
        try:
            cid, blocks, signature = _read(data)
        except IndexError:
            raise wire.cut_short(data) from None
        demand_canonical(data, encoded)
        return cls(text, cid, blocks, signature, data[: -wire.SIGNATURE])

    @property
    def digests(self) -> tuple[bytes, ...]:
        """dd[0], which names the demand, and dd[j] of each block: 32 bytes each."""
        return discharge_digests(self.cid, self.blocks)

    @property
    def ids(self) -> tuple[bytes, ...]:
        """The ids of the demand and of each block: 16 bytes each. Revoking the second one takes the approval back."""
        return tuple(each[:16] for each in self.digests)

    @property
    def id(self) -> bytes:
        """The id of the approval, which stays the same whoever signs it and however it is narrowed: 16 bytes."""
        return self.ids[1]

    @cached_property
    def caveats(self) -> tuple[tuple[Caveat, ...], ...]:
        """The caveats of each block, as the built-in vocabulary reads them; not verified."""
        return tuple(map(block_caveats, self.blocks))

    def attenuate(self, *caveats: Appendable, now: int | None = None) -> "Discharge":
        """The same discharge, narrowed by one more block; durations count from `now` (Unix seconds).

        Raises InvalidCaveat for a mark and for a budget with a counter, MalformedToken (too_large) without room.
        """
        found = resolved(caveats, now_or(now))
        for caveat in found:
            if not can_narrow(caveat):
                raise InvalidCaveat(
                    f"a discharge cannot be narrowed by `{caveat.sentence()}`: give caveats that restrict"
                )
        return self.extended(encode_block(found))

    def extended(self, block: bytes) -> "Discharge":
        """The same discharge with one more block."""
        return written(self.cid, (*self.blocks, block), mac(self.signature, block))

    def bound_to(self, signature: bytes) -> str:
        """The text that goes with the token of this signature, to be sent once."""
        return PREFIX + b64u(self.body + bound_signature(signature, self.signature))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Discharge) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Discharge(id={b64u(self.id)!r})"

    def __reduce__(self) -> NoReturn:
        raise InvalidRequest("a discharge cannot be pickled: pass its `text` to whoever needs it")


def can_narrow(caveat: Caveat) -> bool:
    """Whether a caveat may stand in a discharge beside its statement: no mark does, and no budget with a counter."""
    return not isinstance(caveat, ChainCaveat) and misplaced((caveat,), authority=False) is None


def tail_of(key: bytes, cid: bytes, blocks: Iterable[bytes] = ()) -> bytes:
    """The last t of a discharge, which is its signature before it is bound; t[0] if it has no blocks: 32 bytes.

    `key` is that of the demand's MACs, HMAC("macaroons-key-generator", K).
    """
    tail = mac(key, cid)
    for block in blocks:
        tail = extend(tail, block)
    return tail


def bound_signature(token: bytes, discharge: bytes) -> bytes:
    """The signature (32 bytes) of a discharge that is bound to the token of a signature."""
    return bound(token, zero_mac(discharge))


def bound(token: bytes, hidden: bytes) -> bytes:
    """The same, of the `zero_mac` of the discharge's signature, which a verifier can keep."""
    return zero_mac(zero_mac(token) + hidden)


def is_made_with(key: bytes, discharge: Discharge) -> bool:
    """Whether a discharge that is not bound was made with the key of the demand's MACs."""
    return equal(tail_of(key, discharge.cid, discharge.blocks), discharge.signature)


def discharge_digests(cid: bytes, blocks: Iterable[bytes]) -> tuple[bytes, ...]:
    """dd[0] and dd[j] of each block: 32 bytes each."""
    return tuple(accumulate(blocks, block_digest, initial=digest(b"capx/1/discharge", cid)))


def written(cid: bytes, blocks: tuple[bytes, ...], signature: bytes) -> Discharge:
    """The discharge of these parts; MalformedToken (too_large) beyond the limits."""
    if len(blocks) > MAX_BLOCKS:
        raise wire.too_large(f"more than {MAX_BLOCKS} blocks")
    out = bytearray(_HEAD)
    wire.put_field(out, wire.CID, wire.bounded(cid))
    out.append(wire.END)
    for block in blocks:
        wire.put_field(out, wire.CID, wire.bounded(block))
        out.append(wire.END)
    out.append(wire.END)
    wire.put_field(out, wire.MAC, signature)
    data = bytes(out)
    text = PREFIX + b64u(data)
    if len(text) > wire.MAX_TEXT:
        raise wire.too_large(f"more than {wire.MAX_TEXT} characters")
    return Discharge(text, cid, blocks, signature, data[: -wire.SIGNATURE])


def _read(data: bytes) -> tuple[bytes, tuple[bytes, ...], bytes]:
    """The parts of these bytes; IndexError if they are cut short."""
    if data[0] != 2:
        raise MalformedToken("these bytes are not in the version 2 format", "unknown_version")
    location, at = wire.read_field(data, 1, wire.LOCATION, len(LOCATION))
    if location != LOCATION:
        raise MalformedToken("the location is not that of an approval")
    cid, at = wire.read_field(data, at, wire.CID, wire.MAX_BLOCK)
    if data[at] != wire.END:
        raise wire.no_end(at)
    at += 1
    blocks: list[bytes] = []
    while data[at] != wire.END:
        if len(blocks) == MAX_BLOCKS:
            raise wire.too_large(f"more than {MAX_BLOCKS} blocks")
        block, at = wire.read_field(data, at, wire.CID, wire.MAX_BLOCK)
        # A third-party caveat has a vid here.
        if data[at] != wire.END:
            raise wire.no_end(at)
        blocks.append(block)
        at += 1
    if not blocks:
        raise MalformedToken("a discharge has one block at least")
    signature, at = wire.read_field(data, at + 1, wire.MAC, wire.MAX_IDENTIFIER)
    if len(signature) != wire.SIGNATURE:
        raise MalformedToken(f"the signature has {len(signature)} bytes, not {wire.SIGNATURE}")
    if at != len(data):
        raise MalformedToken(f"{len(data) - at} bytes follow the end of the discharge")
    return cid, tuple(blocks), signature


def block_caveats(block: bytes) -> tuple[Caveat, ...]:
    """The caveats of a block of a token or a discharge, as the built-in vocabulary reads them; not verified."""
    try:
        return DEFAULT.decode(block)
    except TooLarge as error:
        return (NotUnderstood(f"a block of {len(block)} bytes", str(error)),)
