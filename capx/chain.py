"""MACs and digests, nothing else.

Sources: macaroons (Birgisson et al., NDSS 2014) with libmacaroons' key generator; HMAC, RFC 2104; SHA-256,
FIPS 180-4; base64url, RFC 4648 section 5.
Law: a digest here is over parts whose lengths it covers, under a label that says what it is of.
"""

import hmac
from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Iterable
from hashlib import sha256

from msgspec import Struct

from capx.errors import MalformedToken

_GENERATOR = b"macaroons-key-generator"
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/", b"+/  ")

equal = hmac.compare_digest
"""Constant-time comparison."""


def mac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256: 32 bytes."""
    return hmac.digest(key, message, "sha256")


def macaroon_key(audience_key: bytes) -> bytes:
    """The key of the chain, as libmacaroons derives it: 32 bytes."""
    return mac(_GENERATOR, audience_key)


class ThirdParty(Struct, frozen=True):
    """A caveat that somebody else must discharge: sealed key (vid) and what to discharge (cid)."""

    vid: bytes
    cid: bytes


Block = bytes | ThirdParty
"""One element of a chain: a first-party block's bytes, or a third-party caveat."""


def extend(tail: bytes, block: Block) -> bytes:
    """The tail after one more block."""
    if isinstance(block, ThirdParty):
        return mac(tail, mac(tail, block.vid) + mac(tail, block.cid))
    return mac(tail, block)


def digest(label: bytes, *parts: bytes) -> bytes:
    """SHA-256 over the label and the parts, each preceded by its length as four bytes, big-endian."""
    message = len(label).to_bytes(4, "big") + label
    for part in parts:
        message += len(part).to_bytes(4, "big") + part
    return sha256(message).digest()


def digests(identifier: bytes, blocks: Iterable[Block]) -> tuple[bytes, ...]:
    """d[0], which names what was minted, and d[i] of each block."""
    found = [digest(b"capx/1/token", identifier)]
    for block in blocks:
        found.append(block_digest(found[-1], block))
    return tuple(found)


def block_digest(parent: bytes, block: Block) -> bytes:
    """d[i] of a block that stands after the one of d[i-1]."""
    if isinstance(block, ThirdParty):
        return digest(b"capx/1/third", parent, block.vid, block.cid)
    return digest(b"capx/1/block", parent, block)


def root_node(root: str) -> bytes:
    """node[0] of a revocation root: 16 bytes."""
    return digest(b"capx/1/root", root.encode())[:16]


def nodes(root: str, nonces: Iterable[str]) -> tuple[bytes, ...]:
    """The nodes from a root's along the hops of these nonces: 16 bytes each."""
    found = [root_node(root)]
    for nonce in nonces:
        found.append(digest(b"capx/1/node", found[-1], nonce.encode())[:16])
    return tuple(found)


def b64u(data: bytes) -> str:
    """base64url without padding."""
    return b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_URL).decode()


def unb64u(text: str) -> bytes:
    """The bytes of canonical base64url without padding; MalformedToken for any other text."""
    data = whole_bytes(text)
    demand_canonical(data, text)
    return data


def whole_bytes(text: str) -> bytes:
    """The whole bytes that a text of the base64url alphabet holds; what is left over is for `demand_canonical`."""
    try:
        raw = text.encode("ascii").translate(_FROM_URL)
        whole = raw[: len(raw) - (len(raw) % 4 == 1)]
        data = a2b_base64(whole + b"=" * (-len(whole) % 4), strict_mode=True)
    except (Error, UnicodeEncodeError):
        raise MalformedToken("this is not base64url without padding") from None
    return data


def demand_canonical(data: bytes, text: str) -> None:
    """Raise MalformedToken unless the text is the one spelling of these bytes."""
    if b64u(data) != text:
        raise MalformedToken("the base64url text does not end as the one spelling of its bytes does")
