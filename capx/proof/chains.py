"""The chains of tokens in a proof: what their public bytes say, and which of their signatures are good.

Law: that the MACs of a chain were good, and so that nothing was cut off behind its last signed hop, is the word of
whoever decided. Signatures say who; only MACs say all of it.
"""

from functools import cached_property

from msgspec import Struct

from capx.crypto.base64url import b64u
from capx.crypto.ed25519 import public_text
from capx.errors import MalformedToken
from capx.tokens import wire
from capx.tokens.chain import Block, block_digest, digests
from capx.tokens.chain_text import BlockText, ChainText, read_block
from capx.tokens.effective.effective import effective_of
from capx.tokens.lineage import Lineage, TokenRefused, caveats_of, read_lineage
from capx.tokens.signed_blocks import Signature, refusal_of, signed_presentation
from capx_caveats import DEFAULT, Allow, Presented


class BadChain(ValueError):
    """These are not the public bytes of a chain that capx could have verified; says why."""


class ProvenChain(Struct, frozen=True, dict=True):
    """One chain: d[0] and d of each block, what it says, and why it is not signed as it must be, if it is not.

    `keys` are the public keys of its holders, from first to last; empty if it is a bearer's.
    """

    identifier: wire.Identifier
    blocks: tuple[Block, ...]
    digests: tuple[bytes, ...]
    lineage: Lineage
    unsigned: tuple[str, ...]

    @classmethod
    def read(cls, text: ChainText) -> "ProvenChain":
        """Read a chain; BadChain if it is none."""
        try:
            identifier, blocks = text.read()
            frame = wire.Frame(wire.Identifier.decode(identifier), identifier, blocks, bytes(32), b"")
            lineage = read_lineage(frame, blocks, DEFAULT, frozenset())
        except MalformedToken as error:
            raise BadChain(str(error)) from None
        except TokenRefused as refused:
            raise BadChain(refused.refusal.sentence) from None
        checks = () if lineage.signed is None else lineage.signed.checks
        unsigned = tuple([refusal.sentence for refusal in map(refusal_of, checks) if refusal is not None])
        return cls(frame.identifier, blocks, digests(identifier, blocks), lineage, unsigned)

    @property
    def digest(self) -> bytes:
        """D of the last block."""
        return self.digests[-1]

    @property
    def is_keyed(self) -> bool:
        """Whether the authority bound it to a key."""
        return bool(self.lineage.keys)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The public keys of its holders as people write them."""
        return tuple(map(public_text, self.lineage.keys))

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The ids of its blocks."""
        return tuple([b64u(each[:16]) for each in self.digests])

    @cached_property
    def path(self) -> tuple[str, ...]:
        """The nodes from the root to the agent that held it."""
        return tuple(map(b64u, self.lineage.path))

    @cached_property
    def may(self) -> tuple[str, ...]:
        """What it allows, in words, from when it was issued: each allowed action, then further conditions."""
        blocks = tuple([caveats_of(block, DEFAULT) for block in self.blocks])
        left = effective_of(self.lineage, self.identifier.audience, blocks, self.lineage.issued)
        allowed = left.why_nothing or left.sentences()
        return (*[f"{self.identifier.audience}: {one}" for one in allowed], *[f"only where {one}" for one in left.also])

    def permits(self, action: str) -> bool:
        """Whether every allowlist in it has an entry for the action, whatever its arguments are."""
        return all(one.permits(action) for one in self.lineage.caveats if isinstance(one, Allow))


class ProvenPresentation(Struct, frozen=True):
    """The presentation of one call: its id, the digest of the request, and whether the holder's key signed it."""

    id: str
    profile: str
    request: str
    is_signed: bool

    @classmethod
    def read(cls, chain: ProvenChain, text: BlockText) -> "ProvenPresentation":
        """Read the presentation of a token with this chain; BadChain if it is none."""
        try:
            block = read_block(text)
            caveats = caveats_of(block, DEFAULT)
        except (MalformedToken, TokenRefused):
            raise BadChain("its presentation cannot be read") from None
        if not caveats or not isinstance(mark := caveats[0], Presented):
            raise BadChain("its presentation is none")
        digest = block_digest(chain.digest, block)
        own = signed_presentation(chain.lineage.signed, block, caveats, chain.lineage.owner, (chain.digest, digest))
        is_signed = isinstance(own, Signature) and refusal_of(own) is None
        return cls(b64u(digest[:16]), mark.profile, mark.digest, is_signed)
