"""Chains that are bound to keys of agents, and every way in which a holder can sign them wrongly."""

from typing import Any

from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u
from capx.crypto.ed25519 import Signer, parse_public
from capx.crypto.hashing import digest
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.tokens.signed_blocks import sign_block
from capx_caveats import Caveat, Holder, Hop, Presented
from tests.labs.lab import NONCES, NOW, appended, minted

PLANNER, SLIDES, READER, THIEF = (
    AgentKey(name, Signer(bytes([number]) * 31 + b"\0"))
    for number, name in enumerate(("planner", "slides", "reader", "thief"), 1)
)


def key_text(key: AgentKey) -> str:
    """The public key as a block names it."""
    return b64u(parse_public(key.public))


def keyed(key: AgentKey = PLANNER, *caveats: Caveat, **parts: Any) -> Capability:
    """A complete capability that is bound to this key, with the key."""
    return minted(Holder(key_text(key)), *caveats, **parts).with_key(key)


def hop(to: AgentKey, nonce: str = NONCES[0]) -> Hop:
    """The mark of a delegation to an agent."""
    return Hop(to.name, nonce, key_text(to))


def mark(received: ToolCall, nonce: str = "A" * 16) -> Presented:
    """The mark of a presentation that is made now."""
    return Presented("tool", received.digest(), NOW, nonce)


def signed(parent: Capability, key: AgentKey, *caveats: Caveat) -> Capability:
    """A token with one more block, signed by any key."""
    return appended(parent, sign_block(caveats, last_digest(parent), key))


def raw_signature(head: bytes, parent: bytes, key: AgentKey) -> str:
    """The signature of a block that begins with these bytes, as a block holds it."""
    return b64u(key.sign(digest(b"capx/1/sig", parent, head)))


def last_digest(token: Capability) -> bytes:
    """d of the last block, worked out anew."""
    found = digest(b"capx/1/token", token._frame.identifier_bytes)
    for block in token.blocks:
        if isinstance(block, bytes):
            found = digest(b"capx/1/block", found, block)
        else:
            found = digest(b"capx/1/third", found, block.vid, block.cid)
    return found
