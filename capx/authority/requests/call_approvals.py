"""Asking people to approve one call, and handing out what they have signed.

    ask        pending ──the people sign────▶ granted (the discharge is kept)
                       ├─one of them denies─▶ denied
                       └─nobody answers─────▶ expired ──asked again──▶ pending

Laws:

- What is shown of the asker, its task and its intent is what its token says, which was verified. That its token has the
  demand is a claim: an approval of another demand opens nothing.
- Only the people whom the demand names are asked, as far as the policy knows their keys. A verifier goes by the demand
  alone: whoever demanded has chosen them.
- The authority keeps an approval only if it is for the very document of the request, and signed with keys of the demand
  that the policy knows. It has no key to check the MACs with: the resource does that.
- Asked again, it gives the same approval, until that has expired, is used up or was revoked. Then people are asked
  again, with another document. A person's denial is final for the node.
"""

from decimal import Decimal
from typing import Final

from msgspec.structs import replace

from capx.authority.requests.granting import keep_waiting, refuse
from capx.authority.requests.inheritance import Asker, spelt
from capx.authority.requests.offering import (
    NotOffered,
    ask_refusal,
    demand_intent,
    demand_unspent,
    known_intent,
    living_task,
    unfit,
)
from capx.authority.requests.quotas import demand_room
from capx.authority.requests.request_state import (
    ask_of,
    calls_like,
    counting_half,
    expire,
    expire_requests,
    is_overdue,
    is_same,
    known_request,
    outcome,
    pending_answer,
)
from capx.crypto.base64url import b64u
from capx.crypto.canonical_json import canonical
from capx.crypto.keys import KeyRing
from capx.errors import InvalidRequest, MalformedToken
from capx.intents.intent import Intent
from capx.policy.policy import Policy, Principal
from capx.store.events import ApprovalMade, ApprovalSigned, CapabilityMinted
from capx.store.protocols import Reading, Writing
from capx.store.records import RequestRecord, SignedAnswer
from capx.tokens.approval import read_approval
from capx.tokens.approval_caveat import ApprovalCaveat, read_approval_caveat
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.approving import read_signed, signatures_in
from capx.tokens.chain_text import block_text
from capx.tokens.discharge import Discharge
from capx.tokens.pins import pinned_entry
from capx.verify.ask import Answer, Approved, Ask
from capx.verify.evidence import ApprovalText
from capx_caveats import CALLS, DEFAULT, Allow, Entry, Expires, UntilCompleted

WITHIN: Final = 3_600
"""The seconds within which people answer."""
_MOST_EARLIER: Final = 16
"""The most earlier approvals of one request that are kept."""


def decide(reading: Reading, keyring: KeyRing, policy: Policy, asker: Asker, ask: Ask, *, now: int) -> Answer | None:
    """The answer that an ask for an approval already has; None if people have to be asked.

    NotOffered if it is refused.
    """
    task = living_task(reading, keyring, asker, now=now)
    digest = demand_intent(task, asker)
    try:
        intent = known_intent(reading, policy, digest)
    except InvalidRequest as refused:
        raise NotOffered(ask_refusal("intent_refused")) from refused
    request = reading.request(ask.request(asker.ids[-1]))
    if request is not None and request.state == "denied":
        raise NotOffered(ask_refusal("request_denied"))
    # By any token of the node, and whoever is asked: an agent must not get round a denial with another demand.
    if _denied(reading, b64u(asker.node), ask) is not None:
        raise NotOffered(ask_refusal("request_denied"))
    people = approvers(policy, _caveat(ask))
    if request is not None and request.state == "granted" and (found := _still_good(reading, policy, request, now)):
        return Approved(found)
    _demand_unspent(reading, asker, _caveat(ask))
    if request is not None and request.state == "pending" and now < request.until and request.approvers == people:
        return pending_answer(ask, request)
    if not people:
        why = "the policy knows none of the people whom the token names: send them the request as a file"
        raise NotOffered(ask_refusal("not_offered", why))
    principal = policy.principals.get(intent.principal) or Principal(name=intent.principal)
    demand_room(reading, request, asker, ask, principal, waits=True, now=now)
    # Here, and not only when it is written: then it is a refusal like any other.
    _block(asker, pinned_entry(ask.action, ask.args or {}))
    return None


