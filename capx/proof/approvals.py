"""The approvals of calls in a proof: what the people who signed were shown, and what they agreed to."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from capx.crypto.base64url import b64u
from capx.crypto.ed25519 import public_text
from capx.errors import InvalidRequest
from capx.proof.chains import approval_of
from capx.proof.document import ProofBroken
from capx.proof.recorded import Recorded
from capx.proof.report import CallApproved
from capx.proof.trust import Trust
from capx.tokens.approval import Approval
from capx.tokens.approval_request import ApprovalRequest
from capx_caveats import CALLS, Allow, Caveat


def documents_in(documents: Iterable[Mapping[str, Any]]) -> dict[str, ApprovalRequest]:
    """The documents that approvers were shown, by the digest in their statements; ProofBroken for another document."""
    found: dict[str, ApprovalRequest] = {}
    for nth, document in enumerate(documents, 1):
        try:
            read = ApprovalRequest.parse(msgspec.json.encode(document))
        except InvalidRequest as error:
            raise ProofBroken(f"approval {nth} is no request for one: {error}") from None
        if read.shown in found:
            raise ProofBroken(f"approval {nth} stands in the proof twice")
        found[read.shown] = read
    return found


def shown_in(decisions: Iterable[Recorded]) -> set[str]:
    """The digests of what the approvers of these decisions were shown, as far as their approvals can be read."""
    found = (approval_of(one) for recorded in decisions for one in recorded.approvals)
    return {one.stated.shown for one in found if one is not None}


def call_approved(approval: Approval, trust: Trust, *, is_shown: bool, faults: tuple[str, ...]) -> CallApproved:
    """What an approval says, with the names of its signers as far as the trust file has them."""
    names = tuple([trust.person_with(key) or public_text(key) for key in approval.signers])
    calls = [one.budget.limit for one in approval.allotments if one.budget.unit == CALLS]
    return CallApproved(
        digest=b64u(approval.last),
        signers=names,
        calls=min(calls, key=Decimal, default=None),
        is_shown=is_shown,
        of=tuple([entry.sentence() for one in _allowed(approval) for entry in one.entries]),
        ends=approval.ends,
        faults=faults,
    )


def permits_action(approval: Approval, action: str) -> bool:
    """Whether the statement of an approval has an entry for an action, whatever its arguments are."""
    return all(one.permits(action) for one in _allowed(approval))


def caveats_in(approval: Approval) -> Sequence[Caveat]:
    """All restrictions of an approval."""
    return [one for section in approval.sections for one in section.caveats]


def _allowed(approval: Approval) -> Sequence[Allow]:
    return [one for one in caveats_in(approval) if isinstance(one, Allow)]
