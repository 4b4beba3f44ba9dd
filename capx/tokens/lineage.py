"""The lineage: everything that the bytes of a chain say, computed once: claims, nodes, ids, and every restriction.

Laws:

- Only the first block, the authority's, makes claims: task, tenant, intent and root. All other blocks only restrict.
- A mark at a wrong place makes the whole token invalid.
- Nothing here depends on a call, the time, or revocations. So a verifier may cache a lineage.
- The bytes must be authentic already. `unverified_lineage` reads those that are not, and proves nothing.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import cast

from msgspec import UNSET, Struct
from msgspec.structs import replace

from capx.crypto.base64url import b64u
from capx.tokens import chain, wire
from capx.tokens.approval_caveat import ApprovalCaveat, read_approval_caveat
from capx.tokens.capability import Token
from capx.tokens.chain import Block
from capx.tokens.revocation_key import of_kid
from capx.tokens.signed_blocks import MAX_SIGNATURES, SignedBlocks, read_signed_blocks
from capx.tokens.wire import Frame
from capx_caveats import (
    DEFAULT,
    PLACES,
    Allow,
    Budget,
    Call,
    Caveat,
    Expires,
    Holder,
    Hop,
    Intent,
    MaxHops,
    NotUnderstood,
    Presented,
    Refusal,
    Root,
    Sig,
    Step,
    Task,
    Tenant,
    TooLarge,
    UntilCompleted,
    Vocabulary,
    Where,
    Work,
    is_too_much,
    misplaced,
    most_work,
)
from capx_caveats.texts import bounded_patterns

AUTHORITY = "authority"
"""The audience of the authority itself."""
MAX_BUDGETS = 16
"""Most budgets that a token may have."""
FIRST_HOLDER = "the token's first holder"
"""The name for the owner of restrictions after the authority's block and before any hop."""


class TokenRefused(Exception):
    """A step of the verifier stopped with this refusal; the verifier makes a denial of it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


class Owned(Struct, frozen=True, gc=False):
    """The owner of a restriction: hop 0 is the authority's grant; `name` is the label of any other hop."""

    hop: int
    name: str | None


class Demand(Owned, frozen=True, gc=False):
    """One caveat and its owner."""

    caveat: Caveat


class Section(Owned, frozen=True, gc=False):
    """The caveats of one block and their owner."""

    caveats: tuple[Caveat, ...]


class Allotment(Owned, frozen=True, gc=False):
    """One budget, its owner, and the id of the counter that it limits."""

    counter: str
    budget: Budget


class Undischarged(Owned, frozen=True, gc=False):
    """One third-party caveat, its owner, and the number of its block, from 0."""

    block: int
    cid: bytes

    @property
    def caveat(self) -> ApprovalCaveat | None:
        """The demand for an approval; None if it is something else, which nothing discharges here."""
        return read_approval_caveat(self.cid)

    def refusal(self) -> Refusal:
        """The refusal of every call without a discharge."""
        caveat = self.caveat
        if caveat is None:
            return attributed(_FOREIGN, self)
        return attributed(Refusal("needs_discharge", f"demands {caveat.wanted()}", caveat.wanted()), self)


