"""The key with which a person signs what they ask for and what they consent to (Ed25519), and its public half.

    principal NAME SEED    its file: one line, which only its owner may read

Laws: the key stays with its person; an authority knows the public half, by the policy. It never shows. It signs intents
of nobody else. A name stands in the file percent-encoded (RFC 3986), in its one spelling.
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
    from pathlib import Path  # slow to import, and only whoever has one calls what takes one

_PLAIN = "@+"
_LONGEST_NAME = 180


class PrincipalKey:
    """The key of the principal of this name."""

    __slots__ = ("_signer", "name")

    def __init__(self, name: str, signer: Signer) -> None:
        self.name = name
        self._signer = signer
        if not is_label(name):
            raise KeyProblem(f"{name!r:.80} is no name of a principal: 1 to 128 characters, none of them hidden")

    @classmethod
    def generate(cls, name: str) -> "PrincipalKey":
        """A fresh key from the operating system's randomness."""
        return cls(name, Signer(os.urandom(SEED)))

    @classmethod
    def load(cls, path: "Path") -> "PrincipalKey":
        """Read the key file of a principal; KeyProblem when it may not be used."""
        keys = key_file.loaded(path, _read)
        if len(keys) > 1:
            raise KeyProblem(f"{path} holds {len(keys)} keys: name a file with the one to sign with")
        return keys[0]

    def save(self, path: "Path") -> None:
        """Write a key file that only its owner may read; never over an existing file."""
        key_file.write(path, self)

    @property
    def public(self) -> str:
        """What verifies its signatures, as a policy names it."""
        return public_text(self._signer.public)

    def sign(self, message: bytes) -> str:
        """The signature over a message: 64 bytes in base64url."""
        return b64u(self._signer.sign(message))

    def sign_intent(self, intent: Intent) -> SignedIntent:
        """The intent, signed; InvalidRequest for the intent of somebody else."""
        if intent.principal != self.name:
            raise InvalidRequest(f"this is the key of {self.name}, and the intent is one of {intent.principal}")
        return SignedIntent(intent, self.sign(intent.message()))

    def __repr__(self) -> str:
        return f"PrincipalKey({self.name!r}, public={self.public!r})"

    def dump(self) -> str:
        """The text of its key file: a secret."""
        return f"principal {quote(self.name, _PLAIN)} {b64u(self._signer.seed)}\n"


def file_name(name: str) -> str:
    """The name of a key file for the principal of this name: one that is no path, and no other principal's."""
    plain = quote(name, _PLAIN)
    if len(plain) <= _LONGEST_NAME:
        return f"{plain}.key"
    return f"{plain[:_LONGEST_NAME]}-{b64u(digest(b'capx/1/principal-file', name.encode())[:8])}.key"


def _read(fields: list[str]) -> PrincipalKey | str:
    if len(fields) != 3 or fields[0] != "principal":
        return "wanted `principal NAME SEED`"
    name = unquote(fields[1], errors="replace")
    if quote(name, _PLAIN) != fields[1] or not is_label(name):
        return "the name is none of a principal, percent-encoded"
    try:
        return PrincipalKey(name, Signer(unb64u(fields[2])))
    except MalformedToken:
        return "the key is not base64url"
    except KeyProblem as problem:
        return str(problem)
