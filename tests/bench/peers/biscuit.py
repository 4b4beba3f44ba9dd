"""biscuit-python: a block a hop, its checks in Datalog, and an authorizer that states the facts of the call.

It keeps nothing between calls; `held` is the token kept in its parsed and verified form.
"""

import importlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.bench.peers.peer import ARGUMENTS, ENVIRONMENT, REFUSED, Asked, Peer, refused, steps


def biscuit(asked: Asked) -> Peer:
    """What it does with an authority block and so many blocks of checks."""
    library: Any = importlib.import_module("biscuit_auth")
    hops: int = asked["hops"]
    pair = library.KeyPair()
    now = datetime.now(UTC)

    def minted() -> Any:
        return library.BiscuitBuilder(
            'task("task"); root("root"); check if alive("task"); check if time($t), $t < {end};'
            'check if tenant("Acme"); check if action($a), $a.starts_with("crm.");',
            {"end": now + timedelta(hours=1)},
        ).build(pair.private_key)

    def hop(number: int) -> Any:
        return library.BlockBuilder(
            "hop({to}, {nonce});"
            'check if action("crm.read"), arg("id", 42), arg("limit", $l), $l >= 1, $l <= 50 or action("crm.list");'
            "check if time($t), $t < {end};"
            "check if depth($d), $d <= {most};"
            'check if attribute("env", "prod");',
            {"to": f"agent-{number}", "nonce": "q83vEjRWeJA", "end": now + timedelta(minutes=30), "most": 64},
        )

    token = minted()
    for number in range(hops):
        token = token.append(hop(number))
    text = token.to_base64()

    def authorize(token: Any, arguments: Mapping[str, int]) -> None:
        builder = library.AuthorizerBuilder(
            'time({now}); action({action}); arg("id", {id}); arg("limit", {limit}); attribute("env", {env});'
            "tenant({tenant}); alive({task}); depth({depth}); allow if true;",
            {
                "now": datetime.now(UTC),
                "action": "crm.read",
                "tenant": "Acme",
                "task": "task",
                "depth": token.block_count() - 1,
                **arguments,
                **ENVIRONMENT,
            },
        )
        limits = builder.limits()
        # The library's own is a millisecond, which a long chain on a busy machine may exceed.
        limits.max_time = timedelta(seconds=1)
        builder.set_limits(limits)
        builder.build(token).authorize()

    def parsed() -> Any:
        return library.Biscuit.from_base64(text, pair.public_key)

    return Peer(
        steps(
            {
                ("mint", "biscuit"): lambda: minted().to_base64(),
                ("attenuate", "biscuit"): lambda: token.append(
                    library.BlockBuilder('check if attribute("env", "prod");')
                ).to_base64(),
                ("delegate", "biscuit"): lambda: token.append(hop(hops)).to_base64(),
                ("decode", "biscuit"): lambda: library.UnverifiedBiscuit.from_base64(text),
                ("verify", "biscuit"): lambda: authorize(parsed(), ARGUMENTS),
                ("verify", "biscuit, held"): lambda: authorize(token, ARGUMENTS),
                ("deny", "biscuit"): refused(lambda: authorize(parsed(), REFUSED), library.AuthorizationError),
            }
        ),
        {"biscuit": len(text)},
    )
