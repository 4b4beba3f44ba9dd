"""The key (Ed25519) with which a person signs their intents, consents and approvals, and its file.

    principal NAME SEED    the file: one line, which only its owner can read

Laws: the key stays with its person. An authority knows only the public key, from its policy. The key does not sign
intents of other people.
"""

from collections.abc import Iterable
from typing import ClassVar, Self

from capx.crypto.base64url import b64u
from capx.crypto.boxes import open_box
from capx.crypto.ed25519 import Signer, parse_public
from capx.crypto.named_key import NamedKey
from capx.errors import InvalidRequest
from capx.intents.intent import Intent, SignedIntent
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.approving import approve, cosign
from capx.tokens.discharge import Discharge
from capx_caveats import Appendable


class PrincipalKey(NamedKey):
    """The key of the principal with this name."""

    __slots__ = ()

    kind: ClassVar[str] = "principal"

    @classmethod
    def in_ssh_agent(cls, name: str, public: str | None = None) -> Self:
        """Return the key that ssh-agent holds, for the principal with this name; KeyProblem if it is not there.

        `public` (`ed25519:` and 43 characters) says which one, if it holds several of Ed25519. Such a key signs
        intents, answers and requests, but approves no calls: that needs its secret. Whoever is root where the agent
        runs, or to where it is forwarded, can sign with it.
        """
        from capx.crypto.ssh_agent import signer  # few keys are there

        return cls(name, signer(None if public is None else parse_public(public)))

    @property
    def can_approve_calls(self) -> bool:
        """Whether its secret is at hand, which opens the box of a demand for approvals."""
        return isinstance(self._signer, Signer)

    def sign(self, message: bytes) -> str:
        """Return the signature of a message: 64 bytes in base64url."""
        return b64u(self._signer.sign(message))

    def sign_intent(self, intent: Intent) -> SignedIntent:
        """Return the signed intent; InvalidRequest for an intent of another principal."""
        if intent.principal != self.name:
            raise InvalidRequest(
                f"this is the key of {self.name}, and {intent.principal} must sign this intent: use the other key"
            )
        return SignedIntent(intent, self.sign(intent.message()))

    def open_box(self, box: bytes) -> bytes | None:
        """Return the key in a box of a demand (80 bytes) that was sealed to this key; None for any other box."""
        return open_box(box, self._signer.seed)

    def approve(
        self,
        request: ApprovalRequest,
        *,
        uses: int | None = 1,
        lasts: int | None = None,
        caveats: Iterable[Appendable] = (),
        now: int | None = None,
    ) -> Discharge:
        """Return the approval of one call, with these arguments, for the agent of the request and those below it.

        It is good for `uses` calls (None: any number) and `lasts` seconds, by default ten minutes or what the demand
        permits. `caveats` restrict it further. If several people must sign, the others `cosign` it. InvalidRequest if
        this person is not asked. Look at the request first: nothing in it is verified.
        """
        return approve(request, self, uses=uses, lasts=lasts, caveats=caveats, now=now)

    def cosign(self, request: ApprovalRequest, approval: Discharge, *, now: int | None = None) -> Discharge:
        """Return the same approval with this person's signature as well.

        InvalidRequest if it is not for this request, has expired, or needs no signature of this person.
        """
        return cosign(request, approval, self, now=now)
