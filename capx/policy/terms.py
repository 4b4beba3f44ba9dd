"""The terms of one intent: the rules that a policy has for it, in the order in which they decide.

Law: what no rule offers is never given; the first rule that matches an ask decides.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Final, Literal

from msgspec import Struct

from capx.tokens.grants import Given
from capx_caveats import JSON, Budget, Call, Entry

How = Literal["at_open", "on_request", "ask"]
"""When a rule gives: as the task opens, when an agent asks, or when a person has consented too."""
HOWS: Final[tuple[How, ...]] = ("at_open", "on_request", "ask")
"""How a rule gives, in the order in which rules decide."""


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


class Terms(Struct, frozen=True, kw_only=True, dict=True):
    """What a policy makes of one intent: for how long (seconds), for which tenant, and by which rules, in order."""

    purpose: str
    ttl: int
    tenant: str | None
    rules: tuple[Rule, ...]

    def at_open(self) -> tuple[Rule, ...]:
        """The rules whose grants are given with the task."""
        return tuple(rule for rule in self.rules if rule.how == "at_open")

    @cached_property
    def given_at_open(self) -> tuple[Given, ...]:
        """What a task gets when it opens, a capability each.

        There is one for each audience and each set of budgets at it, so that a budget counts what it is meant for. The
        newest is tried first, so what the first rule gives stands last at its audience.
        """
        groups: dict[str, dict[tuple[Budget, ...], list[Entry]]] = {}
        for rule in self.at_open():
            for offer in rule.offers:
                groups.setdefault(offer.audience, {}).setdefault(rule.budgets, []).append(offer.entry)
        return tuple(
            Given(audience, tuple(dict.fromkeys(entries)), budgets)
            for audience, of_budgets in groups.items()
            for budgets, entries in reversed(of_budgets.items())
        )

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


def in_order(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules in the order in which they decide; those that give alike stay in theirs."""
    return tuple(sorted(rules, key=lambda rule: HOWS.index(rule.how)))
