"""The key (Ed25519) with which an agent signs its delegations and presentations, and opens what is sealed to it.

    agent NAME SEED    the file: one line, which only its owner can read

Laws: the key stays with its agent, and is never derived from another key. What a token says of it is its public half.
"""

from typing import ClassVar

from capx.crypto.named_key import NamedKey
from capx.crypto.sealed import Kind, unseal


class AgentKey(NamedKey):
    """The key of the agent with this name. The name is for people: tokens name the public key only."""

    __slots__ = ()

    kind: ClassVar[str] = "agent"

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message: 64 bytes."""
        return self._signer.sign(message)

    def unseal(self, sealed: str, kind: Kind) -> str:
        """Return the text that was sealed to this key; MalformedToken for anything else, and for another kind."""
        return unseal(sealed, kind, self._signer.seed)
