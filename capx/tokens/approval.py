"""An approval: what a discharge says, and what of it must fit the token that it goes with.

    block 1              [["approved",AUDIENCE,NODE,SHOWN,AT],["task",T],["intent",D]?,["allow",…],["expires",E],…]
    blocks 2 … COUNT+1   [["signed",NUMBER,SIG]]      SIG = Ed25519(that key, H("capx/1/approval", dd[1]))
    blocks behind        whatever its holder narrows it by

Laws:

- The statement says to whom the approval goes: one audience, one task and its intent, one node and all below it.
- The signatures are over the statement alone, so each person signs the same bytes, in any order.
- Of different people, exactly as many sign as the demand wants.
- Nobody approves their own calls: a key that the token names as a holder's does not count.
- The vocabulary is that of tokens. An approval only restricts: it claims nothing that the token does not say.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import UNSET, Struct

from capx.crypto.base64url import b64u, canonical_bytes
from capx.crypto.hashing import digest
from capx.tokens.approval_caveat import ApprovalCaveat
from capx.tokens.discharge import discharge_digests
from capx.tokens.lineage import Allotment, Lineage, Section
from capx.tokens.revocation_key import of_key
from capx_caveats import (
    Allow,
    Approved,
    Budget,
    Caveat,
    ChainCaveat,
    Expires,
    Intent,
    Signed,
    Task,
    TooLarge,
    UntilCompleted,
    Vocabulary,
)
from capx_caveats.texts import MAX_PATTERNS, bounded_patterns

AN_APPROVAL: Final = "an approval"
"""The name for the owner of the restrictions in a discharge."""
MAX_SIGNATURES: Final = 16
"""Most signatures in the discharges of one presentation."""
CLOCK_AHEAD: Final = 5
"""Seconds by which the clock of an approver may be ahead."""
_PATTERNS: Final = MAX_PATTERNS // 8
"""The most that the patterns of one approval count together: eight of them count no more than one token's."""


class Approval(Struct, frozen=True):
    """What one discharge of a demand says. Its MACs are good; its signatures are not checked yet.

    `signed` has the number of each signer and the signature of `message`. `ids` are those of the demand and of each
    block (16 bytes), `last` is dd of the last one. `expires` is what the statement says, `ends` the earliest expiry of
    all blocks (Unix seconds). `until` are the tasks that must not have ended. `size` is the number of bytes of all
    blocks.
    """

    caveat: ApprovalCaveat
    stated: Approved
    task: str
    intent: str | None
    expires: int
    ends: int
    signed: tuple[tuple[int, bytes], ...]
    message: bytes
    ids: tuple[bytes, ...]
    last: bytes
    sections: tuple[Section, ...]
    allotments: tuple[Allotment, ...]
    until: tuple[str, ...]
    size: int

    @property
    def id(self) -> bytes:
        """The id of the statement: revoking it takes the approval back."""
        return self.ids[1]

    @property
    def signers(self) -> tuple[bytes, ...]:
        """The public keys of those who are said to have signed, 32 bytes each; numbers without a key are left out."""
        keys = self.caveat.keys
        return tuple([keys[number] for number, _ in self.signed if number < len(keys)])

    @property
    def revocation_keys(self) -> tuple[bytes | str, ...]:
        """The keys of all deaths that end it: tasks, its ids, and the keys that signed it."""
        return (*self.until, *self.ids, *map(of_key, self.signers))

    def misfits(self, lineage: Lineage, audience: str, now: int) -> Iterator[str]:
        """Why it is not an approval for the holder of this chain, at this audience and time: a sentence for each."""
        stated = self.stated
        if stated.audience != audience:
            yield f"is for {stated.audience}, and this service is {audience}"
        if self.task != lineage.task:
            yield "is for another task"
        if self.intent != lineage.intent:
            yield "is for another intent"
        if canonical_bytes(stated.node) not in lineage.path:
            yield "is for another agent: neither for this one, nor for one above it"
        yield from self.flaws(now)
        if not set(lineage.keys).isdisjoint(self.signers):
            yield "is signed with a key that an agent of this token holds: nobody approves their own calls"

    def flaws(self, now: int) -> Iterator[str]:
        """Why it is no approval for anybody at this time: a sentence for each."""
        stated = self.stated
        if self.expires > stated.at + self.caveat.lasts:
            yield f"is good for longer than the {self.caveat.lasts} s that the token permits"
        if stated.at > now + CLOCK_AHEAD:
            yield "was given in the future, by the clock here"
        numbers = [number for number, _ in self.signed]
        if len(set(numbers)) < len(numbers) or max(numbers) >= len(self.caveat.keys):
            yield "is not signed by different people of those whom the token names"

    def bad_signatures(self) -> Iterator[str]:
        """A sentence for each signature that is not good."""
        from capx.crypto.ed25519 import is_signed, public_text  # slow to import, and only these tokens need it

        keys = self.caveat.keys
        for number, signature in self.signed:
            if number < len(keys) and not is_signed(keys[number], self.message, signature):
                yield f"has a signature that {public_text(keys[number])} did not make"


