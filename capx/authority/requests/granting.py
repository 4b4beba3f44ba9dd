"""Answering asks, and granting at run time, within one transaction.

    at_open, on_request      minted
    ask                      pending ──a person consents──▶ approved ──asked again──▶ minted
                                     ├─a person denies────▶ denied
                                     └─nobody answers─────▶ expired ──asked again──▶ pending

Laws:

- The transaction that mints also checks that the asker is alive and that a consent still counts.
- A request has one answer. It holds while the policy would make the very same block; for another block everything is
  decided again.
- A person's denial and a revoked grant are final for the node, even with another token or a newer policy.
- Asking again returns the same grant, byte for byte.
- The store keeps, with each grant, the token that asked for it.
"""

import os
from typing import Final

from msgspec.structs import replace

from capx.authority.requests.approvers import demand_answer, excluded
from capx.authority.requests.inheritance import Asker, asker_of
from capx.authority.requests.offering import NotOffered, Offered, ask_refusal, offer
from capx.authority.requests.request_state import expire_requests, is_same, signed_inquiry
from capx.authority.requests.verdict import Verdict
from capx.crypto.base64url import b64u, unb64u
from capx.crypto.keys import KeyRing
from capx.errors import InvalidRequest
from capx.policy.policy import Policy
from capx.store.events import AskRefused, CapabilityMinted, RequestMade
from capx.store.protocols import Reading, Writing
from capx.store.records import GrantRecord, RequestRecord
from capx.tokens.capability import mint_block
from capx.tokens.effective.intersection import entry_in_common
from capx.tokens.revocation_key import of_kid
from capx.verify.ask import Answer, Ask, Granted, Pending, Refused
from capx_caveats import Entry

OF_NODE, OF_TASK = 200, 2_000
"""The most requests by the agents of one node, and of one task."""
WAITING_OF_NODE, WAITING_OF_TASK = 10, 50
"""The most of them that may wait for a person at once."""
_AGAIN: Final = frozenset({"approved", "granted"})


def standing_answer(
    reading: Reading, keyring: KeyRing, policy: Policy, asker: Asker, ask: Ask, *, now: int
) -> Answer | None:
    """The answer that an ask already has, if it still holds and nothing has to be written; else None."""
    # Most asks are new. Look first, because an offer is slow to make; but a list of pins gives the request another id.
    listed = ask.args is not None and any(purpose.lists_pins for purpose in policy.purposes.values())
    if not listed and reading.request(ask.request(asker.ids[-1])) is None:
        return None
    try:
        offered = offer(reading, keyring, policy, asker, ask, now=now)
        request = reading.request(offered.ask.request(asker.ids[-1]))
        return None if request is None else _standing(reading, keyring, ask, request, offered, now=now)
    except NotOffered:
        # Left to `answer`, which also writes the refusal into the log.
        return None


def answer(transaction: Writing, keyring: KeyRing, policy: Policy, asker: Asker, ask: Ask, *, now: int) -> Answer:
    """Answer an ask at `now` (Unix seconds) by this policy. The caller has checked that the active key is live."""
    try:
        return _answer(transaction, keyring, policy, asker, ask, now=now)
    except NotOffered as refused:
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


def _answer(transaction: Writing, keyring: KeyRing, policy: Policy, asker: Asker, ask: Ask, *, now: int) -> Answer:
    offered = offer(transaction, keyring, policy, asker, ask, now=now)
    request = transaction.request(offered.ask.request(asker.ids[-1]))
    if request is not None:
        standing = _standing(transaction, keyring, ask, request, offered, now=now)
        if standing is not None:
            return standing
    # A request belongs to one token. Another token of the same agent must not get round a denial or a revocation.
    _demand_undecided(transaction, asker, ask)
    if request is not None and _holds(transaction, policy, request, offered):
        return _mint(transaction, keyring, asker, request, offered, policy=policy, now=now)
    # Requests that nobody can answer any more must not take the room of this one.
    expire_requests(transaction, now=now, task=asker.task)
    _demand_room(transaction, request, asker, waits=offered.needs_consent, now=now)
    earlier = () if request is None else request.granted
    made = _request(policy, asker, offered, earlier, now=now)
    if not offered.needs_consent:
        return _mint(transaction, keyring, asker, made, offered, policy=policy, now=now)
    _wait(transaction, policy, made)
    return _pending(ask, made)


def _standing(
    reading: Reading, keyring: KeyRing, ask: Ask, request: RequestRecord, offered: Offered, *, now: int
) -> Answer | None:
    """The answer that a request already has, if it is for this very block; None if it must be decided again."""
    # Before the block is compared: a denial stays, even if the policy would now make another block.
    if request.state == "denied":
        return Refused((ask_refusal("request_denied"),))
    if request.block != offered.block:
        return None
    if request.state == "granted":
        return _granted(reading, keyring, request)
    waits = request.state == "pending" and now < request.until
    asks_the_same = offered.needs_consent and request.approvers == offered.match.rule.approvers
    return _pending(ask, request) if waits and asks_the_same else None


