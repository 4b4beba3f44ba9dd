"""The terms of one intent: the rules that a policy has for it, in the order in which they decide.

Law: a task gets only what a rule offers. The first rule that matches an ask decides.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Final, Literal

from msgspec import UNSET, Struct

from capx.tokens.grants import ApprovalRule, Given
from capx.tokens.pins import offer_digest
from capx_caveats import JSON, MISSING, OTHERS, Allow, Budget, Call, Entry

How = Literal["at_open", "on_request", "ask"]
"""When a rule gives: as the task opens, when an agent asks, or when an agent asks and a person consents."""
HOWS: Final[tuple[How, ...]] = ("at_open", "on_request", "ask")
"""The ways in which rules give, in the order in which rules decide."""


class Offer(Struct, frozen=True, dict=True):
    """One action or pattern at one audience, and what its arguments must be."""

    audience: str
    entry: Entry

    @cached_property
    def digest(self) -> str:
        """What tells it from all other offers of its terms: of two with the same entry, the second is never matched."""
        return offer_digest(Allow((self.entry,)).wire())

    def covers(self, audience: str, action: str, args: Mapping[str, JSON] | None) -> bool:
        """Whether this offer covers the call. Without `args`, only the audience and the action are compared."""
        if audience != self.audience or not self.entry.matches(action):
            return False
        return args is None or self.entry.misfit(Call(action, args)) is None

    def unnamed(self, args: Mapping[str, JSON]) -> tuple[str, ...]:
        """Return those of the arguments that the entry refuses whatever they are: it does not name them."""
        if self.entry.args is UNSET:
            return ()
        named = {pair.name for pair in self.entry.args}
        return () if OTHERS in named else tuple(name for name in args if name not in named)


class Rule(Struct, frozen=True, kw_only=True):
    """One grant of a purpose, with its values filled in; `place` is its key path, such as `purpose.refund.grant[2]`.

    Its budgets name no counter, so all grants of a task with the same unit share one. The others are only for `ask`:
    `approvers` are groups or principals, who have `within` seconds to answer. One consent is good for `uses` calls
    (None: until the task ends) with the arguments that it is `pinned` to: all of them, those listed, or (False) those
    that the agent chooses to name. With `approval`, each call of what is given needs the approval of people.
    """

    place: str
    how: How
    offers: tuple[Offer, ...]
    budgets: tuple[Budget, ...] = ()
    approvers: tuple[str, ...] = ()
    within: int | None = None
    uses: int | None = None
    pinned: bool | tuple[str, ...] = True
    approval: ApprovalRule | None = None

    @property
    def needs_arguments(self) -> bool:
        """Whether an ask must say with which arguments the call will be made."""
        return self.how == "ask" and self.pinned is not False

    @property
    def pinned_names(self) -> tuple[str, ...] | None:
        """The names of the arguments to pin, if the rule lists them; None if an ask is pinned to all that it names."""
        return self.pinned if self.how == "ask" and isinstance(self.pinned, tuple) else None


class Match(Struct, frozen=True):
    """The rule that decides an ask, and the offer in it that covers the ask."""

    rule: Rule
    offer: Offer


class Terms(Struct, frozen=True, kw_only=True, dict=True):
    """The rights of one intent under a policy: for how long (`ttl`, seconds), for which tenant, and by which rules."""

    purpose: str
    ttl: int
    tenant: str | None
    rules: tuple[Rule, ...]

    def at_open(self) -> tuple[Rule, ...]:
        """Return the rules that give when the task opens."""
        return tuple(rule for rule in self.rules if rule.how == "at_open")

    @cached_property
    def given_at_open(self) -> tuple[Given, ...]:
        """The capabilities that a task gets when it opens.

        There is one for each audience, and there for each set of budgets and each approval, so that a budget counts
        only the actions of its own rules, and only their calls need an approval. Agents try the newest capability
        first, so the one of the first rule comes last at its audience.
        """
        groups: dict[str, dict[tuple[tuple[Budget, ...], ApprovalRule | None], list[Entry]]] = {}
        for rule in self.at_open():
            for offer in rule.offers:
                alike = groups.setdefault(offer.audience, {}).setdefault((rule.budgets, rule.approval), [])
                alike.append(offer.entry)
        return tuple(
            Given(audience, tuple(dict.fromkeys(entries)), budgets, approval)
            for audience, alike in groups.items()
            for (budgets, approval), entries in reversed(alike.items())
        )

    def match(self, audience: str, action: str, args: Mapping[str, JSON] | None) -> Match | None:
        """Return the rule and offer that decide an ask; None if no rule offers it."""
        return next(
            (
                Match(rule, offer)
                for rule in self.rules
                for offer in rule.offers
                if offer.covers(audience, action, args)
            ),
            None,
        )

    def unnamed(self, audience: str, action: str, args: Mapping[str, JSON]) -> tuple[str, ...]:
        """Return the arguments that alone keep an ask from being offered: some offer covers it without them."""
        for offer in (offer for rule in self.rules for offer in rule.offers):
            names = offer.unnamed(args)
            rest = {name: value for name, value in args.items() if name not in names}
            if names and offer.covers(audience, action, rest):
                return names
        return ()

    def missing(self, audience: str, action: str, args: Mapping[str, JSON]) -> tuple[str, ...]:
        """Return the arguments that the ask leaves out, if nothing else keeps some offer from covering it."""
        for offer in (offer for rule in self.rules for offer in rule.offers if offer.covers(audience, action, None)):
            found = list(offer.entry.misfits(Call(action, args)))
            if found and all(one.value is MISSING for one in found):
                return tuple(one.name for one in found)
        return ()


def in_order(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return the rules in the order in which they decide; rules of the same kind keep their order."""
    return tuple(sorted(rules, key=lambda rule: HOWS.index(rule.how)))
