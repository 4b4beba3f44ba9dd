"""Ed25519 signatures (RFC 8032): signers, public keys and verification.

    public key    ed25519: and 32 bytes in base64url, as people write it

Laws: a signer never shows its secret. When an error is raised, no local variable in its traceback holds the seed. A
weak public key is refused: one under which everybody, or nobody, could sign. Bytes of another length are not a
signature.
"""

from functools import lru_cache
from typing import Final, NoReturn, Protocol

from nacl import bindings, exceptions

from capx.crypto.base64url import b64u, unb64u
from capx.errors import KeyProblem, MalformedToken

SEED: Final = bindings.crypto_sign_SEEDBYTES
"""The bytes of a seed, from which a key pair is derived."""
PUBLIC: Final = bindings.crypto_sign_PUBLICKEYBYTES
"""The bytes of a public key."""
SIGNATURE: Final = bindings.crypto_sign_BYTES
"""The bytes of a signature."""
ALGORITHM: Final = "ed25519:"
"""The beginning of the text of a public key."""
_ENCODED: Final = 43
"""The characters of a public key in base64url."""


class Signs(Protocol):
    """A key pair, wherever its secret is: a `Signer`, or a key in ssh-agent (capx.crypto.ssh_agent)."""

    @property
    def public(self) -> bytes:
        """The public key: 32 bytes."""
        ...

    @property
    def seed(self) -> bytes:
        """The seed that the key pair is derived from: a secret. KeyProblem if it is kept elsewhere."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The signature of a message: 64 bytes."""
        ...


class Signer:
    """Signs with the key pair that is derived from a seed (32 bytes); `public` verifies its signatures."""

    __slots__ = ("_secret", "public")

    def __init__(self, seed: bytes) -> None:
        self._secret = seed
        del seed  # error reporters send the locals of a traceback
        if len(self._secret) != SEED:
            raise KeyProblem(f"a key has exactly {SEED} bytes, this one {len(self._secret)}")
        if len(set(self._secret)) == 1:
            raise KeyProblem("one repeated byte is a placeholder, not a key: generate a random one")
        self.public: bytes
        self.public, self._secret = bindings.crypto_sign_seed_keypair(self._secret)

    @property
    def seed(self) -> bytes:
        """The seed that the key pair is derived from: a secret, for a key file."""
        return self._secret[:SEED]

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message: 64 bytes."""
        # The library below would raise with the secret key among its variables.
        if not isinstance(message, bytes):  # pyright: ignore[reportUnnecessaryIsInstance] # not everybody checks types
            raise KeyProblem(f"a key signs bytes, and not a {type(message).__name__}")
        return bindings.crypto_sign(message, self._secret)[:SIGNATURE]

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __reduce__(self) -> NoReturn:
        raise KeyProblem("a key cannot be pickled or copied: load it from its key file, or derive it again")


def weakness(public: bytes) -> str | None:
    """Return the reason why these bytes cannot be a public key, or None if they can."""
    if len(public) != PUBLIC:
        return f"a public key of Ed25519 has exactly {PUBLIC} bytes, this one {len(public)}"
    if not _is_valid_point(public):
        return "this is not a safe public key of Ed25519: others than its owner could sign under it, or nobody"
    return None


# The check of a key takes longer than that of a signature, and the same keys come again and again.
@lru_cache(maxsize=4096)
def _is_valid_point(public: bytes) -> bool:
    # This refuses points of small order: under those, one signature can be valid for many messages.
    return bindings.crypto_core_ed25519_is_valid_point(public)


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether this signature of this message was made with the secret key that belongs to `public`."""
    if len(signature) != SIGNATURE:
        return False
    try:
        bindings.crypto_sign_open(signature + message, public)
    except exceptions.BadSignatureError:
        return False
    return True


def public_text(public: bytes) -> str:
    """Return a public key as people write it."""
    return f"{ALGORITHM}{b64u(public)}"


def parse_public(text: str) -> bytes:
    """Return the public key (32 bytes) in a text; KeyProblem for any other text, and for a weak key."""
    if not text.startswith(ALGORITHM):
        # The text is not shown: it may be a secret key.
        raise KeyProblem(f"this is not a public key: capx principal show and capx agent-key show print {ALGORITHM}…")
    encoded = text.removeprefix(ALGORITHM)
    if len(encoded) != _ENCODED:
        raise KeyProblem(
            f"a public key has {_ENCODED} characters after {ALGORITHM}, and this has {len(encoded)}: copy it whole"
        )
    try:
        public = unb64u(encoded)
    except MalformedToken:
        raise KeyProblem(
            f"a public key has {_ENCODED} characters of base64url after {ALGORITHM}, and this has others: copy it"
        ) from None
    if problem := weakness(public):
        raise KeyProblem(problem)
    return public


def is_signed_by(public: bytes, message: bytes, signature: str) -> bool:
    """The same check for a signature in base64url; a text that is not base64url is not a signature."""
    try:
        return is_signed(public, message, unb64u(signature))
    except MalformedToken:
        return False


class FeedSigner(Signer):
    """Signs the feed for the authority; `kid` is the id of the root key that it is derived from."""

    __slots__ = ("kid",)

    def __init__(self, kid: str, seed: bytes) -> None:
        self.kid = kid
        super().__init__(seed)

    def __repr__(self) -> str:
        return f"FeedSigner(kid={self.kid!r})"
