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
    if isinstance(block, bytes):
        return mac(tail, block)
    return mac(tail, mac(tail, block.vid) + mac(tail, block.cid))


def _sized(part: bytes) -> bytes:
    return len(part).to_bytes(4) + part


def digest(label: bytes, *parts: bytes) -> bytes:
    """SHA-256 over the label and the parts, each preceded by its length as four bytes, big-endian."""
    return sha256(b"".join(map(_sized, (label, *parts)))).digest()


# What begins the message of the two digests that each hop costs: the label, and the length of the parent that follows.
_BLOCK = _sized(b"capx/1/block") + (32).to_bytes(4)
_NODE = _sized(b"capx/1/node") + (16).to_bytes(4)


def digests(identifier: bytes, blocks: Iterable[Block]) -> tuple[bytes, ...]:
    """d[0], which names what was minted, and d[i] of each block."""
    parent = digest(b"capx/1/token", identifier)
    found = [parent]
    for block in blocks:
        parent = block_digest(parent, block)
        found.append(parent)
    return tuple(found)


def block_digest(parent: bytes, block: Block) -> bytes:
    """d[i] of a block that stands after the one of d[i-1]."""
    if isinstance(block, bytes):
        return sha256(_BLOCK + parent + len(block).to_bytes(4) + block).digest()
    return digest(b"capx/1/third", parent, block.vid, block.cid)


def root_node(root: str) -> bytes:
    """node[0] of a revocation root: 16 bytes."""
    return digest(b"capx/1/root", root.encode())[:16]


def nodes(root: str, nonces: Iterable[str]) -> tuple[bytes, ...]:
    """The nodes from a root's along the hops of these nonces: 16 bytes each."""
    node = root_node(root)
    found = [node]
    for nonce in nonces:
        node = node_below(node, nonce)
        found.append(node)
    return tuple(found)


def node_below(node: bytes, nonce: str) -> bytes:
    """The node that a hop of this nonce makes below a node: 16 bytes."""
    return sha256(_NODE + node + len(nonce).to_bytes(4) + nonce.encode()).digest()[:16]


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
    if "+" in text or "/" in text or "=" in text:
        raise _no_base64url()
    try:
        raw = text.encode("ascii").replace(b"-", b"+").replace(b"_", b"/")
        alone = len(raw) % 4 == 1
        if alone:
            raw += b"A"  # one character makes no byte, and must be of the alphabet all the same
        data = a2b_base64(raw + b"=" * (-len(raw) % 4), strict_mode=True)
    except (Error, UnicodeEncodeError):
        raise _no_base64url() from None
    return data[:-1] if alone else data


def _no_base64url() -> MalformedToken:
    return MalformedToken("this is not base64url without padding")


def demand_canonical(data: bytes, text: str) -> None:
    """Raise MalformedToken unless the text is the one spelling of the bytes that `whole_bytes` found in it.

    Whole groups have but one spelling: only what stands after the last of them is looked at.
    """
    groups = len(data) // 3
    if b64u(data[groups * 3 :]) != text[groups * 4 :]:
        raise MalformedToken("the base64url text does not end as the one spelling of its bytes does")
