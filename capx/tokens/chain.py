"""The chain of a token: its MACs, the digests that name its blocks, and the nodes that its hops make.

Law: only `verify_mac` under a key of the audience proves something. Digests and nodes are computed without a key.

Source: macaroons (Birgisson et al., NDSS 2014), with the key generator of libmacaroons.
"""

from collections.abc import Iterable
from functools import reduce
from hashlib import sha256
from itertools import accumulate

from msgspec import Struct

from capx.crypto.hashing import digest, equal, mac, sized
from capx.crypto.keys import AudienceKey


class ThirdParty(Struct, frozen=True):
    """A caveat that a third party must discharge: the sealed key (vid), and the thing to discharge (cid)."""

    vid: bytes
    cid: bytes


Block = bytes | ThirdParty
"""One element of a chain: a first-party block's bytes, or a third-party caveat."""


def extend(tail: bytes, block: Block) -> bytes:
    """The tail (32 bytes) after one more block. A holder can do this without a key, but cannot undo it."""
    if isinstance(block, bytes):
        return mac(tail, block)
    return mac(tail, mac(tail, block.vid) + mac(tail, block.cid))


def tail_of(key: AudienceKey, identifier: bytes, blocks: Iterable[Block]) -> bytes:
    """The tail (32 bytes) of a chain under this key. If these are all of its blocks, the tail is its signature.

    Compare signatures with `verify_mac`, never with `==`.
    """
    return reduce(extend, blocks, mac(key.mac_key, identifier))


def verify_mac(tail: bytes, last: Block, signature: bytes) -> bool:
    """Whether a chain with this tail before its last block has this signature; compared in constant time.

    True proves that the whole chain was made from a token minted under the key of `tail`, only by adding blocks.
    """
    # A compare that stops at the first wrong byte would let an attacker find the signature byte by byte.
    return equal(extend(tail, last), signature)


# The constant beginning of two digests that each hop needs: the label, and the length of the parent that follows. The
# labels keep apart what is hashed for different purposes: the id of a block can never be a node's.
_BLOCK = sized(b"capx/1/block") + (32).to_bytes(4)
_NODE = sized(b"capx/1/node") + (16).to_bytes(4)


def digests(identifier: bytes, blocks: Iterable[Block]) -> tuple[bytes, ...]:
    """d[0], which names the minted token, and d[i] of each block: 32 bytes each."""
    return tuple(accumulate(blocks, block_digest, initial=digest(b"capx/1/token", identifier)))


def block_digest(parent: bytes, block: Block) -> bytes:
    """d[i] of a block, where `parent` is d[i-1]: 32 bytes."""
    if isinstance(block, bytes):
        return sha256(_BLOCK + parent + len(block).to_bytes(4) + block).digest()
    return digest(b"capx/1/third", parent, block.vid, block.cid)


def root_node(root: str) -> bytes:
    """node[0], the node of a revocation root: 16 bytes."""
    return digest(b"capx/1/root", root.encode())[:16]


def nodes(root: str, nonces: Iterable[str]) -> tuple[bytes, ...]:
    """The nodes from the root's along hops with these nonces: 16 bytes each."""
    return tuple(accumulate(nonces, node_below, initial=root_node(root)))


def node_below(node: bytes, nonce: str) -> bytes:
    """The node that a hop with this nonce makes below `node`: 16 bytes."""
    return sha256(_NODE + node + len(nonce).to_bytes(4) + nonce.encode()).digest()[:16]
