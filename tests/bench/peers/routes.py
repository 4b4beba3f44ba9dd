"""The same FastAPI route behind what other libraries have: a dependency of one's own on PyJWT, and tenuo's guard."""

import importlib
import itertools
import time
from base64 import b64encode
from collections.abc import Callable
from typing import Any, Final

from tests.bench.asgi_requests import HOPS, PATTERN, REQUEST, App, answered
from tests.bench.peers.peer import Asked, Runs

AT_ONCE: Final = (1, 16)
"""How many requests there are at once."""
PYJWT, TENUO = "PyJWT, a dependency", "tenuo, its guard"
BARE_THERE: Final = "the same route, beside these"
Made = tuple[App, Callable[[], dict[str, str]]]
"""An application, and what makes the headers of one more request to it."""
_TOOL: Final = "crm.accounts.read"
_ARGUMENTS: Final = {"account": "a-17", "limit": 5}


def jwt_dependency() -> Made:
    """An async dependency that checks signature, audience and expiry of a token in each request."""
    library, fastapi = importlib.import_module("jwt"), importlib.import_module("fastapi")
    ed25519: Any = importlib.import_module("cryptography.hazmat.primitives.asymmetric.ed25519")
    private = ed25519.Ed25519PrivateKey.generate()
    public = private.public_key()
    text = library.encode({"aud": "crm", "exp": int(time.time()) + 3600, "sub": "agent"}, private, algorithm="EdDSA")

    header = fastapi.Header()

    async def claims(authorization: str = header) -> Any:
        return library.decode(authorization.partition(" ")[2], public, algorithms=["EdDSA"], audience="crm")

    return _behind(fastapi.Depends(claims)), lambda: {"authorization": f"Bearer {text}"}


def tenuo_guard() -> Made:
    """tenuo's guard, which checks the chain of warrants and a fresh proof of possession in each request."""
    core: Any = importlib.import_module("tenuo_core")
    fastapi, guards = importlib.import_module("fastapi"), importlib.import_module("tenuo.fastapi")
    root, holders = core.SigningKey.generate(), [core.SigningKey.generate() for _ in range(HOPS + 1)]
    anything = {_TOOL: {"account": core.Wildcard(), "limit": core.Wildcard()}}
    chain = [core.Warrant.issue(root, anything, ttl_seconds=3600, holder=holders[0].public_key)]
    for holder, to in itertools.pairwise(holders):
        chain.append(chain[-1].attenuate(anything, holder, ttl_seconds=1800, holder=to.public_key))
    text = core.encode_warrant_stack(chain)
    app = _behind(fastapi.Depends(guards.TenuoGuard(_TOOL)))
    guards.configure_tenuo(app, trusted_issuers=[root.public_key])

    def head() -> dict[str, str]:
        proof = b64encode(bytes(chain[-1].sign(holders[-1], _TOOL, _ARGUMENTS, int(time.time())))).decode()
        return {guards.X_TENUO_WARRANT: text, guards.X_TENUO_POP: proof}

    return app, head


def bare() -> Made:
    """The route alone: what the others there are compared with."""
    return _behind(), dict


def _behind(*checked: Any) -> Any:
    """An application whose route has these dependencies."""
    app: Any = importlib.import_module("fastapi").FastAPI(openapi_url=None)

    async def read(account: str, limit: int) -> dict[str, Any]:
        return {"account": account, "limit": limit}

    app.get(PATTERN, dependencies=checked)(read)
    return app


MADE: Final[dict[str, Callable[[], Made]]] = {BARE_THERE: bare, PYJWT: jwt_dependency, TENUO: tenuo_guard}


def runs(who: str) -> Runs:
    """The route, alone and in a crowd."""
    app, head = MADE[who]()

    def run(at_once: int) -> Callable[[Asked], float]:
        def times(asked: Asked) -> float:
            count: int = asked["count"]
            requests = max(count, at_once)
            return answered(app, [head() for _ in range(requests)], at_once) * count / requests

        return times

    return {(f"{REQUEST} {at_once}", who): run(at_once) for at_once in AT_ONCE}
