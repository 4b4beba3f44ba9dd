"""The key with which an authority signs what it tells of deaths (Ed25519, RFC 8032), and its public half.

    seed = HMAC(root key, "capx/1/feed" ‖ 01)

Laws: it follows from a root key, so it needs no file, rotates with it and is named by its kid; no audience's key can be
it. It signs and never shows. A public half that everybody, or nobody, could have signed for is refused.
"""

from typing import Final, NoReturn

from nacl import bindings, exceptions

from capx.errors import KeyProblem

PUBLIC: Final = bindings.crypto_sign_PUBLICKEYBYTES
"""Bytes of a public half."""
SIGNATURE: Final = bindings.crypto_sign_BYTES
"""Bytes of a signature."""


class FeedSigner:
    """Signs for the authority; `public` is what verifies it, `kid` the root key that it follows from."""

    __slots__ = ("_secret", "kid", "public")

    def __init__(self, kid: str, seed: bytes) -> None:
        self.kid = kid
        self.public, self._secret = bindings.crypto_sign_seed_keypair(seed)

    def sign(self, message: bytes) -> bytes:
        """The signature over a message: 64 bytes."""
        return bindings.crypto_sign(message, self._secret)[:SIGNATURE]

    def __repr__(self) -> str:
        return f"FeedSigner(kid={self.kid!r})"

    def __reduce__(self) -> NoReturn:
        raise KeyProblem("keys are not pickled or copied: derive this one from its root key")


def weakness(public: bytes) -> str | None:
    """Why these bytes may not be used as a public half; None if they may."""
    if len(public) != PUBLIC:
        return f"a feed key has exactly {PUBLIC} bytes, this one {len(public)}"
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
