"""Answering asks, and granting at run time, within one transaction.

    at_open, on_request      minted
    ask                      pending ──a person consents──▶ approved ──asked again──▶ minted
                                     ├─a person denies────▶ denied
                                     └─nobody answers─────▶ expired ──asked again──▶ pending

Laws:

- The transaction that mints also checks that the asker is alive and that a consent still counts. A consent counts
  again, by its signature and by the policy as it is now, each time that its grant is given.
- A request has one answer. It holds while the policy would make the very same block; for another block everything is
  decided again.
- A person's denial and a revoked grant are final for the node, even with another token or a newer policy.
- Asking again returns the same grant, byte for byte.
- Nobody is asked for what a budget has no room for any more. An agent that asks, or waits, is told so.
- The store keeps, with each grant, the token that asked for it. The event of a request and of a grant has the evidence
  of who asked.
- An ask is decided by a read, for which no writer waits. If it is refused, only that is written. What is to be granted,
  or to wait for a person, is decided again within the transaction that writes it, if anything may have changed: the
  policy, the keys, any death or anything in the task, or if its time has run out.
"""

import os
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from capx.authority.requests.approvers import demand_answer, excluded
from capx.authority.requests.ask_evidence import record_ask
from capx.authority.requests.inheritance import Asker, asker_of
from capx.authority.requests.offering import NotOffered, Offered, ask_refusal, demand_unspent, offer
from capx.authority.requests.quotas import demand_room, demand_room_of
from capx.authority.requests.request_state import (
    calls_like,
    expire,
    expire_requests,
    is_covered,
    is_of,
    is_same,
    pending_answer,
    signed_inquiry,
)
from capx.authority.requests.verdict import Verdict
from capx.crypto.base64url import b64u, unb64u
from capx.crypto.hashing import mac, macaroon_key
from capx.crypto.keys import AudienceKey, KeyRing
from capx.errors import InvalidRequest
from capx.policy.policy import Policy
from capx.store.events import AskRefused, CapabilityMinted, RequestMade
from capx.store.protocols import Reading, Writing
from capx.store.records import GrantRecord, Head, RequestRecord
from capx.tokens.approval_caveat import ApprovalTerms, KeyedCaveat, read_approval_caveat
from capx.tokens.capability import Capability, mint_block
from capx.tokens.effective.intersection import entry_in_common
from capx.tokens.revocation_key import of_kid
from capx.verify.ask import Answer, Ask, Granted, Pending, Refused
from capx_caveats import DEFAULT, Budget, Entry

_AGAIN: Final = frozenset({"approved", "granted"})
_MOST_EARLIER: Final = 64
"""The most ids of earlier grants of one request that are kept: a revocation of an older one is not looked for."""


class Grantable(Struct, frozen=True):
    """An ask that may be granted now, or may wait for a person.

    If `agreed`, its request was made before, and needs no more room and no other consent. The rest is what this was
    decided by: the root keys, the policy and the head of the store.
    """

    offered: Offered
    agreed: bool
    keyring: KeyRing
    policy: Policy
    head: Head

    def still_decided(self, reading: Reading, keyring: KeyRing, policy: Policy, task: str, *, now: int) -> bool:
        """Whether the same would be decided now: nothing has changed that it was decided by."""
        if self.keyring is not keyring or self.policy is not policy or now >= self.offered.until:
            return False
        before, head = self.head, reading.head()
        if (before.epoch, before.deaths, before.forgotten) != (head.epoch, head.deaths, head.forgotten):
            return False
        # All that is written about requests is an event of their task.
        return all(event.kind == "decision" for event in reading.events(after=before.position, task=task))


class Waiting(Struct, frozen=True):
    """What an agent waits for: the pending answer, and the round of its request."""

    pending: Pending
    round: int

    def is_for(self, grantable: Grantable) -> bool:
        """Whether this may be granted now on the very request and round that the agent waits for."""
        request = grantable.offered.request
        return (
            grantable.agreed
            and request is not None
            and (request.id, request.round) == (self.pending.request, self.round)
        )


