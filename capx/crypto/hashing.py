"""MACs and digests: HMAC-SHA256 (RFC 2104), labelled SHA-256 (FIPS 180-4), comparison in constant time.

Law: a digest covers a label, which says what it is a digest of, and the length of each part. So no two lists of parts
have the same digest by moving bytes from one part to the next.
"""

import hmac
from hashlib import sha256

# The constant of libmacaroons: other macaroon libraries derive the same key.
_GENERATOR = b"macaroons-key-generator"

equal = hmac.compare_digest
"""Compare in constant time, so that the time does not show how much of a guessed MAC is right."""


_BLOCK = 64
"""The bytes of a block of SHA-256."""
_INNER, _OUTER = (bytes(each ^ pad for each in range(256)) for pad in (0x36, 0x5C))


def mac(key: bytes, message: bytes) -> bytes:
    """Return the HMAC-SHA256: 32 bytes."""
    # RFC 2104, section 2, in two calls of SHA-256. `hmac.digest` takes longer, and gives the interpreter lock back each
    # time: a busy thread of the same process then keeps it for many times as long as the MAC takes.
    padded = (key if len(key) <= _BLOCK else sha256(key).digest()).ljust(_BLOCK, b"\0")
    return sha256(padded.translate(_OUTER) + sha256(padded.translate(_INNER) + message).digest()).digest()


_ZERO_INNER, _ZERO_OUTER = bytes([0x36]) * _BLOCK, bytes([0x5C]) * _BLOCK
"""The pads of a key of zeros."""


def zero_mac(message: bytes) -> bytes:
    """Return the HMAC-SHA256 under a key of zeros: 32 bytes. It hides the message, and authenticates nothing."""
    return sha256(_ZERO_OUTER + sha256(_ZERO_INNER + message).digest()).digest()


def macaroon_key(audience_key: bytes) -> bytes:
    """Return the key of a chain, derived as libmacaroons does: 32 bytes."""
    return mac(_GENERATOR, audience_key)


def sized(part: bytes) -> bytes:
    """Return the part after its length (four bytes, big-endian), as digests cover it."""
    return len(part).to_bytes(4) + part


def digest(label: bytes, *parts: bytes) -> bytes:
    """Return the SHA-256 of the label and the parts, each after its length (four bytes, big-endian)."""
    covered = sized(label)
    for part in parts:
        covered += len(part).to_bytes(4) + part
    return sha256(covered).digest()
