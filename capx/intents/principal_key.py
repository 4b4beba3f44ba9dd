"""The key (Ed25519) with which a person signs their intents and their consents, and its file.

    principal NAME SEED    the file: one line, which only its owner can read

Laws: the key stays with its person. An authority knows only the public key, from its policy. The key never shows. It
does not sign intents of other people. In the file, the name is percent-encoded (RFC 3986), in its only canonical
spelling.
"""

import os
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from capx.crypto import key_file
from capx.crypto.base64url import b64u, unb64u
from capx.crypto.ed25519 import SEED, Signer, public_text
from capx.crypto.hashing import digest
from capx.errors import InvalidRequest, KeyProblem, MalformedToken
from capx.intents.intent import Intent, SignedIntent
from capx_caveats import is_label

if TYPE_CHECKING:
    from pathlib import Path  # slow to import: a caller that passes one has imported it already

# Characters that stay readable, because names are often email addresses.
_PLAIN = "@+"
# With the digest and ".key" after it, this stays below 255 bytes, the limit of most file systems.
_LONGEST_NAME = 180


class PrincipalKey:
    """The key of the principal with this name."""

    __slots__ = ("_signer", "name")

    def __init__(self, name: str, signer: Signer) -> None:
        self.name = name
        self._signer = signer
        if not is_label(name):
            raise KeyProblem(f"{name!r:.80} cannot name a principal: use 1 to 128 characters, none of them hidden")

    @classmethod
    def generate(cls, name: str) -> "PrincipalKey":
        """Return a new key from the randomness of the operating system."""
        return cls(name, Signer(os.urandom(SEED)))

    @classmethod
    def load(cls, path: "Path") -> "PrincipalKey":
        """Read the key file of a principal; KeyProblem if it cannot be used."""
        keys = key_file.loaded(path, _read)
        if len(keys) > 1:
            raise KeyProblem(f"{path} holds {len(keys)} keys: give a file that holds only the key to sign with")
        return keys[0]

    def save(self, path: "Path") -> None:
        """Write a key file that only its owner can read; never over an existing file."""
        key_file.write(path, self)

    @property
    def public(self) -> str:
        """The public key, as it is written in a policy."""
        return public_text(self._signer.public)

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

    def __repr__(self) -> str:
        return f"PrincipalKey({self.name!r}, public={self.public!r})"

    def dump(self) -> str:
        """Return the text of the key file: a secret."""
        return f"principal {quote(self.name, _PLAIN)} {b64u(self._signer.seed)}\n"


def file_name(name: str) -> str:
    """Return the name of a key file for this principal: it cannot be a path, and no other principal has the same."""
    plain = quote(name, _PLAIN)
    if len(plain) <= _LONGEST_NAME:
        return f"{plain}.key"
    return f"{plain[:_LONGEST_NAME]}-{b64u(digest(b'capx/1/principal-file', name.encode())[:8])}.key"


def _read(fields: list[str]) -> PrincipalKey | str:
    if len(fields) != 3 or fields[0] != "principal":
        return "wanted `principal NAME SEED`"
    name = unquote(fields[1], errors="replace")
    if quote(name, _PLAIN) != fields[1] or not is_label(name):
        return "the name is not the percent-encoded name of a principal"
    try:
        return PrincipalKey(name, Signer(unb64u(fields[2])))
    except MalformedToken:
        return "the key is not base64url"
    except KeyProblem as problem:
        return str(problem)
