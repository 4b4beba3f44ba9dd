"""The discharges that come with a token: which demand each of them answers, and the approval that it is.

Laws:

- Each third-party caveat gets the first unused discharge of its cid. Every discharge is used, or the token is refused.
- A discharge counts only under the key that the vid of its demand holds, and bound to this very token.
- What is remembered of a discharge follows from its bytes and that key. Whether it fits a token, a time or a call is
  looked at each time.
"""

from collections.abc import Iterator, MutableMapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from capx.crypto.hashing import equal, mac, zero_mac
from capx.crypto.keys import AudienceKey
from capx.errors import MalformedToken
from capx.tokens.approval import MAX_SIGNATURES, Approval, read_approval
from capx.tokens.approval_caveat import KeyedCaveat, caveat_key, read_approval_caveat
from capx.tokens.chain import Block, ThirdParty, extend
from capx.tokens.discharge import MAX_DISCHARGES, PREFIX, Discharge, bound, tail_of
from capx.tokens.lineage import MAX_BUDGETS, Lineage, TokenRefused
from capx.tokens.wire import MAX_CREDENTIAL, Frame
from capx.verify.cache import Cache
from capx_caveats import Refusal, Vocabulary

_BAD: Final = Refusal(
    "bad_discharge", "an approval that came with this token does not belong to it", "the approvals that it demands"
)

CaveatKeys = MutableMapping[int, bytes | None]
"""The keys of the demands of one chain by the number of the block; None for a vid that does not open."""


class Known(Struct, frozen=True):
    """What follows from a discharge and the key of its demand: what it says; None if nothing.

    `hidden` is the `zero_mac` of its last tail.
    """

    hidden: bytes
    approval: Approval | None


class Matched(Struct, frozen=True):
    """A discharge that is bound to the token and made for the third-party caveat in this block."""

    block: int
    known: Known


def split_credential(credential: str) -> tuple[str, tuple[str, ...]]:
    """The text of the token, and those of the discharges behind it; TokenRefused for others, and beyond the limits."""
    token, comma, rest = credential.partition(",")
    if not comma:
        return token, ()
    if len(credential) > MAX_CREDENTIAL:
        raise TokenRefused(Refusal("too_large", f"a credential has more than {MAX_CREDENTIAL} characters"))
    texts = tuple(rest.split(",", MAX_DISCHARGES))
    if len(texts) > MAX_DISCHARGES:
        raise TokenRefused(Refusal("too_large", f"a token has more than {MAX_DISCHARGES} approvals with it"))
    if not all(text.startswith(PREFIX) for text in texts):
        raise TokenRefused(Refusal("malformed", "only approvals may follow a token: a bundle goes to no resource"))
    return token, texts


def match_discharges(
    frame: Frame,
    key: AudienceKey,
    texts: Sequence[str],
    vocabulary: Vocabulary,
    *,
    keys: CaveatKeys,
    memory: Cache[Known],
) -> tuple[Matched, ...]:
    """Step 3 for the discharges: match each with the third-party caveat that it answers; TokenRefused if one does not.

    The chain of the frame must be authentic under `key`. `keys` remembers those of its demands, without its last block.
    """
    try:
        waiting = [Discharge.parse(text) for text in texts]
    except MalformedToken:
        raise TokenRefused(_BAD) from None
    found: list[Matched] = []
    for at, block in enumerate(frame.blocks):
        if not isinstance(block, ThirdParty):
            continue
        taken = next((one for one in waiting if one.cid == block.cid), None)
        if taken is None:
            continue
        waiting.remove(taken)
        opened = keys[at] if at in keys else caveat_key(_tail_before(frame, key, at), block)
        # The last block is not among those for which keys are remembered.
        if at < len(frame.blocks) - 1:
            keys[at] = opened
        known = _known(taken, opened, frame.signature, vocabulary, memory)
        if known is None:
            raise TokenRefused(_BAD)
        found.append(Matched(at, known))
    if waiting:
        raise TokenRefused(_BAD)
    return tuple(found)


def approvals_of(matched: Sequence[Matched]) -> tuple[Approval, ...]:
    """Step 4 for the discharges: what they say; TokenRefused if one has not the shape of an approval."""
    found = tuple([one.known.approval for one in matched if one.known.approval is not None])
    if len(found) < len(matched):
        raise TokenRefused(_BAD)
    if sum(len(one.signed) for one in found) > MAX_SIGNATURES:
        raise TokenRefused(Refusal("too_large", f"the approvals have more than {MAX_SIGNATURES} signatures together"))
    return found


def with_approvals(lineage: Lineage, matched: Sequence[Matched], approvals: Sequence[Approval]) -> Lineage:
    """The lineage of a presentation with these approvals: their blocks restrict it, and their deaths end it.

    TokenRefused (too_large) for too many budgets.
    """
    allotments = (*lineage.allotments, *(each for one in approvals for each in one.allotments))
    if len(allotments) > MAX_BUDGETS:
        raise TokenRefused(Refusal("too_large", f"a token and its approvals have more than {MAX_BUDGETS} budgets"))
    answered = {one.block for one in matched}
    own = frozenset(lineage.revocation_keys)
    found = dict.fromkeys(key for one in approvals for key in one.revocation_keys)
    approval_keys = tuple([key for key in found if key not in own])
    return replace(
        lineage,
        judged=(*lineage.sections, *(section for one in approvals for section in one.sections)),
        revocation_keys=(*lineage.revocation_keys, *approval_keys),
        expires=min(lineage.expires, *(one.ends for one in approvals)),
        allotments=allotments,
        size=lineage.size + sum(one.size for one in approvals),
        undischarged=tuple([one for one in lineage.undischarged if one.block not in answered]),
        approval_keys=approval_keys,
    )


def keyed_caveats(frame: Frame, key: AudienceKey, blocks: Sequence[Block]) -> Iterator[KeyedCaveat | None]:
    """The third-party caveats among the first blocks of an authentic chain, with their keys.

    None for one that is no demand for an approval, or whose vid does not open.
    """
    for at, block in enumerate(blocks):
        if isinstance(block, ThirdParty):
            opened = None
            if read_approval_caveat(block.cid) is not None:
                opened = caveat_key(_tail_before(frame, key, at), block)
            yield None if opened is None else KeyedCaveat(block.cid, opened)


def _tail_before(frame: Frame, key: AudienceKey, at: int) -> bytes:
    tail = mac(key.mac_key, frame.identifier_bytes)
    for block in frame.blocks[:at]:
        tail = extend(tail, block)
    return tail


def _known(
    discharge: Discharge, key: bytes | None, token: bytes, vocabulary: Vocabulary, memory: Cache[Known]
) -> Known | None:
    """What follows from the bytes of a discharge; None unless its MACs are good, and bound to the token's signature."""
    if key is None:
        return None
    name = discharge.body + key
    known = memory.get(name)
    hidden = zero_mac(tail_of(key, discharge.cid, discharge.blocks)) if known is None else known.hidden
    if not equal(bound(token, hidden), discharge.signature):
        return None
    if known is None:
        caveat = read_approval_caveat(discharge.cid)
        known = Known(hidden, None if caveat is None else read_approval(caveat, discharge.blocks, vocabulary))
        memory.put(name, known)
    return known
