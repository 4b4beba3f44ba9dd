"""What a person answers to a request, signed over what they were shown.

    signature = Ed25519 by the approver's key over H("capx/1/verdict", request digest, approver, yes or no, at)

Laws: the digest covers everything that the request shows, so that nothing else is agreed to than what was seen.
"""

from msgspec import Struct


class Verdict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One answer: `approver` is a principal of the policy, `at` when they gave it (Unix seconds)."""

    request: str
    yes: bool
    approver: str
    at: int
    signature: str
