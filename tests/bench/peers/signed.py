"""PyJWT: one signed token (EdDSA), its signature, audience and expiry; nobody can narrow it."""

import importlib
import time
from typing import Any

from tests.bench.peers.peer import Asked, Peer, steps


def pyjwt(_: Asked) -> Peer:
    """What it does with one token that carries the claims of one hop, however long the chain of others is."""
    library: Any = importlib.import_module("jwt")
    ed25519: Any = importlib.import_module("cryptography.hazmat.primitives.asymmetric.ed25519")
    private = ed25519.Ed25519PrivateKey.generate()
    public = private.public_key()
    claims = {
        "iss": "authority",
        "aud": "crm",
        "exp": int(time.time()) + 3600,
        "task": "task",
        "tenant": "Acme",
        "env": "prod",
        "allow": [["crm.read", [["id", ["eq", 42]], ["limit", ["range", 1, 50]]]], ["crm.list"]],
    }
    text = library.encode(claims, private, algorithm="EdDSA")
    return Peer(
        steps(
            {
                ("mint", "PyJWT"): lambda: library.encode(claims, private, algorithm="EdDSA"),
                ("decode", "PyJWT"): lambda: library.decode(text, options={"verify_signature": False}),
                ("verify", "PyJWT"): lambda: library.decode(text, public, algorithms=["EdDSA"], audience="crm"),
            }
        ),
        {"PyJWT": len(text)},
    )
