"""The grants of a purpose, as they stand in a policy: rules, but for what each takes from an intent.

Laws: what is taken is put in as a whole value, and nothing of it is read again. What the intent lacks, or what does not
fit where it is put, is told by key path, and then no rule of the purpose is made.
"""

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from capx.errors import InvalidRequest
from capx.intents.intent import Intent
from capx.policy.constraints import Named, filled
from capx.policy.placeholders import Placeholder, Take, probing, taken, taking
from capx.policy.terms import How, Offer, Rule
from capx.policy.toml_reader import Wrong, every, explained
from capx_caveats import Budget, Entry


class OfferTemplate(Struct, frozen=True):
    """An action, or pattern, at an audience, and its arguments, unless they are free."""

    path: str
    audience: str
    pattern: str
    args: tuple[Named, ...] | UnsetType = UNSET

    def offer(self, take: Take) -> Offer:
        """The offer, concrete; Wrong if it cannot be made."""
        if self.args is UNSET:
            return Offer(self.audience, Entry(self.pattern))
        pairs = filled(self.args, take)
        return explained(self.path, lambda: Offer(self.audience, Entry(self.pattern, pairs)))


class BudgetTemplate(Struct, frozen=True):
    """How much of a unit."""

    unit: str
    path: str
    amount: int | str | Placeholder

    def budget(self, take: Take) -> Budget:
        """The budget, concrete; Wrong if it cannot be made."""
        amount = filled(self.amount, take)
        return explained(self.path, lambda: Budget(self.unit, str(amount)))


class RuleTemplate(Struct, frozen=True, kw_only=True):
    """One grant; a rule, once the intent is known."""

    place: str
    how: How
    allowed: tuple[OfferTemplate, ...]
    limits: tuple[BudgetTemplate, ...]
    approvers: tuple[str, ...]
    within: int | None
    fixed: Rule | None = None

    def probed(self) -> "RuleTemplate":
        """The same, its rule made once with probes; one that takes nothing is `fixed`, and never made again."""
        rule = self.rule(probing)
        return self if any(taken(self)) else replace(self, fixed=rule)

    def rule(self, take: Take) -> Rule:
        """The rule, concrete; Wrong says what the intent lacks, or what does not fit."""
        if self.fixed is not None:
            return self.fixed
        return Rule(
            place=self.place,
            how=self.how,
            offers=every(lambda one: one.offer(take), ((one,) for one in self.allowed)),
            budgets=every(lambda one: one.budget(take), ((one,) for one in self.limits)),
            approvers=self.approvers,
            within=self.within,
        )


class RuleTemplates(Struct, frozen=True):
    """The grants of one purpose, in the order of the file."""

    grants: tuple[RuleTemplate, ...]

    def __call__(self, intent: Intent) -> tuple[Rule, ...]:
        """The rules for this intent; InvalidRequest says, by key path, why there are none."""
        take = taking(intent)
        try:
            return every(lambda grant: grant.rule(take), ((grant,) for grant in self.grants))
        except Wrong as error:
            raise InvalidRequest("; ".join(dict.fromkeys(error.lines))) from None

    def probed(self) -> tuple[Rule, ...]:
        """The rules, made with probes."""
        return tuple(grant.rule(probing) for grant in self.grants)

    @property
    def names(self) -> frozenset[str]:
        """What they take from an intent."""
        return frozenset(one.name for one in taken(self.grants))
