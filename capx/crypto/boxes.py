"""The boxes that carry the key of a demand for an approval: one that a MAC opens, and one for each approver.

    vid    nonce (24) and crypto_secretbox(key of the demand), under a tail      72 bytes, as libmacaroons writes it
    box    crypto_box_seal(key of the demand), to an Ed25519 key                 80 bytes

Law: each function gives an answer or None. No error carries a key in the variables of its frames.

Source: libsodium, `crypto_secretbox_easy`, `crypto_box_seal` and `crypto_sign_ed25519_pk_to_curve25519`.
"""

from typing import Final

from nacl import bindings, exceptions

NONCE: Final = bindings.crypto_secretbox_NONCEBYTES
"""The bytes of the nonce of a vid."""
KEY: Final = 32
"""The bytes of what is in a box."""
VID: Final = NONCE + bindings.crypto_secretbox_MACBYTES + KEY
"""The bytes of a vid."""
BOX: Final = bindings.crypto_box_SEALBYTES + KEY
"""The bytes of an approver's box."""


def lock(content: bytes, nonce: bytes, key: bytes) -> bytes:
    """Return the vid with this content (32 bytes) and nonce (24 bytes) under a key (32 bytes)."""
    return nonce + bindings.crypto_secretbox(content, nonce, key)


def unlock(vid: bytes, key: bytes) -> bytes | None:
    """Return the content of a vid (32 bytes); None if this key does not open it, or it has another length."""
    if len(vid) != VID:
        return None
    try:
        return bindings.crypto_secretbox_open(vid[NONCE:], vid[:NONCE], key)
    except exceptions.CryptoError:
        return None


def seal_box(content: bytes, public: bytes) -> bytes:
    """Return the box that only the owner of this Ed25519 key opens. The key must be a safe one (`ed25519.weakness`)."""
    return bindings.crypto_box_seal(content, bindings.crypto_sign_ed25519_pk_to_curve25519(public))


def open_box(box: bytes, seed: bytes) -> bytes | None:
    """Return the content of a box (32 bytes) that was sealed to the key pair of a seed; None for any other box."""
    if len(box) != BOX:
        return None
    public, secret = bindings.crypto_sign_seed_keypair(seed)
    try:
        return bindings.crypto_box_seal_open(
            box,
            bindings.crypto_sign_ed25519_pk_to_curve25519(public),
            bindings.crypto_sign_ed25519_sk_to_curve25519(secret),
        )
    except exceptions.CryptoError:
        return None