def decide(
    reading: Reading, keyring: KeyRing, policy: Policy, asker: Asker, ask: Ask, *, now: int
) -> Answer | Grantable:
    """The answer that an ask already has, or that it may be granted; NotOffered if it is refused."""
    offered = offer(reading, keyring, policy, asker, ask, now=now)
    request = offered.request
    standing = None
    if request is not None:
        standing = _standing(reading, keyring, policy, request, offered, asker=asker, ask=ask, now=now)
        if isinstance(standing, Granted):
            return standing
    agreed = request is not None and _needs_no_person(reading, policy, request, offered)
    if offered.needs_consent and not agreed:
        caveats = DEFAULT.decode(offered.block.encode())
        demand_unspent(reading, [one for one in caveats if isinstance(one, Budget)])
    if standing is not None:
        return standing
    # First, because it is quick: a branch that asks without end is refused before all its requests are read.
    if not agreed:
        principal = policy.principals[offered.intent.principal]
        demand_room(reading, request, asker, ask, principal, waits=offered.needs_consent, now=now)
    # A request belongs to one token. Another token of the same agent must not get round a denial or a revocation.
    _demand_undecided(reading, asker, ask)
    return Grantable(offered, agreed, keyring, policy, reading.head())


def answer(
    transaction: Writing,
    keyring: KeyRing,
    policy: Policy,
    asker: Asker,
    ask: Ask,
    *,
    now: int,
    before: Grantable | None = None,
    waiting: Waiting | None = None,
) -> Answer:
    """Answer an ask at `now` (Unix seconds) by this policy. The caller has checked that the active key is live.

    `before` is what a read decided about the same ask of the same asker. If that is still decided, it is not decided
    again. `waiting` is what an agent waits for that was woken: it presented its ask once, so nothing else is written.
    """
    try:
        if before is not None and before.still_decided(transaction, keyring, policy, asker.task, now=now):
            decided: Answer | Grantable = before
            if before.offered.needs_consent and not before.agreed:
                # Asks of other tasks of the principal may have come in between.
                demand_room_of(transaction, before.offered.request, policy.principals[before.offered.intent.principal])
        else:
            decided = decide(transaction, keyring, policy, asker, ask, now=now)
    except NotOffered as refused:
        return refuse(transaction, asker, ask, refused, now=now)
    if not isinstance(decided, Grantable):
        return decided
    if waiting is not None and not waiting.is_for(decided):
        return waiting.pending
    offered, request = decided.offered, decided.offered.request
    if request is not None and decided.agreed:
        return _mint(transaction, keyring, asker, request, offered, ask=ask, policy=policy, now=now)
    # The log says that they have expired before it says what takes their room.
    waits = expire_requests(transaction, now=now, task=asker.task)
    # After the policy has changed, nobody can consent to what it offered before.
    for one in waits:
        if one.id != offered.id and is_of(one, asker, ask):
            expire(transaction, one, now=now)
    made = _request(policy, asker, offered, () if request is None else request.granted, now=now)
    transaction.count_request(made)
    if not offered.needs_consent:
        return _mint(transaction, keyring, asker, made, offered, ask=ask, policy=policy, now=now)
    keep_waiting(transaction, policy, asker, ask, made, offered=offered)
    return pending_answer(ask, made)


def refuse(transaction: Writing, asker: Asker, ask: Ask, refused: NotOffered, *, now: int) -> Refused:
    """Write to the log that an ask is refused, and return this answer."""
    event = AskRefused(
        task=asker.task,
        path=tuple(map(b64u, asker.path)),
        hops=asker.labels,
        audience=ask.audience,
        action=ask.action,
        reasons=tuple(reason.code for reason in refused.refusals),
    )
    event.write(transaction, at=now)
    return Refused(refused.refusals)


def _standing(
    reading: Reading,
    keyring: KeyRing,
    policy: Policy,
    request: RequestRecord,
    offered: Offered,
    *,
    asker: Asker,
    ask: Ask,
    now: int,
) -> Answer | None:
    """The answer that a request already has, if it is for this very block; None if it must be decided again."""
    # Before the block is compared: a denial stays, even if the policy would now make another block.
    if request.state == "denied":
        raise NotOffered(ask_refusal("request_denied"))
    if not _is_of(request, offered):
        return None
    if request.state == "granted":
        # The consent is verified again. If it does not count any more, a person is asked again.
        agreed = not offered.needs_consent or _is_agreed_to(reading, policy, request, offered)
        return _granted(reading, keyring, request, asker) if agreed else None
    waits = request.state == "pending" and now < request.until
    asks_the_same = offered.needs_consent and request.approvers == offered.match.rule.approvers
    return pending_answer(ask, request) if waits and asks_the_same else None


