"""The chain of a token: its MACs, the digests that name its blocks, and the nodes that its hops make.

Source: macaroons (Birgisson et al., NDSS 2014), with the key generator of libmacaroons.
"""

from collections.abc import Iterable
from hashlib import sha256

from msgspec import Struct

from capx.crypto.hashing import digest, equal, mac, sized
from capx.crypto.keys import AudienceKey


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


def tail_of(key: AudienceKey, identifier: bytes, blocks: Iterable[Block]) -> bytes:
    """The tail of a chain under this key, which is its signature if these are all of its blocks: 32 bytes."""
    tail = mac(key.mac_key, identifier)
    for block in blocks:
        tail = extend(tail, block)
    return tail


def verify_mac(tail: bytes, last: Block, signature: bytes) -> bool:
    """Whether a chain with this tail before its last block has this signature, compared in constant time."""
    return equal(extend(tail, last), signature)


# What begins the message of the two digests that each hop costs: the label, and the length of the parent that follows.
_BLOCK = sized(b"capx/1/block") + (32).to_bytes(4)
_NODE = sized(b"capx/1/node") + (16).to_bytes(4)


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
