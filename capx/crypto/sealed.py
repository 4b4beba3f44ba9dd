"""Sealed text: a bundle, or keys, that only the owner of one Ed25519 key can read.

    capxseal1_ base64url( crypto_box_seal( "capx/1/seal" LF KIND LF TEXT, X25519 of the recipient's key ) )

Laws:

- A sealed text has one spelling, at most 2**20 characters. It is opened as a whole before a byte of it is read.
- Every failure is the same error: it does not say whether the key, the kind or a byte was wrong.
- Nobody can change it on its way. But it does not say who sealed it, nor when: anybody can seal to a public key.
- Whoever gets the recipient's secret key later can open what was sealed before.

Source: libsodium, `crypto_box_seal` and `crypto_sign_ed25519_pk_to_curve25519`.
"""

from typing import Final, Literal

from nacl import bindings, exceptions

from capx.crypto.base64url import b64u, unb64u
from capx.crypto.ed25519 import parse_public, public_text
from capx.errors import InvalidRequest, MalformedToken

PREFIX: Final = "capxseal1_"
MAX_SEALED: Final = 2**20
"""The most characters of a sealed text."""
Kind = Literal["bundle", "keys"]
"""What is sealed. A reader names the kind that it wants, so that a box of one kind does not pass for another."""
_WORDS: Final[dict[Kind, str]] = {"bundle": "token", "keys": "key file"}


def seal(text: str, kind: Kind, public: str) -> str:
    """Return the text, sealed to a public key; KeyProblem for a key that is not safe, InvalidRequest if it is too long.

    `public` is written `ed25519:` and 43 characters.
    """
    # A weak key would raise an error of the library below, or could be opened by others.
    key = bindings.crypto_sign_ed25519_pk_to_curve25519(parse_public(public))
    sealed = PREFIX + b64u(bindings.crypto_box_seal(_head(kind) + text.encode(), key))
    if len(sealed) > MAX_SEALED:
        raise InvalidRequest(f"this is too long to be sealed: at most {MAX_SEALED} characters")
    return sealed


def unseal(sealed: str, kind: Kind, seed: bytes) -> str:
    """Return the text of this kind that was sealed to the key pair of a seed; MalformedToken for anything else."""
    text = _opened(sealed, _head(kind), seed)
    if text is None:
        public = public_text(bindings.crypto_sign_seed_keypair(seed)[0])
        del seed  # error reporters send the locals of a traceback
        raise MalformedToken(
            f"this cannot be opened: it was sealed to another key, holds no {_WORDS[kind]}, or was changed on its way. "
            f"Ask the sender to seal it to {public}"
        )
    return text


def is_sealed(text: str) -> bool:
    """Whether a text has the form of a sealed one; nothing else is checked."""
    return text.startswith(PREFIX)


def _opened(sealed: str, head: bytes, seed: bytes) -> str | None:
    """The text, or None: an error here would carry the secret key in its locals."""
    public, secret = bindings.crypto_sign_seed_keypair(seed)
    try:
        # Within the block: what comes from a queue may be bytes.
        if len(sealed) > MAX_SEALED or not sealed.startswith(PREFIX):
            return None
        opened = bindings.crypto_box_seal_open(
            unb64u(sealed[len(PREFIX) :]),
            bindings.crypto_sign_ed25519_pk_to_curve25519(public),
            bindings.crypto_sign_ed25519_sk_to_curve25519(secret),
        )
        return opened[len(head) :].decode() if opened.startswith(head) else None
    except (MalformedToken, UnicodeDecodeError, exceptions.CryptoError, AttributeError, TypeError, ValueError):
        return None


def _head(kind: str) -> bytes:
    return f"capx/1/seal\n{kind}\n".encode()
