"""What a model of a page knows of tasks, tokens and asks: what each token is worth, and what each ask gets."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from msgspec import UNSET

from capx.crypto.base64url import b64u
from capx.tokens.capability import Capability
from capx.verify.ask import Granted, Pending, Refused
from capx_caveats import Budget, Expires, Hop

ACTION, QUERY, PAY = "crm.read", "warehouse.query", "bank.pay"
"""What tasks may do at once, may have for the asking, and may have if a person consents."""
Asked = tuple[str | None, str]
"""A task, and what its first agent asks for."""
ANSWERS = (Refused, Pending, Granted)
"""The answers to an ask; each gives less than the next."""


@dataclass(frozen=True)
class World:
    """All that the model knows; copied to make a backup of it."""

    ended: dict[str, str] = field(default_factory=dict[str, str])
    """How each task ended that somebody ended."""
    expiry: dict[str, int] = field(default_factory=dict[str, int])
    """When each task runs out."""
    dead: frozenset[str] = frozenset()
    """Nodes, ids, kids and keys of agents that were revoked, as people write them."""
    revoked_until: int = -1
    """All that was issued up to here is dead."""
    spent: dict[str, Decimal] = field(default_factory=dict[str, Decimal])
    """What each counter holds."""
    opened: dict[str, int] = field(default_factory=dict[str, int])
    """How often each intent was opened."""
    withdrawn: frozenset[str] = frozenset()
    """The intents that were withdrawn."""
    requests: dict[Asked, str] = field(default_factory=dict[Asked, str])
    """The state of what the first agent of a task has asked for."""
    granted: dict[Asked, frozenset[str]] = field(default_factory=dict[Asked, frozenset[str]])
    """The ids of what it was granted."""

    def copy(self) -> "World":
        return copy.deepcopy(self)

    def kills(self, token: Capability, now: int) -> bool:
        """Whether it is dead, by its task, what it descends from, or the clock."""
        named = {token.task, token.kid, *map(b64u, token.path), *map(b64u, token.ids), *token.keys}
        return (
            token.task in self.ended
            or not self.dead.isdisjoint(named)
            or token.issued_at <= self.revoked_until
            or now >= expiry(token)
        )

    def answer(self, asker: Capability, what: str, now: int) -> type[Refused | Pending | Granted]:
        """What the first agent of a task gets when it asks for this."""
        state, granted = self.requests.get((asker.task, what)), self.granted.get((asker.task, what), frozenset[str]())
        lives = asker.task in self.expiry and not self.kills(asker, now)
        if not lives or state == "denied" or not self.dead.isdisjoint(granted):
            return Refused
        return Granted if what == QUERY or state in {"approved", "granted"} else Pending

    def waits(self, asker: Capability, what: str, now: int) -> bool:
        """Whether a person can answer what an agent has asked for."""
        lives = asker.task in self.expiry and not self.kills(asker, now)
        return lives and self.requests.get((asker.task, what)) == "pending"

    def budgets(self, token: Capability) -> Iterator[tuple[str, Decimal]]:
        """The counter and the limit of each budget."""
        hops = 0
        for at, block in enumerate(token.caveats):
            hop = at > 0 and isinstance(block[0], Hop)
            hops += hop
            own = b64u(token.path[hops] if hop else token.ids[at + 1])
            for one in block:
                if isinstance(one, Budget):
                    yield own if one.counter is UNSET else one.counter, Decimal(one.limit)

    def affords(self, token: Capability) -> bool:
        """Whether every budget has room for one call more."""
        return all(self.spent.get(counter, Decimal(0)) + 1 <= limit for counter, limit in self.budgets(token))

    def spend(self, token: Capability) -> None:
        for counter in {counter for counter, _ in self.budgets(token)}:
            self.spent[counter] = self.spent.get(counter, Decimal(0)) + 1


def expiry(token: Capability) -> int:
    """When a token runs out."""
    return min(one.at for block in token.caveats for one in block if isinstance(one, Expires))