class Lineage(Struct, frozen=True, dict=True):
    """A chain with an acceptable shape, ready to be judged.

    `revocation_keys` are the keys of all revocations that would end it: tasks, nodes, ids, agents' keys (16 bytes
    each), and its kid, in the order in which a denial reports them. A revocation of all tokens up to a time ends it
    too, if `issued` is not after that time. `signed` has its keys and signatures; None if it has neither. `standing`
    are refusals that apply to every call. `digest` is d of the last block. `expires` and `issued` are in Unix seconds.
    `size` is the number of bytes of all blocks. `undischarged` are its third-party caveats. Of a presentation with
    approvals, they are those without one; `judged` has the blocks of the approvals behind those of the chain, and
    `approval_keys` are the revocation keys that only an approval has.
    """

    task: str
    root: str
    tenant: str | None
    intent: str | None
    path: tuple[bytes, ...]
    hops: tuple[str, ...]
    nonces: tuple[str, ...]
    ids: tuple[bytes, ...]
    digest: bytes
    sections: tuple[Section, ...]
    judged: tuple[Section, ...]
    revocation_keys: tuple[bytes | str, ...]
    standing: tuple[Refusal, ...]
    expires: int
    issued: int
    allotments: tuple[Allotment, ...] = ()
    size: int = 0
    signed: SignedBlocks | None = None
    undischarged: tuple[Undischarged, ...] = ()
    approval_keys: tuple[bytes | str, ...] = ()

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The public keys of its holders (32 bytes each), from first to last; empty if the token is a bearer's."""
        return () if self.signed is None else self.signed.keys

    @property
    def key_ids(self) -> tuple[bytes, ...]:
        """The keys of the revocations of these public keys: 16 bytes each."""
        return () if self.signed is None else self.signed.key_ids

    @property
    def unsigned(self) -> tuple[Refusal, ...]:
        """The refusals of keys and signatures that are missing, or must not be there; they apply to every call."""
        return () if self.signed is None else self.signed.refusals

    @property
    def owner(self) -> tuple[int, str | None]:
        """The hop of its holder, and the label of that hop."""
        return len(self.hops), self.hops[-1] if self.hops else None

    @property
    def node(self) -> bytes:
        """The node of the last hop."""
        return self.path[-1]

    @property
    def minted(self) -> bytes:
        """The id of the capability as the authority minted it, without what holders appended."""
        return self.ids[1]

    def above(self, hop: int) -> "Lineage":
        """The chain above a hop, and at least what the authority minted: for a record. No call is judged by it."""
        minted = next((section.hop for section in self.sections if section.hop), len(self.hops) + 1)
        hop = max(hop, minted)
        kept = tuple([section for section in self.sections if section.hop < hop])
        return replace(
            self,
            path=self.path[:hop],
            hops=self.hops[: hop - 1],
            nonces=self.nonces[: hop - 1],
            ids=self.ids[: len(kept) + 1],
            sections=kept,
            judged=kept,
        )

    @cached_property
    def most_work(self) -> Work:
        """The most work of all caveats together; computed for the first call that is not small."""
        return most_work(self.caveats)

    @property
    def caveats(self) -> Iterator[Caveat]:
        """All caveats, from first to last."""
        return (caveat for section in self.judged for caveat in section.caveats)

    def is_too_much_work(self, call: Call) -> bool:
        """Whether to judge this call by all caveats would be too much work."""
        return is_too_much(call, self.size, lambda: self.most_work, lambda: self.caveats)

    @cached_property
    def demands(self) -> tuple[Demand, ...]:
        """Every caveat that may refuse a call, in the order of the blocks."""
        return tuple(
            Demand(section.hop, section.name, caveat)
            for section in self.judged
            for caveat in section.caveats
            if may_refuse(caveat)
        )


