"""tenuo: a chain of warrants, each granted by the holder of the one before, and the last holder's proof of possession.

Used through its compiled core, which is the quickest way in. It checks signatures as it decodes, and keeps nothing
between calls; `held` is the chain kept in its decoded form, the proof alone arriving anew. It knows no attributes of
the environment: `env` goes as a third argument.
"""

import importlib
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

from tests.bench.peers.peer import ARGUMENTS, ENVIRONMENT, REFUSED, Asked, Peer, refused, steps
from tests.bench.timing import each


def tenuo(asked: Asked) -> Peer:
    """What it does with a chain of so many grants below the first warrant."""
    core: Any = importlib.import_module("tenuo_core")
    denied: Any = importlib.import_module("tenuo.exceptions").ConstraintViolation
    hops: int = asked["hops"]
    root, holders = core.SigningKey.generate(), [core.SigningKey.generate() for _ in range(hops + 2)]
    any_, exactly = core.Wildcard(), core.Exact("prod")
    everything = {"crm.read": {"id": any_, "limit": any_, "env": any_}, "crm.list": {}}

    def narrowed() -> dict[str, Any]:
        read = {"id": core.Range(42, 42), "limit": core.Range(1, 50), "env": exactly}
        return {"crm.read": read, "crm.list": {}}

    def granted(chain: list[Any], to: Any) -> list[Any]:
        holder = holders[len(chain) - 1]
        return [*chain, chain[-1].attenuate(narrowed(), holder, ttl_seconds=1800, holder=to.public_key)]

    def minted() -> Any:
        return core.Warrant.issue(root, everything, ttl_seconds=3600, holder=holders[0].public_key)

    chain = [minted()]
    for holder in holders[1 : hops + 1]:
        chain = granted(chain, holder)
    leaf, acting = chain[-1], holders[hops]
    text = core.encode_warrant_stack(chain)
    decoded = core.decode_warrant_stack_base64(text)
    verifier = core.Authorizer(trusted_roots=[root.public_key])
    allowed, beyond = {**ARGUMENTS, **ENVIRONMENT}, {**REFUSED, **ENVIRONMENT}

    def proof(arguments: dict[str, Any]) -> str:
        return b64encode(bytes(leaf.sign(acting, "crm.read", arguments, int(time.time())))).decode()

    def run(arguments: dict[str, Any], *, held: bool) -> Callable[[Asked], float]:
        def one(signature: str) -> None:
            stack = decoded if held else core.decode_warrant_stack_base64(text)
            verifier.check_chain(stack, "crm.read", arguments, signature=b64decode(signature))

        def no(signature: str) -> None:
            refused(lambda: one(signature), denied)()

        step = one if arguments is allowed else no
        return lambda asked: each(step, [proof(arguments)] * asked["count"])

    runs = steps(
        {
            ("mint", "tenuo"): lambda: core.encode_warrant_stack([minted()]),
            ("attenuate", "tenuo"): lambda: core.encode_warrant_stack(granted(chain, acting)),
            ("delegate", "tenuo"): lambda: core.encode_warrant_stack(granted(chain, holders[hops + 1])),
            ("present", "tenuo"): lambda: proof(allowed),
            ("decode", "tenuo"): lambda: core.decode_warrant_stack_base64(text),
        }
    )
    runs["verify", "tenuo"] = run(allowed, held=False)
    runs["verify", "tenuo, held"] = run(allowed, held=True)
    runs["deny", "tenuo"] = run(beyond, held=False)
    return Peer(runs, {"tenuo": len(text) + len(proof(allowed))})