def _is_of(request: RequestRecord, offered: Offered) -> bool:
    """Whether a request is for what the policy offers now: the same block, and the same approvals of its calls."""
    same = (request.block, request.approval, request.carried) == (offered.block, offered.approval, offered.carried)
    return same and request.to_approve is None


def _granted(reading: Reading, keyring: KeyRing, request: RequestRecord, asker: Asker) -> Answer | None:
    """The grant, minted again; None if the key that it was minted with is no longer live."""
    if request.capability is None or request.minted_under is None or request.nonce is None or request.minted is None:
        return None
    if revoked := _revoked(reading, request):
        raise NotOffered(ask_refusal("grant_revoked", revoked))
    # The store holds no token. The kept nonce, time and block give the same bytes again.
    key = keyring.get(request.minted_under)
    if key is None or reading.death(of_kid(key.kid)):
        return None
    audience_key = key.audience_key(request.audience)
    again = mint_block(audience_key, request.block.encode(), now=request.minted, nonce=request.nonce)
    return Granted(_demanding(again, _policys_demand(audience_key, request), asker))


def _needs_no_person(reading: Reading, policy: Policy, request: RequestRecord, offered: Offered) -> bool:
    """Whether a request that was approved, or granted under a retired key, can be granted without asking a person."""
    if request.state not in _AGAIN or not _is_of(request, offered):
        return False
    return not offered.needs_consent or _is_agreed_to(reading, policy, request, offered)


def _is_agreed_to(reading: Reading, policy: Policy, request: RequestRecord, offered: Offered) -> bool:
    """Whether the consent to a request still counts, by the policy as it is now."""
    if request.approver is None or request.signed is None or request.signature is None:
        return False
    verdict = Verdict(
        request=request.id, yes=True, approver=request.approver, at=request.signed, signature=request.signature
    )
    try:
        demand_answer(reading, policy, offered.match.rule.approvers, signed_inquiry(reading, request), verdict)
    except InvalidRequest:
        return False
    return True


def _request(policy: Policy, asker: Asker, offered: Offered, earlier: tuple[str, ...], *, now: int) -> RequestRecord:
    rule, ask = offered.match.rule, offered.ask
    args = ask.canonical_args
    return RequestRecord(
        id=offered.id,
        task=asker.task,
        audience=ask.audience,
        action=ask.action,
        args=None if args is None else args.decode(),
        ids=tuple(map(b64u, asker.ids)),
        kid=asker.kid,
        issued=asker.issued,
        path=tuple(map(b64u, asker.path)),
        labels=asker.labels,
        block=offered.block,
        principal=offered.intent.principal,
        asked=now,
        until=asker.expires if rule.within is None else min(asker.expires, now + rule.within),
        approvers=rule.approvers,
        excluded=excluded(policy, rule.approvers, offered.intent, asker.labels, asker.written_keys),
        earlier=earlier,
        round=offered.round,
        all_args=offered.all_args,
        keys=asker.written_keys,
        approval=offered.approval,
        carried=offered.carried,
    )


def keep_waiting(
    transaction: Writing,
    policy: Policy,
    asker: Asker,
    ask: Ask,
    made: RequestRecord,
    *,
    offered: Offered | None = None,
) -> None:
    """Keep a request that waits for people, and write it to the log with the evidence of who asked.

    `offered` is what the policy offers for it; None for an approval.
    """
    recorded = record_ask(asker, ask, offered)
    event = RequestMade(
        request=made.id,
        task=made.task,
        path=made.path,
        hops=made.labels,
        audience=made.audience,
        action=made.action,
        until=made.until,
        approvers=made.approvers,
        round=made.round,
        pinned=made.args is not None,
        policy=policy.digest or None,
        call=made.to_approve is not None,
        ask=recorded.evidence,
    )
    recorded.write(transaction, event, made.task, at=made.asked)
    transaction.keep_request(made)