def read_lineage(frame: Frame, blocks: tuple[Block, ...], vocabulary: Vocabulary, require: frozenset[str]) -> Lineage:
    """The lineage of an authentic chain without its presentation; TokenRefused when its shape is not acceptable.

    `blocks` are those of the frame, or all but the last. `require` names further claims that the first block must have.
    At the authority itself, `where`, `budget` and caveats of services restrict nothing: they are about the calls that
    the authority grants elsewhere.
    """
    size = sum(len(block) for block in blocks if isinstance(block, bytes))
    decoded = _decoded(blocks, vocabulary)
    for at, caveats in enumerate(decoded):
        if found := misplaced(caveats, authority=at == 0):
            raise TokenRefused(Refusal("misplaced", f"`{found.sentence()}` is not allowed at its place in this token"))
    claims = _claims(decoded[0] if decoded else (), require)
    granted_at = len(claims.root.steps)
    hops = [caveats[0] for caveats in decoded if caveats and type(caveats[0]) is Hop]
    steps: tuple[Step | Hop, ...] = (*claims.root.steps, *hops)
    nonces = tuple([step.nonce for step in steps])
    path = chain.nodes(claims.root.id, nonces)
    digests = chain.digests(frame.identifier_bytes, blocks)
    ids = tuple([digest[:16] for digest in digests])
    tasks: dict[bytes | str, None] = {claims.task.id: None}
    expires: list[int] = []
    allotments: list[Allotment] = []
    limits: list[tuple[Section, MaxHops]] = []
    is_keyed = False
    sections = tuple(sections_of(decoded, granted_at))
    for at, section in enumerate(sections):
        for caveat in section.caveats:
            if type(caveat) not in _COLLECTED:
                continue
            if type(caveat) is Expires:
                expires.append(caveat.at)
            elif type(caveat) is UntilCompleted:
                tasks[caveat.task] = None
            elif type(caveat) is Budget:
                # In the block of a hop, the counter is the hop's node, which all capabilities of the delegation share.
                # Else it is the block's own id, which no other block has.
                own = path[section.hop] if type(section.caveats[0]) is Hop else ids[at + 1]
                counter = b64u(own) if caveat.counter is UNSET else caveat.counter
                allotments.append(Allotment(section.hop, section.name, counter, caveat))
            elif type(caveat) is MaxHops:
                limits.append((section, caveat))
            else:
                is_keyed |= type(caveat) is not Hop or caveat.key is not UNSET
    # Before budgets are dropped for the authority: the shape of a token does not depend on its audience.
    if len(allotments) > MAX_BUDGETS:
        raise TokenRefused(Refusal("too_large", f"a token has more than {MAX_BUDGETS} budgets"))
    signed = _signed(blocks, decoded, sections, digests) if is_keyed else None
    if frame.identifier.audience == AUTHORITY:
        sections, allotments = tuple(map(_about_itself, sections)), []
    return Lineage(
        task=claims.task.id,
        root=claims.root.id,
        tenant=claims.tenant,
        intent=claims.intent,
        path=path,
        hops=tuple([step.to for step in steps]),
        nonces=nonces,
        ids=ids,
        digest=digests[-1],
        sections=sections,
        judged=sections,
        revocation_keys=(
            *tasks,
            *path,
            *ids,
            *(signed.key_ids if signed else ()),
            of_kid(frame.identifier.kid),
        ),
        standing=tuple(_standing(limits, len(steps), granted_at)),
        expires=min(expires),
        issued=frame.identifier.issued_at,
        allotments=tuple(allotments),
        size=size,
        signed=signed,
        # Only a third-party block decodes to no caveats.
        undischarged=_undischarged(blocks, sections) if () in decoded else (),
    )


def _signed(
    blocks: tuple[Block, ...],
    decoded: list[tuple[Caveat, ...]],
    sections: tuple[Section, ...],
    digests: tuple[bytes, ...],
) -> SignedBlocks:
    owners = [(section.hop, section.name) for section in sections]
    signed = read_signed_blocks(blocks, decoded, owners, digests)
    demand_few_signatures(signed.signed)
    return signed


def demand_few_signatures(number: int) -> None:
    """Raise TokenRefused (too_large) for more signatures than a token may have, its presentation included."""
    if number > MAX_SIGNATURES:
        raise TokenRefused(Refusal("too_large", f"a token has more than {MAX_SIGNATURES} signatures"))


def unverified_lineage(token: Token, vocabulary: Vocabulary = DEFAULT) -> Lineage:
    """The lineage of a token, read without a key; TokenRefused as in `read_lineage`. A presentation is left out.

    Nothing in it is verified. Show it, or predict with it, but never allow anything by it.
    """
    # Behind a presentation, its text has the approvals that go with it.
    frame = wire.decode(token.text.partition(",")[0])
    presents = any(isinstance(caveat, Presented) for last in token.caveats[-1:] for caveat in last)
    return read_lineage(frame, frame.blocks[:-1] if presents else frame.blocks, vocabulary, frozenset())


def _about_itself(section: Section) -> Section:
    return Section(section.hop, section.name, tuple(filter(_judged_at_the_authority, section.caveats)))


def _judged_at_the_authority(caveat: Caveat) -> bool:
    if isinstance(caveat, NotUnderstood):
        return not caveat.own
    return not (isinstance(caveat, Where | Budget) or "." in str(caveat.__struct_config__.tag))


