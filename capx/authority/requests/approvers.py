"""Checking whose answer to a request counts, by the policy as it is now.

Laws:

- An answer counts while the person is a principal of the policy, is one of the approvers, and has the key that signed
  the answer.
- People do not consent to their own work. The principal of the intent cannot consent, under any name or key. Nobody can
  consent who has the same name or key as the agent of the intent, or as an agent on the path of the asker.
- All of these can still deny.
- If each call of a grant needs an approval, those who are involved are left out of the people who can give it, and so
  is who has no key. If too few are left, nothing is granted: the number is never lowered.
"""

from collections.abc import Iterable, Sequence

from capx.authority.requests.inquiry import Inquiry
from capx.authority.requests.verdict import Verdict
from capx.errors import InvalidRequest
from capx.intents.intent import Intent
from capx.policy.describe import consenting
from capx.policy.policy import Policy
from capx.store.protocols import Reading
from capx.tokens.approval_caveat import MAX_APPROVERS, ApprovalTerms
from capx.tokens.grants import ApprovalRule


def demand_answer(
    reading: Reading, policy: Policy, approvers: Sequence[str], inquiry: Inquiry, verdict: Verdict
) -> None:
    """Raise InvalidRequest unless the verdict comes from one of these groups or principals, and counts."""
    name, person = verdict.approver, policy.principals.get(verdict.approver)
    if person is None or person.key is None:
        raise InvalidRequest(
            f"the policy has no principal {name!r:.80} with a key: an operator adds one with capx principal add"
        )
    if not any(name in policy.members(group) for group in approvers):
        raise InvalidRequest(f"{name} cannot answer this request; who can: {consenting(policy, approvers)}")
    if not verdict.is_signed_by(person.key, inquiry):
        raise InvalidRequest(
            f"the signature of {name} does not fit what request {inquiry.request.id} shows: look at it again, and sign "
            "with the key of the policy"
        )
    # Only a consent needs an independent person. A denial cannot give anybody more.
    involved = _is_involved(policy, name, inquiry.intent, inquiry.request.labels, inquiry.request.keys)
    if verdict.yes and (involved or _has_signed(reading, person.key, inquiry)):
        raise InvalidRequest(
            f"{name} requested this work, or has the same name or key as one of its agents: someone else must approve"
        )


def excluded(
    policy: Policy, approvers: Iterable[str], intent: Intent, labels: Iterable[str], keys: Iterable[str]
) -> tuple[str, ...]:
    """The approvers who can only deny; `labels` and `keys` are those of the agents on the path of the asker."""
    names = dict.fromkeys(name for group in approvers for name in policy.members(group))
    return tuple(name for name in names if _is_involved(policy, name, intent, labels, keys))


def approval_terms(
    policy: Policy, rule: ApprovalRule, intent: Intent, labels: Sequence[str] = (), keys: Sequence[str] = ()
) -> ApprovalTerms:
    """Whose approval a token demands by this rule; InvalidRequest if too few people are left, or too many.

    `labels` and `keys` are those of the agents on the path of its holder.
    """
    names = dict.fromkeys(name for group in rule.by for name in policy.members(group))
    people = [name for name in names if not _is_involved(policy, name, intent, labels, keys)]
    # The policy asks for a confirmation of the very person: nobody else is meant.
    people += [intent.principal] if rule.principal else []
    known = [policy.principals[name].key for name in people if name in policy.principals]
    able = tuple(dict.fromkeys(_written(key) for key in known if key is not None))
    if len(able) < rule.count:
        raise InvalidRequest(
            f"each call needs the approval of {rule.count}, and the policy leaves {len(able)} who can give it: not "
            "those who requested this work, nor those with the name or key of one of its agents"
        )
    if len(able) > MAX_APPROVERS:
        raise InvalidRequest(
            f"{len(able)} people could approve, and a token names at most {MAX_APPROVERS}: name a smaller group in `by`"
        )
    return ApprovalTerms(able, rule.count, rule.lasts)


def _is_involved(policy: Policy, name: str, intent: Intent, labels: Iterable[str], keys: Iterable[str]) -> bool:
    key = policy.principals[name].key
    if key is not None and _written(key) in {intent.agent_key, *keys}:
        return True
    # One person may be two principals with the same key. All names of that key count as one.
    names = {name} if key is None else {one.name for one in policy.principals.values() if one.key == key}
    return not names.isdisjoint({intent.principal, intent.agent, *labels})


def _written(key: bytes) -> str:
    from capx.crypto.ed25519 import public_text  # signatures are slow to import, and few need them

    return public_text(key)


def _has_signed(reading: Reading, key: bytes, inquiry: Inquiry) -> bool:
    """Whether the intent was signed with this key, even if another principal has the key now."""
    from capx.crypto.ed25519 import is_signed_by

    kept = reading.intent(inquiry.intent.digest)
    return kept is not None and kept.proof is not None and is_signed_by(key, inquiry.intent.message(), kept.proof)
