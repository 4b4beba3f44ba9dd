"""The work: a chain of hops with five caveats each, and the call that is judged.

Each hop's block holds a hop, an `allow` of two entries of which one constrains two arguments, `expires`, `max_hops`
and a `where`. The authority's block holds what every authority's block does.
"""

from collections.abc import Callable, Sequence
from typing import Final

from capx import AgentKey, Capability, MalformedToken, RootKey, ToolCall, action, between, expires, max_hops, where
from capx.crypto.base64url import b64u
from capx.crypto.ed25519 import parse_public
from capx.tokens.approval_caveat import ApprovalTerms
from capx.tokens.capability import mint
from capx_caveats import Appendable, Call, Caveat, Entry, Expires, Holder, Root, Task, Tenant, UntilCompleted, allow
from tests.bench.measuring import Unmeasurable

AUDIENCE: Final = "crm"
ACTION: Final = "crm.read"
ALLOWED: Final = {"id": 42, "limit": 5}
DENIED: Final = {"id": 42, "limit": 51}
"""Arguments that every hop refuses."""
ENTRIES: Final[tuple[Entry | str, ...]] = (action(ACTION, id=42, limit=between(1, 50)), "crm.list")
WHERE: Final = where("env", "prod")
_MOST_HOPS: Final = 100


def received(arguments: dict[str, int]) -> ToolCall:
    """What the resource received."""
    return ToolCall(ACTION, dict(arguments))


def executed(arguments: dict[str, int]) -> Call:
    """What the resource is about to execute."""
    return Call(ACTION, dict(arguments), tenant="Acme", attributes={"env": "prod"})


def authority(now: int, *more: Caveat) -> tuple[Caveat, ...]:
    """The caveats of the authority's block."""
    return (
        *more,
        Task("task"),
        Root("root"),
        UntilCompleted("task"),
        Expires(now + 3600),
        Tenant("Acme"),
        allow("crm.*"),
    )


def of_a_hop(number: int, *more: Appendable) -> list[Appendable]:
    """The caveats of one hop beside its hop and its `allow`."""
    return [expires("30m"), max_hops(_MOST_HOPS - number), WHERE, *more]


def signed_chain_of(hops: int, root: RootKey, now: int) -> Capability:
    """The same with keys: each hop is signed by the agent before it. Unmeasurable if there is no room for it."""
    key = AgentKey.generate("first")
    holder = Holder(b64u(parse_public(key.public)))
    capability = mint(root.audience_key(AUDIENCE), authority(now, holder), now=now).with_key(key)
    for hop in range(hops):
        try:
            to = AgentKey.generate(f"agent-{hop}")
            capability = capability.delegate(to=to.name, to_key=to, allow=ENTRIES, caveats=of_a_hop(hop))
        except MalformedToken as full:
            raise Unmeasurable(str(full)) from None
    return capability


def delegated(
    capability: Capability, hops: int, entries: Sequence[Entry | str], caveats: Callable[[int], Sequence[Appendable]]
) -> Capability:
    """The capability with so many hops more, or with as many as its text has room for."""
    for hop in range(hops):
        try:
            capability = capability.delegate(to=f"agent-{hop}", allow=entries, caveats=caveats(hop))
        except MalformedToken as full:
            if full.code != "too_large":
                raise
            break
    return capability


def chain_of(hops: int, root: RootKey, now: int, *more: Appendable, demand: ApprovalTerms | None = None) -> Capability:
    """A capability with that many hops, or with as many as its text has room for; `more` stands in every block.

    `demand` stands behind the authority's block.
    """
    capability = mint(root.audience_key(AUDIENCE), authority(now), now=now)
    if demand is not None:
        capability = capability.demanding(demand)
    return delegated(capability, hops, ENTRIES, lambda hop: of_a_hop(hop, *more))
