"""pymacaroons: the same bytes; the MACs alone, by a predicate that says yes to everything."""

import importlib
from typing import Any

from tests.bench.peers.peer import Asked, Peer, refused, steps
from tests.bench.timing import each

_NARROWER = '[["where","env",["eq","prod"]]]'


def pymacaroons(asked: Asked) -> Peer:
    """What it does with the bytes of capx's own chain."""
    library: Any = importlib.import_module("pymacaroons")
    key, blocks = bytes.fromhex(asked["secret"]), asked["blocks"]
    *held, call = blocks

    def minted() -> Any:
        macaroon = library.Macaroon(
            location=asked["location"], identifier=asked["identifier"], key=key, version=library.MACAROON_V2
        )
        return macaroon.add_first_party_caveat(held[0])

    macaroon = minted()
    for block in held[1:]:
        macaroon = macaroon.add_first_party_caveat(block)

    def extended(block: str) -> Any:
        return macaroon.copy().add_first_party_caveat(block).serialize()

    text = extended(call)
    yes, no = library.Verifier(), library.Verifier()
    yes.satisfy_general(_yes)
    no.satisfy_general(_no)

    def verify(presented: str) -> None:
        if not yes.verify(library.Macaroon.deserialize(presented), key):
            raise AssertionError("pymacaroons refuses")

    def deny() -> None:
        no.verify(library.Macaroon.deserialize(text), key)

    errors: Any = importlib.import_module("pymacaroons.exceptions")
    runs = steps(
        {
            ("mint", "pymacaroons"): lambda: minted().serialize(),
            ("attenuate", "pymacaroons"): lambda: extended(_NARROWER),
            ("delegate", "pymacaroons"): lambda: extended(held[-1]),
            ("present", "pymacaroons"): lambda: extended(call),
            ("decode", "pymacaroons"): lambda: library.Macaroon.deserialize(text),
            ("deny", "pymacaroons"): refused(deny, errors.MacaroonInvalidSignatureException),
        }
    )
    runs["verify", "pymacaroons"] = lambda wanted: each(verify, wanted["texts"])
    return Peer(runs, {"pymacaroons": len(text)})


def _yes(_: str) -> bool:
    return True


def _no(_: str) -> bool:
    return False
