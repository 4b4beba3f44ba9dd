"""The key (Ed25519) with which a person signs their intents and their consents, and its file.

    principal NAME SEED    the file: one line, which only its owner can read

Laws: the key stays with its person. An authority knows only the public key, from its policy. The key does not sign
intents of other people.
"""

from typing import ClassVar

from capx.crypto.base64url import b64u
from capx.crypto.named_key import NamedKey
from capx.errors import InvalidRequest
from capx.intents.intent import Intent, SignedIntent


class PrincipalKey(NamedKey):
    """The key of the principal with this name."""

    __slots__ = ()

    kind: ClassVar[str] = "principal"

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
