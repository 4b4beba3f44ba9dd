"""MACs and digests: HMAC-SHA256 (RFC 2104), labelled SHA-256 (FIPS 180-4), comparison in constant time.

Law: a digest here is over parts whose lengths it covers, under a label that says what it is of.
"""

import hmac
from hashlib import sha256

_GENERATOR = b"macaroons-key-generator"

equal = hmac.compare_digest
"""Constant-time comparison."""


def mac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256: 32 bytes."""
    return hmac.digest(key, message, "sha256")


def macaroon_key(audience_key: bytes) -> bytes:
    """The key of the chain, as libmacaroons derives it: 32 bytes."""
    return mac(_GENERATOR, audience_key)


def sized(part: bytes) -> bytes:
    """The part behind its length, as a digest covers it: four bytes, big-endian."""
    return len(part).to_bytes(4) + part


def digest(label: bytes, *parts: bytes) -> bytes:
    """SHA-256 over the label and the parts, each preceded by its length as four bytes, big-endian."""
    return sha256(b"".join(map(sized, (label, *parts)))).digest()
