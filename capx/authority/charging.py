"""Spending and giving back for a resource without a store: the authority reads the presentation.

Laws:

- The presentation proves the counters and their limits. The resource says only what the call costs.
- The authority has minted the capability itself. A resource holds the key of its audience, so it can forge a token for
  itself, with any budget in it: such a token spends nothing.
- The capability lives: nothing that a resource may still accept, because its news are late, spends after its end.
- If the token is bound to a key, the keys in force have signed its hops and the presentation: a thief pays nothing.
- If the token demands approvals, they come with it, fit it, and are signed.
- One presentation is one call. If its admission is sent again, only what it has not paid yet is spent. Another
  admission of it is refused.
- What gives back is what has paid, and only while it could still pay.
"""

from collections.abc import Mapping, Sequence

from capx.crypto.base64url import b64u
from capx.crypto.keys import KeyRing
from capx.errors import InvalidRequest
from capx.store.protocols import Store
from capx.store.records import NOTHING_PAID, Unwritable
from capx.tokens import chain, wire
from capx.tokens.approval import AN_APPROVAL, Approval
from capx.tokens.binding import WINDOW_BEFORE
from capx.tokens.lineage import Lineage, TokenRefused, caveats_of, read_lineage
from capx.tokens.signed_blocks import Check, refusal_of, signed_presentation
from capx.tokens.wording import sentence
from capx.verify.approvals import approvals_of, match_discharges, split_credential, with_approvals
from capx.verify.cache import Cache
from capx.verify.meter import Paid, Payer, Spend, Tally
from capx.verify.spending import spends_of
from capx_caveats import CALLS, DEFAULT, Call, InvalidCaveat, Presented, Sig, is_label, shown_instant

_NOT_AUTHENTIC = "this presentation was changed, or was not made under a live key of its audience"


def charge(
    store: Store,
    keyring: KeyRing,
    audience: str,
    presentation: str,
    costs: Mapping[str, str],
    *,
    admission: bytes,
    now: int,
) -> tuple[tuple[Spend, ...], Tally]:
    """Spend what a call costs, in these units, from the budgets of the presentation that came with it.

    `costs` maps a unit to decimal text; in `calls` it is 1. Returns the spends, one for each counter, and their tally.
    InvalidRequest if the presentation is not valid here, or if no budget of it counts a unit. StoreProblem if the store
    fails.
    """
    payer, lineage = _proven(store, keyring, audience, presentation, admission=admission, now=now)
    counted = [allotment for allotment in lineage.allotments if allotment.budget.unit in costs]
    if unknown := costs.keys() - {allotment.budget.unit for allotment in counted}:
        raise InvalidRequest(f"no budget of this presentation counts {min(unknown)!r:.80}")
    if costs.get(CALLS, "1") != "1":
        raise InvalidRequest(f"a call always costs 1 in `{CALLS}`")
    try:
        spends = spends_of(counted, Call("spend", cost={unit: cost for unit, cost in costs.items() if unit != CALLS}))
    except InvalidCaveat as error:
        raise InvalidRequest(str(error)) from None
    return spends, store.spend(payer, spends, now=now)


def give_back(
    store: Store,
    keyring: KeyRing,
    audience: str,
    presentation: str,
    *,
    admission: bytes,
    decision: str,
    reason: str,
    now: int,
) -> tuple[Paid, ...]:
    """Give back what the presentation has paid under this admission; returns that.

    `decision` and `reason` are the resource's, for the log. InvalidRequest if the presentation is not valid here, if it
    has paid nothing under this admission, or if the reason is no label. StoreProblem if the store fails.
    """
    if not is_label(reason):
        raise InvalidRequest("a reason must not hold hidden or control characters")
    payer, _ = _proven(store, keyring, audience, presentation, admission=admission, now=now)
    try:
        return store.give_back(payer, decision=decision, reason=reason, now=now)
    except Unwritable:
        # The resource can do something about this. Of other problems of the store it learns only that there is one.
        raise InvalidRequest(NOTHING_PAID) from None