def sections_of(blocks: Iterable[tuple[Caveat, ...]], granted_at: int) -> Iterator[Section]:
    """The blocks with their owners; `granted_at` is the number of hops from the root to the grant."""
    hop, name = 0, None
    for at, caveats in enumerate(blocks):
        if at > 0 and caveats and type(first := caveats[0]) is Hop:
            hop, name = max(hop, granted_at) + 1, first.to
        elif at > 0 and name is None:
            name = FIRST_HOLDER
        yield Section(hop, name, caveats)


_COLLECTED = frozenset({Expires, UntilCompleted, Budget, MaxHops, Hop, Holder, Sig})


def may_refuse(caveat: Caveat) -> bool:
    """Whether a caveat judges calls itself. Marks do not, and `until_completed` is looked up among the revocations."""
    return type(caveat) not in PLACES and type(caveat) is not UntilCompleted


def caveats_of(block: Block, vocabulary: Vocabulary) -> tuple[Caveat, ...]:
    """The caveats of one block; a third-party block has none. TokenRefused (too_large) beyond the limits."""
    if not isinstance(block, bytes):
        return ()
    try:
        return vocabulary.decode(block)
    except TooLarge as error:
        raise TokenRefused(Refusal("too_large", str(error))) from None


def _decoded(blocks: Iterable[Block], vocabulary: Vocabulary) -> list[tuple[Caveat, ...]]:
    """The caveats of each block; TokenRefused (too_large) at the block with one pattern too many."""
    decoded: list[tuple[Caveat, ...]] = []
    # To read a pattern is to build its program, which takes much longer than to read anything else.
    with bounded_patterns() as room:
        for block in blocks:
            decoded.append(caveats_of(block, vocabulary))
            if room.is_exceeded:
                raise TokenRefused(Refusal("too_large", "its patterns are too large together", "fewer patterns"))
    return decoded


class _Claims(Struct, frozen=True):
    task: Task
    root: Root
    tenant: str | None
    intent: str | None


def _claims(authority: tuple[Caveat, ...], require: frozenset[str]) -> _Claims:
    # Reversed, so that the first caveat of each type wins.
    first = {type(caveat): caveat for caveat in reversed(authority)}
    task, root = cast("Task | None", first.get(Task)), cast("Root | None", first.get(Root))
    if task is None or root is None:
        raise _incomplete("task" if task is None else "root")
    if not any(isinstance(caveat, UntilCompleted) and caveat.task == task.id for caveat in authority):
        raise _incomplete("until_completed of its task")
    for kind, name in _MANDATORY:
        if kind not in first:
            raise _incomplete(name)
    tenant, intent = cast("Tenant | None", first.get(Tenant)), cast("Intent | None", first.get(Intent))
    for name, claim in (("tenant", tenant), ("intent", intent), ("holder", first.get(Holder))):
        if name in require and claim is None:
            raise _incomplete(name)
    return _Claims(task, root, tenant.name if tenant else None, intent.digest if intent else None)


_FOREIGN = Refusal(
    "not_understood", "has a third-party caveat that is no demand for an approval", "one that capx can discharge"
)
_MANDATORY = ((Expires, "expires"), (Allow, "allow"))


def _incomplete(what: str) -> TokenRefused:
    return TokenRefused(Refusal("incomplete_authority", f"the authority's block has no {what}", what))


def _standing(limits: Iterable[tuple[Section, MaxHops]], last_hop: int, granted_at: int) -> Iterator[Refusal]:
    for whose, limit in limits:
        followed = last_hop - max(whose.hop, granted_at)
        if followed > limit.n:
            sentence = f"allows {limit.sentence()}, but {followed} followed"
            yield attributed(Refusal("too_many_hops", sentence, limit.sentence()), whose)


def _undischarged(blocks: tuple[Block, ...], sections: tuple[Section, ...]) -> tuple[Undischarged, ...]:
    # Before any hop, it may be the authority's or the first holder's: nothing says which.
    return tuple(
        [
            Undischarged(whose.hop, whose.name if whose.hop else "this token", at, block.cid)
            for at, (block, whose) in enumerate(zip(blocks, sections, strict=True))
            if not isinstance(block, bytes)
        ]
    )


def attributed(refusal: Refusal, whose: Owned) -> Refusal:
    """The refusal, with the owner of the restriction."""
    return replace(refusal, hop=whose.hop, hop_name=whose.name)
