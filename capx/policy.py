"""A policy: who may ask for what kinds of work, and what each of them needs, gets at once, on request, or by asking.

    Policy --terms(intent)--> Terms --match(action, audience, args)--> the rule that decides

Laws: what no rule lists is never given. Of the rules of a purpose, those that give at open come first, then those that
give on request, then those that ask a person, each in the order of the file; the first that matches decides. Terms are
concrete: what a rule takes from the intent was put in as a whole value, and nothing of it is read again.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Literal

from msgspec import Struct

from capx.intent import Intent
from capx_caveats import JSON, Budget, Call, Entry

How = Literal["at_open", "on_request", "ask"]
HOWS: Final[tuple[How, ...]] = ("at_open", "on_request", "ask")
"""How a rule gives, in the order in which rules decide."""


class Principal(Struct, frozen=True, kw_only=True):
    """A person: the public key of their signature (Ed25519, 32 bytes), for whom they ask, and what groups they are in.

    Without a key they cannot sign, and only a login that the operator checked speaks for them.
    """

    name: str
    key: bytes | None = None
    tenants: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class Offer(Struct, frozen=True):
    """One action, or pattern, that a rule gives at one audience, and what its arguments must be."""

    audience: str
    entry: Entry

    def covers(self, audience: str, action: str, args: Mapping[str, JSON] | None) -> bool:
        """Whether it says yes: by the action alone where no arguments are pinned, else to these arguments."""
        if audience != self.audience or not self.entry.matches(action):
            return False
        return args is None or self.entry.misfit(Call(action, args)) is None


class Rule(Struct, frozen=True, kw_only=True):
    """One grant of a purpose, concrete; `place` is where it stands in the file, such as `purpose.refund.grant[2]`.

    Its budgets name no counter: all grants of a task that name a unit share one. `approvers` are groups or principals,
    who have `within` seconds to answer; both are for `ask` alone.
    """

    place: str
    how: How
    offers: tuple[Offer, ...]
    budgets: tuple[Budget, ...] = ()
    approvers: tuple[str, ...] = ()
    within: int | None = None


class Match(Struct, frozen=True):
    """The rule that decides about an ask, and of it what was asked for."""

    rule: Rule
    offer: Offer


class Terms(Struct, frozen=True, kw_only=True):
    """What a policy makes of one intent: for how long (seconds), for which tenant, and by which rules, in order."""

    purpose: str
    ttl: int
    tenant: str | None
    rules: tuple[Rule, ...]

    def at_open(self) -> tuple[Rule, ...]:
        """The rules whose grants are given with the task."""
        return tuple(rule for rule in self.rules if rule.how == "at_open")

    def match(self, audience: str, action: str, args: Mapping[str, JSON] | None) -> Match | None:
        """What decides about an ask; None if nothing offers it."""
        return next(
            (
                Match(rule, offer)
                for rule in self.rules
                for offer in rule.offers
                if offer.covers(audience, action, args)
            ),
            None,
        )


class Purpose(Struct, frozen=True, kw_only=True):
    """A kind of work: for how long (seconds), what an intent must say, and what it needs, once the intent is known.

    `tenant` tells that it is for one tenant, whose name every grant carries. `names` are the parameters that it takes.
    """

    name: str
    ttl: int
    require: tuple[str, ...]
    tenant: bool
    names: frozenset[str]
    rules: Callable[[Intent], tuple[Rule, ...]]


class Policy(Struct, frozen=True, kw_only=True):
    """What an authority goes by; `digest` is the SHA-256 of its file, base64url, by which the log names it."""

    digest: str = ""
    audiences: Mapping[str, str] = MappingProxyType({})
    principals: Mapping[str, Principal] = MappingProxyType({})
    purposes: Mapping[str, Purpose] = MappingProxyType({})

    def terms(self, intent: Intent) -> Terms:
        """What this intent gets; InvalidRequest says why it gets nothing, and what would do."""
        raise NotImplementedError

    def members(self, group: str) -> tuple[str, ...]:
        """The principals that are, or are in, this group."""
        return tuple(
            principal.name
            for principal in self.principals.values()
            if group == principal.name or group in principal.groups
        )


NO_POLICY: Final = Policy()
"""What an authority goes by that has none: it takes no intent, and grants nothing that is asked for."""