def _proven(
    store: Store, keyring: KeyRing, audience: str, presentation: str, *, admission: bytes, now: int
) -> tuple[Payer, Lineage]:
    """Who pays, and from what; InvalidRequest unless the authority minted it for this audience, and it lives."""
    text, discharges = _split(presentation)
    frame = wire.decode(text)
    if frame.identifier.audience != audience:
        raise InvalidRequest(f"this presentation is for {frame.identifier.audience}, and {audience} received it")
    root = keyring.get(frame.identifier.kid)
    if root is None or not frame.blocks:
        raise InvalidRequest(_NOT_AUTHENTIC)
    *body, last = frame.blocks
    key = root.audience_key(audience)
    tail = chain.tail_of(key, frame.identifier_bytes, body)
    if not chain.verify_mac(tail, last, frame.signature):
        raise InvalidRequest(_NOT_AUTHENTIC)
    try:
        marks = caveats_of(last, DEFAULT)
        if not marks or not isinstance(mark := marks[0], Presented):
            raise InvalidRequest("this is a bare token: only a presentation can pay here")
        if len(marks) > 1 and (len(marks) > 2 or not isinstance(marks[1], Sig)):
            raise InvalidRequest("this presentation holds more than a call and a signature")
        lineage = read_lineage(frame, tuple(body), DEFAULT, frozenset())
        matched = match_discharges(frame, key, discharges, DEFAULT, keys={}, memory=Cache(0))
        approvals = approvals_of(matched)
        if approvals:
            lineage = with_approvals(lineage, matched, approvals)
    except TokenRefused as refused:
        raise InvalidRequest(f"this presentation cannot be read: {refused.refusal.sentence}") from None
    digest = chain.block_digest(lineage.digest, last)
    _demand_signed(lineage, signed_presentation(lineage.signed, last, marks, lineage.owner, (lineage.digest, digest)))
    _demand_approved(lineage, approvals, audience, now)
    if mark.at > now + WINDOW_BEFORE:
        made = shown_instant(mark.at)
        raise InvalidRequest(f"this presentation was made at {made}, in the future: set the clock here or the agent's")
    # Some time after it expires, `prune` deletes what it paid. Then it could pay a second time.
    if now >= lineage.expires:
        raise InvalidRequest(f"this presentation expired at {shown_instant(lineage.expires)}")
    # The id that covers the authority's block. The one before it covers the identifier, which fits another block too.
    minted = lineage.ids[1]
    with store.read() as reading:
        if reading.minted(b64u(minted)) is None:
            raise InvalidRequest("this authority did not mint this capability")
        if any(map(reading.death, lineage.revocation_keys)) or lineage.issued <= reading.revoked_until():
            raise InvalidRequest("this capability was revoked, or its task has ended")
    return Payer(digest[:16], admission, minted, audience, presentation), lineage


def _split(presentation: str) -> tuple[str, tuple[str, ...]]:
    try:
        return split_credential(presentation)
    except TokenRefused as refused:
        raise InvalidRequest(f"this presentation cannot be read: {refused.refusal.sentence}") from None


def _demand_approved(lineage: Lineage, approvals: Sequence[Approval], audience: str, now: int) -> None:
    """Raise InvalidRequest unless each demand has an approval that fits and is signed: others must not use it up."""
    for missing in lineage.undischarged:
        raise InvalidRequest(f"this presentation cannot pay: {sentence(missing.refusal())}")
    for one in approvals:
        for why in (*one.misfits(lineage, audience, now), *one.bad_signatures()):
            raise InvalidRequest(f"this presentation cannot pay: {AN_APPROVAL} {why}")


def _demand_signed(lineage: Lineage, own: Check | None) -> None:
    for check in (*(() if lineage.signed is None else lineage.signed.checks), own):
        if check is not None and (refusal := refusal_of(check)):
            raise InvalidRequest(f"this presentation cannot pay: {sentence(refusal)}")
