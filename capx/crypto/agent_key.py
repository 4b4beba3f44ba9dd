"""The key (Ed25519) with which an agent signs its delegations and presentations, and opens what is sealed to it.

    agent NAME SEED    the file: one line, which only its owner can read

Laws: the key stays with its agent, and is never derived from another key. What a token says of it is its public half.
"""

from typing import ClassVar

from capx.crypto import key_file
from capx.crypto.ed25519 import ALGORITHM, parse_public
from capx.crypto.named_key import NamedKey
from capx.crypto.sealed import Kind, unseal
from capx.errors import KeyProblem


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


def parse_agent_key(public: object) -> bytes:
    """Return the public key of an agent (32 bytes) in a text; KeyProblem for anything else says what to give instead.

    `public` is written `ed25519:` and 43 characters.
    """
    if not isinstance(public, str):
        cure = "pass its public half, key.public" if hasattr(public, "public") else f"{ALGORITHM} and 43 characters"
        raise KeyProblem(f"an agent's key must be text: {cure}")
    if public.startswith(ALGORITHM):
        return parse_public(public)
    # The text is not shown, and not kept: it may be a secret key, and error reporters send the locals of a traceback.
    is_secret = key_file.is_text(public)
    del public
    if is_secret:
        raise KeyProblem(
            "this is the text of a key file, a secret, and others may have read it here or in the history of the "
            "shell: make another key, and give its public half, which capx agent-key show FILE prints"
        )
    raise KeyProblem(f"this is not a public key of an agent: capx agent-key show FILE prints it, {ALGORITHM}…")
