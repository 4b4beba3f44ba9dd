"""MACs and digests, nothing else.

Sources: macaroons (Birgisson et al., NDSS 2014) with libmacaroons' key generator; HMAC, RFC 2104; SHA-256,
FIPS 180-4; base64url, RFC 4648 section 5.
Law: a digest here is over parts whose lengths it covers, under a label that says what it is of.
"""

import hmac
from binascii import Error, a2b_base64, b2a_base64
from hashlib import sha256

from capx.errors import MalformedToken

_GENERATOR = b"macaroons-key-generator"
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/", b"+/  ")

equal = hmac.compare_digest
"""Constant-time comparison."""


def mac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256: 32 bytes."""
    return hmac.digest(key, message, "sha256")


def macaroon_key(audience_key: bytes) -> bytes:
    """The key of the chain, as libmacaroons derives it: 32 bytes."""
    return mac(_GENERATOR, audience_key)


def extend(tail: bytes, block: bytes) -> bytes:
    """The tail after one more first-party block."""
    return mac(tail, block)


def extend_third_party(tail: bytes, vid: bytes, cid: bytes) -> bytes:
    """The tail after one more third-party caveat."""
    return mac(tail, mac(tail, vid) + mac(tail, cid))


def digest(label: bytes, *parts: bytes) -> bytes:
    """SHA-256 over the label and the parts, each preceded by its length as four bytes, big-endian."""
    message = len(label).to_bytes(4, "big") + label
    for part in parts:
        message += len(part).to_bytes(4, "big") + part
    return sha256(message).digest()


def token_digest(identifier: bytes) -> bytes:
    """d[0]: names what was minted."""
    return digest(b"capx/1/token", identifier)


def block_digest(parent: bytes, block: bytes) -> bytes:
    """d[i] of a first-party block."""
    return digest(b"capx/1/block", parent, block)


def third_party_digest(parent: bytes, vid: bytes, cid: bytes) -> bytes:
    """d[i] of a third-party caveat."""
    return digest(b"capx/1/third", parent, vid, cid)


def root_node(root: str) -> bytes:
    """node[0] of a revocation root: 16 bytes."""
    return digest(b"capx/1/root", root.encode())[:16]


def hop_node(parent: bytes, nonce: str) -> bytes:
    """The node that a hop makes below its parent's: 16 bytes."""
    return digest(b"capx/1/node", parent, nonce.encode())[:16]


def b64u(data: bytes) -> str:
    """base64url without padding."""
    return b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_URL).decode()


def unb64u(text: str) -> bytes:
    """The bytes of canonical base64url without padding; MalformedToken for any other text."""
    data = whole_bytes(text)
    demand_canonical(data, text)
    return data


def whole_bytes(text: str) -> bytes:
    """The whole bytes that a text of the base64url alphabet holds; what is left over is for `demand_canonical`."""
    try:
        raw = text.encode("ascii").translate(_FROM_URL)
        whole = raw[: len(raw) - (len(raw) % 4 == 1)]
        data = a2b_base64(whole + b"=" * (-len(whole) % 4), strict_mode=True)
    except (Error, UnicodeEncodeError):
        raise MalformedToken("this is not base64url without padding") from None
    return data


def demand_canonical(data: bytes, text: str) -> None:
    """Raise MalformedToken unless the text is the one spelling of these bytes."""
    if b64u(data) != text:
        raise MalformedToken("the base64url text does not end as the one spelling of its bytes does")