def answer(transaction: Writing, keyring: KeyRing, policy: Policy, asker: Asker, ask: Ask, *, now: int) -> Answer:
    """Answer an ask for an approval within a transaction."""
    try:
        decided = decide(transaction, keyring, policy, asker, ask, now=now)
    except NotOffered as refused:
        return refuse(transaction, asker, ask, refused, now=now)
    if decided is not None:
        return decided
    expire_requests(transaction, now=now, task=asker.task)
    before = transaction.request(ask.request(asker.ids[-1]))
    made = _request(policy, asker, ask, before, known_intent(transaction, policy, asker.intent or ""), now=now)
    transaction.count_request(made)
    keep_waiting(transaction, policy, asker, ask, made)
    return pending_answer(ask, made)


def approvers(policy: Policy, caveat: ApprovalCaveat) -> tuple[str, ...]:
    """The principals of the policy whose keys a demand names."""
    return tuple(name for name, person in policy.principals.items() if person.key in caveat.keys)


def apply_approval(transaction: Writing, policy: Policy, request_id: str, text: str, *, now: int) -> RequestRecord:
    """Keep what a person has signed, and return the request: `expired` if that came too late.

    InvalidRequest if it does not count.
    """
    request = known_request(transaction, request_id)
    if request.to_approve is None:
        raise InvalidRequest(f"request {request.id} is for a grant, and not for an approval: answer it with a verdict")
    if request.state != "pending":
        raise InvalidRequest(f"request {request.id} no longer waits for an answer: {outcome(request)}")
    # Returned, not raised: an exception would undo the transaction, and this record with it.
    if is_overdue(transaction, request, now):
        return expire(transaction, request, now=now)
    try:
        discharge = Discharge.parse(text)
    except MalformedToken as error:
        raise InvalidRequest(f"this is no approval: {error}") from None
    document = ApprovalRequest.parse(request.to_approve)
    read = read_signed(document, discharge, now)
    if transaction.deaths_of(read.revocation_keys):
        raise InvalidRequest("this approval, or the key of somebody who signed it, was revoked: sign with another key")
    if denied := _denied(transaction, request.node, ask_of(request)):
        raise InvalidRequest(f"{denied.approver} has denied this call to the agent: a denial is final")
    before = _signed_before(transaction, request, discharge, now)
    signers = [_signer(policy, document.caveat, number) for number in signatures_in(discharge)]
    # One event for each signature: the log says who has signed, also if several came together.
    for count in range(before + 1, len(signers) + 1):
        fact = ApprovalMade if count == document.caveat.count else ApprovalSigned
        # The statement is the first block, and each signature one more.
        approval, blocks = b64u(discharge.id), tuple(map(block_text, discharge.blocks[: count + 1]))
        digest, signer = b64u(discharge.digests[count + 1]), signers[count - 1]
        event = fact(request.id, request.task, signer, approval, digest).write(transaction, at=now)
        given = SignedAnswer.of(request, event, signer, request.to_approve, yes=True)
        approved = ApprovalText(digest, discharge.cid.decode("ascii"), blocks)
        transaction.keep_answer(replace(given, signed=document.asked, approval=approval, approval_text=approved))
    signed = replace(
        request,
        state="granted" if len(signers) == document.caveat.count else "pending",
        approver=signers[-1],
        answered=now,
        signed=document.asked,
        discharge=discharge.text,
    )
    transaction.keep_request(signed)
    return signed


def _denied(reading: Reading, node: str, ask: Ask) -> RequestRecord | None:
    """A request of this node (base64url) for the approval of the same call that a person has denied."""
    found = reading.requests_for((node,), calls_like(ask))
    return next((one for one in found if one.state == "denied" and one.node == node and is_same(one, ask)), None)


def _signed_before(reading: Reading, request: RequestRecord, discharge: Discharge, now: int) -> int:
    """How many of the signatures of a discharge the request has already, of those that still count.

    InvalidRequest if others have signed another approval of the request: together they would be two halves.
    """
    before = counting_half(reading, request, now)
    if before is None:
        return 0
    signed = len(before.blocks)
    if discharge.blocks[:signed] != before.blocks or len(discharge.blocks) == signed:
        raise InvalidRequest(
            f"{request.approver} has signed this request already: look at it again, and sign the same approval"
        )
    return signed - 1


