"""The chains of tokens and the approvals in a proof: what their public bytes say, and which signatures are good.

Law: that the MACs of a chain were good, and so that nothing was cut off behind its last signed hop, is the word of
whoever decided. Signatures say who; only MACs say all of it.
"""

from collections.abc import Collection, Iterable, Sequence
from functools import cached_property

from msgspec import Struct

from capx.crypto.base64url import b64u
from capx.crypto.ed25519 import public_text
from capx.errors import MalformedToken
from capx.proof.recorded import LoggedDecision
from capx.proof.sources import CheckedSource
from capx.store.events import CapabilityMinted
from capx.tokens import wire
from capx.tokens.approval import Approval, read_approval
from capx.tokens.approval_caveat import read_approval_caveat
from capx.tokens.chain import Block, block_digest, digests
from capx.tokens.chain_text import BlockText, ChainText, read_block
from capx.tokens.lineage import Lineage, TokenRefused, caveats_of, read_lineage
from capx.tokens.signed_blocks import Signature, refusal_of, signed_presentation
from capx.verify.evidence import ApprovalText
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
            return cls.of(*text.read())
        except MalformedToken as error:
            raise BadChain(str(error)) from None

    @classmethod
    def of(cls, identifier: bytes, blocks: tuple[Block, ...]) -> "ProvenChain":
        """The chain with these bytes; BadChain if it is none."""
        try:
            frame = wire.Frame(wire.Identifier.decode(identifier), identifier, blocks, bytes(32), b"")
            lineage = read_lineage(frame, blocks, DEFAULT, frozenset())
        except MalformedToken as error:
            raise BadChain(str(error)) from None
        except TokenRefused as refused:
            raise BadChain(refused.refusal.sentence) from None
        checks = () if lineage.signed is None else lineage.signed.checks
        unsigned = tuple([refusal.sentence for refusal in map(refusal_of, checks) if refusal is not None])
        return cls(frame.identifier, blocks, digests(identifier, blocks), lineage, unsigned)

    def with_other(self, blocks: Iterable[BlockText]) -> "ProvenChain":
        """The chain with these blocks behind its first one; BadChain if it is none."""
        try:
            return self.of(self.identifier.encode(), (self.blocks[0], *map(read_block, blocks)))
        except MalformedToken as error:
            raise BadChain(str(error)) from None

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

    def permits(self, action: str) -> bool:
        """Whether every allowlist in it has an entry for the action, whatever its arguments are."""
        return all(one.permits(action) for one in self.lineage.caveats if isinstance(one, Allow))


class ProvenPresentation(Struct, frozen=True):
    """The presentation of one call: its id, when it was made, the digest of the request, and whether it is signed.

    It is signed if the key of the chain's holder has signed exactly this presentation of exactly this chain.
    """

    id: str
    at: int
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
        return cls(b64u(digest[:16]), mark.at, mark.profile, mark.digest, is_signed)


def approval_of(text: ApprovalText | None) -> Approval | None:
    """The approval with these public bytes; None if they are none."""
    if text is None or text.cid is None:
        return None
    caveat = read_approval_caveat(text.cid)
    try:
        blocks = [block for block in map(read_block, text.blocks) if isinstance(block, bytes)]
    except MalformedToken:
        return None
    found = None if caveat is None or len(blocks) < len(text.blocks) else read_approval(caveat, blocks, DEFAULT)
    return found if found is not None and b64u(found.last) == text.digest else None


class Chains:
    """All chains and approvals in the sources of a proof, by their digests; `faults` says which are none."""

    def __init__(self, sources: Sequence[CheckedSource], decisions: Iterable[LoggedDecision]) -> None:
        self.minted: dict[str, CapabilityMinted] = {}
        self.first_blocks: dict[str, CapabilityMinted] = {}
        """What was minted, by d of its first block."""
        self.approvals: dict[str, Approval] = {}
        self.faults: list[str] = []
        self._chains: dict[str, ProvenChain] = {}
        for source in sources:
            for event in source.events:
                if event.kind == CapabilityMinted.kind and source.is_authority:
                    minted = event.read(CapabilityMinted)
                    self._take(minted.chain, minted.digest, f"event {event.position} of {source.origin}")
                    if minted.digest is not None:
                        self.minted[minted.digest] = minted
                        if (chain := self.get(minted.digest)) is not None:
                            self.first_blocks[b64u(chain.digests[1])] = minted
        for one in decisions:
            recorded = one.recorded
            self._take(recorded.chain, recorded.digest, recorded.name)
            for text in recorded.approvals:
                # Only what has this digest: anybody may write another one beside it.
                if text.digest not in self.approvals and (approval := approval_of(text)) is not None:
                    self.approvals[text.digest] = approval

    def _take(self, text: ChainText | None, stated: str | None, where: str) -> None:
        if text is None:
            return
        try:
            chain = ProvenChain.read(text)
        except BadChain as why:
            self.faults.append(f"{where} has a chain that cannot be read: {why}")
            return
        digest = b64u(chain.digest)
        if digest != stated:
            self.faults.append(f"{where} has a chain whose digest is another one than it says")
            return
        self._chains.setdefault(digest, chain)

    def all(self) -> Collection[ProvenChain]:
        """Every chain."""
        return self._chains.values()

    def get(self, digest: str | None) -> ProvenChain | None:
        """The chain with this digest; None if the proof does not show it."""
        return None if digest is None else self._chains.get(digest)

    def minted_in(self, chain: ProvenChain) -> CapabilityMinted | None:
        """The minting that a chain goes on from; None if the authority's log has none."""
        return next((self.minted[text] for each in chain.digests if (text := b64u(each)) in self.minted), None)
