"""The grants of a purpose as the policy states them: rules with placeholders for values of an intent.

Laws: a rule takes each value as a whole, and never parses it again. If the intent lacks a value, or one does not fit
its place, the error gives the key path, and the purpose gets no rule at all.
"""

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from capx.errors import InvalidRequest
from capx.intents.intent import Intent
from capx.policy.constraints import PairTemplate, instantiated
from capx.policy.placeholders import Placeholder, ValueSource, placeholders_in, probe_of, values_of
from capx.policy.terms import How, Offer, Rule
from capx.policy.toml_reader import Wrong, every, explained
from capx.tokens.grants import ApprovalRule
from capx_caveats import Budget, Entry


class OfferTemplate(Struct, frozen=True):
    """An action or pattern at an audience, with its arguments; without `args`, any arguments are allowed."""

    path: str
    audience: str
    pattern: str
    args: tuple[PairTemplate, ...] | UnsetType = UNSET

    def offer(self, source: ValueSource) -> Offer:
        """Return the concrete offer; raise Wrong if it cannot be built."""
        if self.args is UNSET:
            return Offer(self.audience, Entry(self.pattern))
        pairs = instantiated(self.args, source)
        return explained(self.path, lambda: Offer(self.audience, Entry(self.pattern, pairs)))


class BudgetTemplate(Struct, frozen=True):
    """The limit of one unit."""

    unit: str
    path: str
    amount: int | str | Placeholder

    def budget(self, source: ValueSource) -> Budget:
        """Return the concrete budget; raise Wrong if it cannot be built."""
        amount = instantiated(self.amount, source)
        return explained(self.path, lambda: Budget(self.unit, str(amount)))


class RuleTemplate(Struct, frozen=True, kw_only=True):
    """One grant, which becomes a rule once the intent is known; `fixed` is a rule without placeholders."""

    place: str
    how: How
    allowed: tuple[OfferTemplate, ...]
    limits: tuple[BudgetTemplate, ...]
    approvers: tuple[str, ...]
    within: int | None
    uses: int | None
    pinned: bool | tuple[str, ...]
    approval: ApprovalRule | None = None
    fixed: Rule | None = None

    def probed(self) -> "RuleTemplate":
        """Build the rule once with probes, and return the grant.

        If it has no placeholders, the rule is kept as `fixed`, so that no intent has to build it again.
        """
        rule = self.rule(probe_of)
        return self if any(placeholders_in(self)) else replace(self, fixed=rule)

    def rule(self, source: ValueSource) -> Rule:
        """Return the concrete rule; Wrong says what the intent lacks, or what does not fit."""
        if self.fixed is not None:
            return self.fixed
        return Rule(
            place=self.place,
            how=self.how,
            offers=every(lambda one: one.offer(source), ((one,) for one in self.allowed)),
            budgets=every(lambda one: one.budget(source), ((one,) for one in self.limits)),
            approvers=self.approvers,
            within=self.within,
            uses=self.uses,
            pinned=self.pinned,
            approval=self.approval,
        )


class RuleTemplates(Struct, frozen=True):
    """The grants of one purpose, in the order of the file."""

    grants: tuple[RuleTemplate, ...]

    def __call__(self, intent: Intent) -> tuple[Rule, ...]:
        """Return the rules for this intent; InvalidRequest says by key path why there are none."""
        source = values_of(intent)
        try:
            return every(lambda grant: grant.rule(source), ((grant,) for grant in self.grants))
        except Wrong as error:
            # Several rules may lack the same value: say it once.
            raise InvalidRequest("; ".join(dict.fromkeys(error.lines))) from None

    def probed(self) -> tuple[Rule, ...]:
        """Return the rules, built with probes."""
        return tuple(grant.rule(probe_of) for grant in self.grants)

    @property
    def names(self) -> frozenset[str]:
        """The names of the values that the grants take from an intent."""
        return frozenset(one.name for one in placeholders_in(self.grants))
