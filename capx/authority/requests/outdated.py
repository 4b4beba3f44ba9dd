"""Finds grants to which a person consented, and that are good for more than the policy would give now.

Laws:

- A grant keeps its terms until its task ends, also if the policy has become stricter: if it now pins a consent to the
  arguments of the call, or gives it fewer uses. Nobody ends such a grant but a person who revokes it.
- A grant is reported only if it is alive at this time.
"""

from collections.abc import Iterator

from msgspec import Struct

from capx.authority.ending import as_of
from capx.authority.requests.inheritance import allowlists, spelt
from capx.authority.requests.request_state import ask_of
from capx.crypto.base64url import unb64u
from capx.errors import InvalidRequest
from capx.intents.intent import parse_intent
from capx.policy.policy import Policy
from capx.policy.terms import Match
from capx.store.events import CapabilityMinted, RequestApproved
from capx.store.lifecycle import FIRST
from capx.store.protocols import Reading
from capx.store.records import RequestRecord, TaskRecord
from capx.tokens.revocation_key import of_kid
from capx.tokens.uses_counter import is_uses_counter
from capx_caveats import Allow


class OutdatedGrant(Struct, frozen=True):
    """A grant that gives more than the policy would now: its id, for revoking it, its request, and what is more."""

    capability: str
    request: RequestRecord
    why: str


def outdated_grants(reading: Reading, policy: Policy, *, now: int) -> Iterator[OutdatedGrant]:
    """Yield the outdated grants of all tasks that are active at `now` (Unix seconds)."""
    for task in reading.tasks():
        if as_of(task, now).state == FIRST:
            yield from _of_task(reading, policy, task, now)


def _of_task(reading: Reading, policy: Policy, task: TaskRecord, now: int) -> Iterator[OutdatedGrant]:
    # By the log: a request that was made again, by a changed policy, no longer names who approved it before.
    approvals = reading.events(task=task.id, kind=RequestApproved.kind)
    approved = {event.read(RequestApproved).request for event in approvals}
    for event in reading.events(task=task.id, kind=CapabilityMinted.kind):
        minted = event.read(CapabilityMinted)
        request = reading.request(minted.request) if minted.request in approved else None
        if request is None or not _is_alive(reading, minted, now):
            continue
        if why := _more(minted, request, _match(reading, policy, task, request)):
            yield OutdatedGrant(minted.ids[-1], request, why)


def _is_alive(reading: Reading, minted: CapabilityMinted, now: int) -> bool:
    ids = (*minted.ids, *minted.path, *minted.asker)
    dead = any(reading.death(unb64u(id_)) for id_ in ids) or reading.death(of_kid(minted.kid)) is not None
    return now < minted.expires and not dead


def _match(reading: Reading, policy: Policy, task: TaskRecord, request: RequestRecord) -> Match | None:
    """The rule and offer that decide the ask of a request now; None if the policy no longer offers it."""
    kept = None if task.intent is None else reading.intent(task.intent)
    if kept is None or kept.document is None:
        return None
    ask = ask_of(request)
    try:
        return policy.terms(parse_intent(kept.document.encode())).match(ask.audience, ask.action, ask.args)
    except InvalidRequest:
        return None


def _more(minted: CapabilityMinted, request: RequestRecord, match: Match | None) -> str | None:
    """What the grant is good for beyond what the policy gives; None if it is good for no more."""
    if match is None:
        return "the policy no longer gives it"
    rule = match.rule
    if request.args is None and rule.needs_arguments:
        return "it is good for any arguments, and the policy now pins them"
    uses = next((int(budget.limit) for budget in minted.budgets if is_uses_counter(budget.counter)), None)
    if rule.uses is not None and (uses is None or uses > rule.uses):
        good = "any number of calls" if uses is None else f"{uses} calls"
        return f"it is good for {good}, and the policy now gives {rule.uses}"
    # Of a grant before that one, the store no longer has the block.
    return _other_terms(request, match) if request.capability in minted.ids else None


def _other_terms(request: RequestRecord, match: Match) -> str | None:
    """Whether the block of a grant allows other calls than the policy would now."""
    ask, rule = ask_of(request), match.rule
    wanted = ask.entry(None if request.all_args is None else rule.pinned_names)
    if allowlists(request) == (spelt(Allow((match.offer.entry,))), spelt(Allow((wanted,)))):
        return None
    return "the policy now gives it on other terms"