def _signer(policy: Policy, caveat: ApprovalCaveat, number: int) -> str:
    key = caveat.keys[number]
    found = next((name for name, person in policy.principals.items() if person.key == key), None)
    if found is None:
        raise InvalidRequest("the policy has no principal with the key that signed: an operator adds one")
    return found


def _still_good(reading: Reading, policy: Policy, request: RequestRecord, now: int) -> Discharge | None:
    """The approval of a request, unless it has expired, is used up or revoked, or the policy lost a key that signed."""
    if request.discharge is None or request.to_approve is None:
        return None
    discharge = Discharge.parse(request.discharge)
    found = read_approval(ApprovalRequest.parse(request.to_approve).caveat, discharge.blocks, DEFAULT)
    if found is None or found.ends <= now or reading.deaths_of(found.revocation_keys):
        return None
    if not {person.key for person in policy.principals.values()}.issuperset(found.signers):
        return None
    limits = [Decimal(one.budget.limit) for one in found.allotments if one.budget.unit == CALLS]
    spent = next((held.spent for held in reading.counters([b64u(discharge.id)]) if held.unit == CALLS), Decimal(0))
    # A call costs 1: less than that is no use any more.
    return None if limits and spent > min(limits) - 1 else discharge


def _demand_unspent(reading: Reading, asker: Asker, demand: ApprovalCaveat) -> None:
    """Raise NotOffered if each token of the task that the authority minted with this demand has a budget without room.

    The demand of a delegator is in none of them. Of such a call, the authority does not know the budgets.
    """
    cid = b64u(demand.cid).encode()
    minted = [event.read(CapabilityMinted) for event in reading.minted_in(asker.task) if cid in event.body]
    for one in minted:
        try:
            demand_unspent(reading, one.budgets)
        except NotOffered:
            if one is minted[-1]:
                raise
        else:
            return


def _caveat(ask: Ask) -> ApprovalCaveat:
    found = None if ask.demand is None else read_approval_caveat(ask.demand)
    if found is None:
        raise InvalidRequest("this ask names no demand for an approval")
    return found


def _request(
    policy: Policy, asker: Asker, ask: Ask, before: RequestRecord | None, intent: Intent, *, now: int
) -> RequestRecord:
    """The request that waits for people; `before` is the same request of an earlier round, if there was one."""
    caveat = _caveat(ask)
    document = ApprovalRequest.of(
        caveat.cid,
        audience=ask.audience,
        node=asker.node,
        action=ask.action,
        args=ask.args or {},
        task=asker.task,
        intent=asker.intent,
        now=now,
    )
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
        block=_block(asker, document.entry),
        principal=intent.principal,
        asked=now,
        until=min(asker.expires, now + WITHIN),
        approvers=approvers(policy, caveat),
        round=1 if before is None else before.round + 1,
        earlier=() if before is None else _approved_before(before),
        keys=asker.written_keys,
        to_approve=canonical(document.document()).decode(),
    )


def _approved_before(before: RequestRecord) -> tuple[str, ...]:
    """The ids of the approvals of the request so far, the newest last: people are told of them."""
    last = () if before.state != "granted" or before.discharge is None else (Discharge.parse(before.discharge).id,)
    return (*before.earlier, *map(b64u, last))[-_MOST_EARLIER:]


def _block(asker: Asker, entry: Entry) -> str:
    """What the token of an asker says, in the form in which a request keeps it: no token has this block."""
    others = (UntilCompleted(task) for task in asker.until if task != asker.task)
    pieces = (*asker.claims, *map(spelt, (Allow((entry,)), Expires(asker.expires), *others)))
    block = b"[" + b",".join(pieces) + b"]"
    # Nobody could read such a request again: one of them would keep all others from being listed.
    if why := unfit(block, len(pieces), DEFAULT):
        raise NotOffered(ask_refusal("not_inherited", f"its request would hold {why}"))
    return block.decode()
