"""The answer of a person to a request, signed over what the request shows.

    signature = Ed25519 by the approver's key over H("capx/1/verdict", digest of the inquiry, approver, yes or no, at)

Law: a person agrees only to what they saw. A request that is made again, or would grant something else, has another
digest, so it needs another verdict.
"""

from typing import TYPE_CHECKING

from msgspec import Struct

from capx.authority.requests.inquiry import Inquiry
from capx.crypto.instants import instant
from capx.intents.verdict_message import verdict_message

if TYPE_CHECKING:
    from capx.intents.principal_key import PrincipalKey  # signatures are slow to import, and few need them


class Verdict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One answer. `approver` is a principal of the policy; `at` is the time of the answer (Unix seconds)."""

    request: str
    yes: bool
    approver: str
    at: int
    signature: str

    def __post_init__(self) -> None:
        instant("at", self.at)

    @classmethod
    def sign(cls, inquiry: Inquiry, key: "PrincipalKey", *, yes: bool, at: int) -> "Verdict":
        """Sign an answer with the key of a person."""
        # Before it is signed: a signature is good by itself.
        message = verdict_message(inquiry.digest, key.name, yes=yes, at=instant("at", at))
        return cls(request=inquiry.request.id, yes=yes, approver=key.name, at=at, signature=key.sign(message))

    def is_signed_by(self, public: bytes, inquiry: Inquiry) -> bool:
        """Whether the holder of this public key (32 bytes) has signed this answer to this very inquiry."""
        from capx.crypto.ed25519 import is_signed_by

        message = verdict_message(inquiry.digest, self.approver, yes=self.yes, at=self.at)
        return is_signed_by(public, message, self.signature)