def _granted(reading: Reading, keyring: KeyRing, request: RequestRecord) -> Answer | None:
    """The grant, minted again; None if the key that it was minted with is no longer live."""
    if request.capability is None or request.minted_under is None or request.nonce is None or request.minted is None:
        return None
    if revoked := _revoked(reading, request):
        return Refused((ask_refusal("grant_revoked", revoked),))
    # The store holds no token. The kept nonce, time and block give the same bytes again.
    key = keyring.get(request.minted_under)
    if key is None or reading.death(of_kid(key.kid)):
        return None
    audience_key = key.audience_key(request.audience)
    return Granted(mint_block(audience_key, request.block.encode(), now=request.minted, nonce=request.nonce))


def _holds(reading: Reading, policy: Policy, request: RequestRecord, offered: Offered) -> bool:
    """Whether a request that was approved, or granted under a retired key, can be granted without asking a person."""
    if request.state not in _AGAIN or request.block != offered.block:
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
        id=ask.request(asker.ids[-1]),
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
        asked=now,
        until=asker.expires if rule.within is None else min(asker.expires, now + rule.within),
        approvers=rule.approvers,
        excluded=excluded(policy, rule.approvers, offered.intent, asker.labels),
        earlier=earlier,
        round=offered.round,
        all_args=offered.all_args,
    )


def _wait(transaction: Writing, policy: Policy, made: RequestRecord) -> None:
    event = RequestMade(
        request=made.id,
        task=made.task,
        path=made.path,
        hops=made.labels,
        audience=made.audience,
        action=made.action,
        until=made.until,
        approvers=made.approvers,
        pinned=made.args is not None,
        policy=policy.digest or None,
    )
    event.write(transaction, at=made.asked)
    transaction.keep_request(made)


def _mint(
    transaction: Writing,
    keyring: KeyRing,
    asker: Asker,
    request: RequestRecord,
    offered: Offered,
    *,
    policy: Policy,
    now: int,
) -> Granted:
    key, nonce = keyring.active, b64u(os.urandom(16))
    audience_key = key.audience_key(request.audience)
    capability = mint_block(audience_key, request.block.encode(), now=now, nonce=nonce)
    ids = tuple(map(b64u, capability.ids))
    allowed = (_in_words(request, offered),)
    event = replace(
        CapabilityMinted.of(asker.task, capability, allow=allowed, expires=asker.expires),
        request=request.id,
        policy=policy.digest or None,
        path=request.path,
        hops=request.labels,
        asker=request.ids,
    )
    event.write(transaction, at=now)
    minted = replace(
        request,
        state="granted",
        minted_under=key.kid,
        nonce=nonce,
        minted=now,
        capability=ids[0],
        earlier=(*request.granted, *ids[1:]),
    )
    transaction.keep_request(minted)
    transaction.keep_grant(GrantRecord(capability.ids[0], asker.ids, asker.kid, asker.issued, now))
    return Granted(capability)


def _demand_room(reading: Reading, request: RequestRecord | None, asker: Asker, *, waits: bool, now: int) -> None:
    """Raise NotOffered if there are too many requests. A request that is made again keeps its own place."""
    asked = reading.request_counts(asker.task, b64u(asker.node))
    if request is None and (asked.of_node >= OF_NODE or asked.of_task >= OF_TASK):
        raise NotOffered(ask_refusal("too_many", f"at most {OF_NODE} of one node, and {OF_TASK} of one task"))
    own = request is not None and request.state == "pending" and now < request.until
    if waits and (asked.waiting_of_node - own >= WAITING_OF_NODE or asked.waiting_of_task - own >= WAITING_OF_TASK):
        why = f"at most {WAITING_OF_NODE} of one node, and {WAITING_OF_TASK} of one task, wait for a person"
        raise NotOffered(ask_refusal("too_many", why))


def _demand_undecided(reading: Reading, asker: Asker, ask: Ask) -> None:
    """Raise NotOffered if the same was denied to the node, or was granted to it or above it and then revoked.

    The token does not matter: an agent must not get round a denial with another token, nor round a revocation with a
    sub-agent.
    """
    for node in asker.path:
        for request in reading.requests(task=asker.task, node=b64u(node)):
            if not is_same(request, ask):
                continue
            if request.state == "denied" and node == asker.node:
                raise NotOffered(ask_refusal("request_denied"))
            if request.granted and (revoked := _revoked(reading, request)):
                raise NotOffered(ask_refusal("grant_revoked", revoked))


def _revoked(reading: Reading, request: RequestRecord) -> str | None:
    """The id of a grant of this request that somebody revoked; not one that died because the token that asked died."""
    # A grant also dies with the token that asked. Only a death before that one was meant for the grant itself. All
    # tokens that can ask are issued when their task opens, so after a revocation of an instant nobody asks again.
    deaths = (reading.death(key) for key in asker_of(request).revocation_keys)
    fell = min((death.seq for death in deaths if death is not None), default=None)
    for id_ in request.granted:
        death = reading.death(unb64u(id_))
        if death is not None and (fell is None or death.seq < fell):
            return id_
    return None


def _pending(ask: Ask, request: RequestRecord) -> Pending:
    return Pending(ask, request=request.id, until=request.until, approvers=request.approvers)


def _in_words(request: RequestRecord, offered: Offered) -> str:
    """A grant in words, for the log. Pinned arguments stay with the request: they are data of the task."""
    common = entry_in_common(offered.match.offer.entry, Entry(request.action)) or Entry(request.action)
    return common.sentence() + ("" if request.args is None else ", only for the arguments of the request")
