"""Whose answer to a request counts, by the policy as it is.

Laws: an answer counts while its giver is a principal of the policy, is one of those who are asked, and has the key that
signed it. Who wanted the work, and who does it, do not consent to it, whatever name they do it under: not the principal
of the intent, by name or key, and nobody who is called like its agent, or like an agent on the path of the asker. To
say no is open to them.
"""

from collections.abc import Iterable

from capx.authority.requests.verdict import Inquiry, Verdict
from capx.errors import InvalidRequest
from capx.intents.intent import Intent
from capx.policy.policy import Policy
from capx.store.protocols import Reading
from capx_caveats import shown


def demand_answer(
    reading: Reading, policy: Policy, approvers: Iterable[str], inquiry: Inquiry, verdict: Verdict
) -> None:
    """Raise InvalidRequest unless this is an answer of one of these groups or principals, and counts."""
    name, person = verdict.approver, policy.principals.get(verdict.approver)
    if person is None or person.key is None:
        raise InvalidRequest(f"{name!r:.80} is no principal of the policy with a key")
    if not any(name in policy.members(group) for group in approvers):
        raise InvalidRequest(f"{name!r:.80} is none of those who can answer: {', '.join(map(shown, approvers))}")
    if not verdict.is_signed_by(person.key, inquiry):
        raise InvalidRequest(f"{name!r:.80} has not signed this answer to what request {inquiry.request.id} shows")
    involved = _is_involved(policy, name, inquiry.intent, inquiry.request.labels)
    if verdict.yes and (involved or _has_signed(reading, person.key, inquiry)):
        raise InvalidRequest(f"{name!r:.80} wanted this work, or is called like an agent that does it: ask another one")


def excluded(policy: Policy, approvers: Iterable[str], intent: Intent, labels: Iterable[str]) -> tuple[str, ...]:
    """Those of the approvers who may say no alone."""
    asked = dict.fromkeys(name for group in approvers for name in policy.members(group))
    return tuple(name for name in asked if _is_involved(policy, name, intent, labels))


def _is_involved(policy: Policy, name: str, intent: Intent, labels: Iterable[str]) -> bool:
    key = policy.principals[name].key
    names = {name} if key is None else {one.name for one in policy.principals.values() if one.key == key}
    return not names.isdisjoint({intent.principal, intent.agent, *labels})


def _has_signed(reading: Reading, key: bytes, inquiry: Inquiry) -> bool:
    """Whether the intent was signed with this key, whoever has it by now."""
    from capx.crypto.ed25519 import is_signed_by

    kept = reading.intent(inquiry.intent.digest)
    return kept is not None and kept.proof is not None and is_signed_by(key, inquiry.intent.message(), kept.proof)
