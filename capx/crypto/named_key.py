"""A signing key (Ed25519) with a name, and its file: the base of a person's key and an agent's key.

    KIND NAME SEED    the file: one line, which only its owner can read

Laws: the key never shows. In the file, the name is percent-encoded (RFC 3986), in its only canonical spelling. A file
of one kind is not a file of another kind: who acts and who consents are two keys.
"""

import os
from typing import TYPE_CHECKING, ClassVar, Final, Self
from urllib.parse import quote, unquote

from capx.crypto import key_file
from capx.crypto.base64url import b64u, unb64u
from capx.crypto.ed25519 import ALGORITHM, SEED, Signer, Signs, public_text
from capx.crypto.hashing import digest
from capx.errors import KeyProblem, MalformedToken
from capx_caveats import is_label

if TYPE_CHECKING:
    from pathlib import Path

# Characters that stay readable, because names are often email addresses.
_PLAIN = "@+"
# With the digest and ".key" after it, this stays below 255 bytes, the limit of most file systems.
_LONGEST_NAME = 180
_PUBLIC: Final = "this is a public key, which is for --agent-key or --to-key: name the file of its secret half here"
_OTHERS: Final = {
    "agent": "this is the key of an agent. A person signs with a key of capx principal new, which is --key-file",
    "ledger": "this is the key of a ledger, which signs what a resource has decided: it is for --ledger-key",
    "witness": "this is the key of a witness: it is for capx witness",
    "principal": "this is the key of a person. An agent needs its own: capx agent-key new makes one",
    "capx1_": "this is a token, and not a key: it is for --token-file",
    "capxseal1_": "this is sealed, and not a key: capx unseal opens it",
    ALGORITHM: _PUBLIC,
}
"""What a file holds that is no key of the wanted kind, by its beginning."""


class NamedKey:
    """The key of the person or agent with this name."""

    __slots__ = ("_signer", "name")

    kind: ClassVar[str]
    """The first word of the file."""

    def __init__(self, name: str, signer: Signs) -> None:
        self.name = name
        self._signer = signer
        if not is_label(name):
            raise KeyProblem(f"{name!r:.80} cannot name {self._whose()}: use 1 to 128 characters, none of them hidden")

    @classmethod
    def generate(cls, name: str) -> Self:
        """Return a new key from the randomness of the operating system."""
        return cls(name, Signer(os.urandom(SEED)))

    @classmethod
    def load(cls, path: "Path | str") -> Self:
        """Read the key file of a person or an agent; KeyProblem if it cannot be used."""
        from pathlib import Path  # slow to import

        if key_file.is_text(str(path)):
            del path
            raise KeyProblem("give the name of a key file, and not its text: nobody else may see what is in it")
        if str(path).startswith(ALGORITHM):
            raise KeyProblem(_PUBLIC)
        keys = key_file.loaded(Path(path), cls._read)
        if len(keys) > 1:
            raise KeyProblem(f"{path} holds {len(keys)} keys: give a file that holds only the key to sign with")
        return keys[0]

    def save(self, path: "Path | str") -> None:
        """Write a key file that only its owner can read; never over an existing file."""
        from pathlib import Path  # slow to import

        key_file.write(Path(path), self)

    @property
    def public(self) -> str:
        """The public key as people write it: `ed25519:` and 43 characters."""
        return public_text(self._signer.public)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, public={self.public!r})"

    def dump(self) -> str:
        """Return the text of the key file: a secret."""
        return f"{self.kind} {quote(self.name, _PLAIN)} {b64u(self._signer.seed)}\n"

    @classmethod
    def _whose(cls) -> str:
        return f"{'an' if cls.kind[0] in 'aeiou' else 'a'} {cls.kind}"

    @classmethod
    def _read(cls, fields: list[str]) -> Self | str:
        for begins, what in _OTHERS.items():
            if begins != cls.kind and fields[0].startswith(begins):
                return what
        if len(fields) != 3 or fields[0] != cls.kind:
            return f"wanted `{cls.kind} NAME SEED`"
        name = unquote(fields[1], errors="replace")
        if quote(name, _PLAIN) != fields[1] or not is_label(name):
            return f"the name is not the percent-encoded name of {cls._whose()}"
        try:
            return cls(name, Signer(unb64u(fields[2])))
        except MalformedToken:
            return "the key is not base64url"
        except KeyProblem as problem:
            return str(problem)


def file_name(name: str) -> str:
    """Return the name of a key file for this name: it cannot be a path, and no other name has the same."""
    plain = quote(name, _PLAIN)
    if len(plain) <= _LONGEST_NAME:
        return f"{plain}.key"
    return f"{plain[:_LONGEST_NAME]}-{b64u(digest(b'capx/1/principal-file', name.encode())[:8])}.key"
