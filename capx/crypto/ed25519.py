"""Ed25519 (RFC 8032): what signs, and whether something is signed.

    public half    ed25519: and 32 bytes in base64url, as people write it

Laws: what signs never shows, and no local of a frame in which something is raised holds its seed. A public half that
everybody, or nobody, could have signed for is refused. Bytes of another length are no signature.
"""

from typing import Final, NoReturn

from nacl import bindings, exceptions

from capx.crypto.base64url import b64u, unb64u
from capx.errors import KeyProblem, MalformedToken

SEED: Final = bindings.crypto_sign_SEEDBYTES
"""Bytes of what a key pair follows from."""
PUBLIC: Final = bindings.crypto_sign_PUBLICKEYBYTES
"""Bytes of a public half."""
SIGNATURE: Final = bindings.crypto_sign_BYTES
"""Bytes of a signature."""
ALGORITHM: Final = "ed25519:"
"""What the text of a public half begins with."""


class Signer:
    """Signs with the key pair that follows from a seed (32 bytes); `public` is what verifies it."""

    __slots__ = ("_secret", "public")

    def __init__(self, seed: bytes) -> None:
        self._secret = seed
        del seed
        if len(self._secret) != SEED:
            raise KeyProblem(f"a key has exactly {SEED} bytes, this one {len(self._secret)}")
        if len(set(self._secret)) == 1:
            raise KeyProblem("one repeated byte is a placeholder, not a key")
        self.public, self._secret = bindings.crypto_sign_seed_keypair(self._secret)

    @property
    def seed(self) -> bytes:
        """What it follows from: a secret, for a key file."""
        return self._secret[:SEED]

    def sign(self, message: bytes) -> bytes:
        """The signature over a message: 64 bytes."""
        return bindings.crypto_sign(message, self._secret)[:SIGNATURE]

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __reduce__(self) -> NoReturn:
        raise KeyProblem("keys are not pickled or copied: read this one where it is kept, or derive it again")


def weakness(public: bytes) -> str | None:
    """Why these bytes may not be used as a public half; None if they may."""
    if len(public) != PUBLIC:
        return f"a public key of Ed25519 has exactly {PUBLIC} bytes, this one {len(public)}"
    if not bindings.crypto_core_ed25519_is_valid_point(public):
        return "this is no public key of Ed25519 that one signer alone could have"
    return None


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether whoever holds the other half of `public` made this signature over this message."""
    if len(signature) != SIGNATURE:
        return False
    try:
        bindings.crypto_sign_open(signature + message, public)
    except exceptions.BadSignatureError:
        return False
    return True


def public_text(public: bytes) -> str:
    """A public half as people write it."""
    return f"{ALGORITHM}{b64u(public)}"


def parse_public(text: str) -> bytes:
    """The public half (32 bytes) that a text spells; KeyProblem for any other text, and for one that is weak."""
    if not text.startswith(ALGORITHM):
        raise KeyProblem(f"{text!r:.80} is no public key: it begins with {ALGORITHM}, as capx principal new writes it")
    try:
        public = unb64u(text.removeprefix(ALGORITHM))
    except MalformedToken:
        raise KeyProblem(f"behind {ALGORITHM} of a public key stand 32 bytes in base64url") from None
    if problem := weakness(public):
        raise KeyProblem(problem)
    return public


def is_signed_by(public: bytes, message: bytes, signature: str) -> bool:
    """The same of a signature in base64url."""
    try:
        return is_signed(public, message, unb64u(signature))
    except MalformedToken:
        return False


class FeedSigner(Signer):
    """Signs for the authority; `public` is what verifies it, `kid` the root key that it follows from."""

    __slots__ = ("kid",)

    def __init__(self, kid: str, seed: bytes) -> None:
        self.kid = kid
        super().__init__(seed)

    def __repr__(self) -> str:
        return f"FeedSigner(kid={self.kid!r})"
