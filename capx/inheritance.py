"""What a runtime grant inherits from the token that asks for it: where it stands, and all that restricts it.

Laws: nothing that restricts the asker is lost on the way. `until_completed`, `where`, budgets with their counters, and
a service's own caveats are carried on as they are; times, freshness and hops left are folded to the tightest. What
cannot be carried on refuses the ask: a third-party caveat, another tenant further down, what is not understood.
"""

from msgspec import Struct

from capx_caveats import Caveat, Refusal, Step


class Asker(Struct, frozen=True, kw_only=True):
    """Who asks, as the authentic chain of their authority capability says it; ids and nodes are 16 bytes each.

    `inherited` is what goes into the authority's block of a grant besides its claims, allowlists and the policy's own
    budgets, each as JSON; `refusals` are why there can be no grant at all.
    """

    task: str
    root: str
    steps: tuple[Step, ...]
    path: tuple[bytes, ...]
    ids: tuple[bytes, ...]
    kid: str
    issued: int
    expires: int
    inherited: tuple[bytes, ...]
    caveats: tuple[Caveat, ...]
    refusals: tuple[Refusal, ...]