def _mint(
    transaction: Writing,
    keyring: KeyRing,
    asker: Asker,
    request: RequestRecord,
    offered: Offered,
    *,
    ask: Ask,
    policy: Policy,
    now: int,
) -> Granted:
    recorded = record_ask(asker, ask, offered)
    key, nonce = keyring.active, b64u(os.urandom(16))
    audience_key = key.audience_key(request.audience)
    demand = None if offered.approval is None else _drawn(audience_key, offered.approval)
    minted_block = mint_block(audience_key, request.block.encode(), now=now, nonce=nonce)
    capability = _demanding(minted_block, demand, asker)
    ids = tuple(map(b64u, capability.ids))
    allowed = (_in_words(request, offered),)
    event = replace(
        CapabilityMinted.of(asker.task, capability, allow=allowed, expires=asker.expires),
        request=request.id,
        round=request.round,
        policy=policy.digest or None,
        path=request.path,
        hops=request.labels,
        asker=request.ids,
        ask=recorded.evidence,
        consent=offered.needs_consent,
    )
    recorded.write(transaction, event, asker.task, at=now)
    minted = replace(
        request,
        state="granted",
        minted_under=key.kid,
        nonce=nonce,
        minted=now,
        capability=ids[0],
        earlier=(*request.granted[-_MOST_EARLIER:], *ids[1:]),
        demand=None if demand is None else demand.cid.decode("latin-1"),
    )
    transaction.keep_request(minted)
    transaction.keep_grant(GrantRecord(capability.ids[0], asker.grant_ids, asker.kid, asker.issued, now))
    return Granted(capability)


def _demanding(capability: Capability, demand: KeyedCaveat | None, asker: Asker) -> Capability:
    """The grant with the demands for approvals: that of the policy, and those that its asker has."""
    for one in (*(() if demand is None else (demand,)), *asker.demands):
        capability = capability.demanding(one)
    return capability


def _drawn(key: AudienceKey, terms: ApprovalTerms) -> KeyedCaveat:
    nonce = os.urandom(16)
    return terms.drawn(_demand_key(key, nonce), nonce)


def _policys_demand(key: AudienceKey, request: RequestRecord) -> KeyedCaveat | None:
    """The demand that the policy made when a request was granted, with its key; None if it made none."""
    cid = None if request.demand is None else request.demand.encode("latin-1")
    caveat = None if cid is None else read_approval_caveat(cid)
    if caveat is None:
        return None
    return KeyedCaveat(caveat.cid, macaroon_key(_demand_key(key, unb64u(caveat.nonce))))


def _demand_key(key: AudienceKey, nonce: bytes) -> bytes:
    """The key of a demand (32 bytes), which no store holds: it follows from the audience's key, and the demand's nonce.

    The audience can compute it. It could open the vid anyway, and its own tokens are good at itself only.
    """
    # No identifier begins so: nobody can make a token from it.
    return mac(key.mac_key, b"capx/1/approval-key" + nonce)


def _demand_undecided(reading: Reading, asker: Asker, ask: Ask) -> None:
    """Raise NotOffered if the same was denied to the node, or a grant of it to the node or above was revoked.

    The token does not matter: an agent must not get round a denial with another token, nor round a revocation with a
    sub-agent.
    """
    for request in reading.requests_for(tuple(map(b64u, asker.path)), calls_like(ask)):
        if request.state == "denied" and request.node == b64u(asker.node) and is_same(request, ask):
            raise NotOffered(ask_refusal("request_denied"))
        if request.granted and is_covered(request, ask) and (revoked := _revoked(reading, request)):
            raise NotOffered(ask_refusal("grant_revoked", revoked))


def _revoked(reading: Reading, request: RequestRecord) -> str | None:
    """The id of a grant of this request that somebody revoked; not one that died because the token that asked died."""
    # A grant also dies with the token that asked. Only a death before that one was meant for the grant itself. All
    # tokens that can ask are issued when their task opens, so after a revocation of an instant nobody asks again.
    ids = {unb64u(id_): id_ for id_ in request.granted}
    deaths = reading.deaths_of(ids)
    if not deaths:
        return None
    fell = min((death.seq for death in reading.deaths_of(asker_of(request).revocation_keys).values()), default=None)
    return next((ids[key] for key in ids if key in deaths and (fell is None or deaths[key].seq < fell)), None)


def _in_words(request: RequestRecord, offered: Offered) -> str:
    """A grant in words, for the log. Pinned arguments stay with the request: they are data of the task."""
    common = entry_in_common(offered.match.offer.entry, Entry(request.action)) or Entry(request.action)
    return common.sentence() + ("" if request.args is None else ", only for the arguments of the request")