def approval_message(statement: bytes) -> bytes:
    """The message that each approver signs: 32 bytes; `statement` is dd[1]."""
    return digest(b"capx/1/approval", statement)


def read_approval(caveat: ApprovalCaveat, blocks: Sequence[bytes], vocabulary: Vocabulary) -> Approval | None:
    """The approval in the blocks of a discharge; None if they have not the shape of one."""
    decoded = _decoded(blocks, vocabulary)
    if decoded is None or len(decoded) <= caveat.count:
        return None
    statement, signatures, narrowed = decoded[0], decoded[1 : caveat.count + 1], decoded[caveat.count + 1 :]
    read = _statement(statement)
    if read is None or any(isinstance(one, ChainCaveat) for caveats in narrowed for one in caveats):
        return None
    signed = [caveats[0] for caveats in signatures if len(caveats) == 1 and isinstance(caveats[0], Signed)]
    if len(signed) < caveat.count:
        return None
    stated, task, intent, expires = read
    digests = discharge_digests(caveat.cid, blocks)
    ids = tuple([each[:16] for each in digests])
    # What a signature says is checked by itself: these blocks restrict nothing.
    judged = [(0, statement), *enumerate(narrowed, caveat.count + 1)]
    allotments: list[Allotment] = []
    until: dict[str, None] = {}
    for at, caveats in judged:
        for one in caveats:
            if isinstance(one, Budget):
                if one.counter is not UNSET:
                    return None
                # The block's own id: an approval has one count, whoever signs it and however copies are narrowed.
                allotments.append(Allotment(0, AN_APPROVAL, b64u(ids[at + 1]), one))
            elif isinstance(one, UntilCompleted):
                until[one.task] = None
    return Approval(
        caveat=caveat,
        stated=stated,
        task=task,
        intent=intent,
        expires=expires,
        ends=min(one.at for _, caveats in judged for one in caveats if isinstance(one, Expires)),
        signed=tuple([(one.number, canonical_bytes(one.signature)) for one in signed]),
        message=approval_message(digests[1]),
        ids=ids,
        last=digests[-1],
        sections=tuple([Section(0, AN_APPROVAL, caveats) for _, caveats in judged]),
        allotments=tuple(allotments),
        until=tuple(until),
        size=sum(map(len, blocks)),
    )


def _decoded(blocks: Sequence[bytes], vocabulary: Vocabulary) -> list[tuple[Caveat, ...]] | None:
    with bounded_patterns(_PATTERNS) as room:
        try:
            decoded = [vocabulary.decode(block) for block in blocks]
        except TooLarge:
            return None
        return None if room.is_exceeded else decoded


def _statement(caveats: tuple[Caveat, ...]) -> tuple[Approved, str, str | None, int] | None:
    """The claims of a statement, the digest of its intent, and its expiry; None if it is no statement."""
    intent: str | None = None
    match caveats:
        case (Approved() as stated, Task() as task, Intent() as named, *rest):
            intent = named.digest
        case (Approved() as stated, Task() as task, *rest):
            pass
        case _:
            return None
    ends = [one.at for one in rest if isinstance(one, Expires)]
    if any(isinstance(one, ChainCaveat) for one in rest) or not any(isinstance(one, Allow) for one in rest):
        return None
    return None if len(ends) != 1 else (stated, task.id, intent, ends[0])
