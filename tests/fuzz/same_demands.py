"""Demands that have the same bytes in each process, so that an input that failed fails again."""

import hashlib

import msgspec
from nacl import bindings

from capx.crypto.base64url import b64u
from capx.crypto.ed25519 import parse_public
from capx.crypto.hashing import macaroon_key
from capx.intents.principal_key import PrincipalKey
from capx.tokens.approval_caveat import KeyedCaveat
from tests.labs.approving import KEY

_SECRET = bytes(range(32))


def same_demand(*people: PrincipalKey, count: int = 1, lasts: int = 900, nonce: bytes = bytes(16)) -> KeyedCaveat:
    """A demand of these people's approvals, whose boxes are not random."""
    keys = [parse_public(person.public) for person in people]
    said = [1, count, list(map(b64u, keys)), lasts, b64u(nonce), [b64u(same_box(key)) for key in keys]]
    return KeyedCaveat(msgspec.json.encode(said), macaroon_key(KEY))


def same_box(public: bytes) -> bytes:
    """A box as `crypto_box_seal` makes it, but under a key that everybody knows."""
    to = bindings.crypto_sign_ed25519_pk_to_curve25519(public)
    ephemeral = bindings.crypto_scalarmult_base(_SECRET)
    nonce = hashlib.blake2b(ephemeral + to, digest_size=bindings.crypto_box_NONCEBYTES).digest()
    return ephemeral + bindings.crypto_box(KEY, nonce, to, _SECRET)
