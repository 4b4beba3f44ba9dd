"""The caveats of the vocabulary, one class each.

To add a caveat, write its class here and list it in `vocabulary.DEFAULT`.
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice
from typing import Annotated, Final

from msgspec import UNSET, Meta, UnsetType

from capx_caveats.amount import is_amount, plus
from capx_caveats.call import CALLS, Call, Facts
from capx_caveats.caveat import Caveat, Refusal
from capx_caveats.constraint import Constraint, Judgement, Wire
from capx_caveats.constraints import AnyConstraint, Misfit, Pair, demand_distinct, misfits
from capx_caveats.errors import InvalidCaveat
from capx_caveats.names import (
    OTHERS,
    demand,
    demand_argument,
    demand_attribute,
    demand_pattern,
    demand_tenant,
    is_attribute,
    is_id,
    told_name,
)
from capx_caveats.shown_values import evidence, shown
from capx_caveats.values import JSON, MISSING, Natural, Value
from capx_caveats.when import shown_duration, shown_instant


class UntilCompleted(Caveat, frozen=True, tag="until_completed"):
    """The task has not ended. The caveat itself is always satisfied: the verifier looks the task up among the deaths.

    A death is the store's record that a task ended or that something was revoked.
    """

    task: str

    def __post_init__(self) -> None:
        demand(is_id(self.task), "a task id", self.task)

    def refusal(self, facts: Facts) -> Refusal | None:
        # A caveat does no I/O, so it cannot look the task up. The verifier reads this caveat and does it.
        return None

    def sentence(self) -> str:
        return f"until task {self.task} ends"


class Expires(Caveat, frozen=True, tag="expires"):
    """The call is before this time: now < at (Unix seconds)."""

    at: Natural

    def refusal(self, facts: Facts) -> Refusal | None:
        return None if facts.now < self.at else self.refused()

    def refused(self) -> Refusal:
        """Return the refusal for every call from this time on."""
        return Refusal("expired", f"expired at {shown_instant(self.at)}", self.sentence())

    def sentence(self) -> str:
        return f"expires at {shown_instant(self.at)}"


class NotBefore(Caveat, frozen=True, tag="not_before"):
    """The call is not before this time: now ≥ at (Unix seconds)."""

    at: Natural

    def refusal(self, facts: Facts) -> Refusal | None:
        if facts.now >= self.at:
            return None
        return Refusal("not_yet", f"is not valid before {shown_instant(self.at)}", self.sentence())

    def sentence(self) -> str:
        return f"not before {shown_instant(self.at)}"


class Fresh(Caveat, frozen=True, tag="fresh"):
    """The verifier's news of revocations is at most this many seconds old; this can only tighten its own bound."""

    seconds: Natural

    def refusal(self, facts: Facts) -> Refusal | None:
        if facts.age <= self.seconds:
            return None
        return Refusal("stale_liveness", f"demands {self.sentence()}", self.sentence())

    def sentence(self) -> str:
        return f"news of revocations at most {shown_duration(self.seconds)} old"


class Tenant(Caveat, frozen=True, tag="tenant"):
    """The call's tenant is exactly this one."""

    name: str

    def __post_init__(self) -> None:
        demand_tenant(self.name)

    def refusal(self, facts: Facts) -> Refusal | None:
        if facts.call.tenant == self.name:
            return None
        if facts.call.tenant is None:
            return Refusal(
                "attribute_missing", f"is for tenant {shown(self.name)}, and this call has none", self.sentence()
            )
        return Refusal("wrong_tenant", f"is for tenant {shown(self.name)}, not for this call's", self.sentence())

    def refused(self) -> Refusal:
        """Return the refusal for every call that is not of this tenant; it does not tell whether the call has one."""
        sentence = f"is for tenant {shown(self.name)}, and this call is for another one or for none"
        return Refusal("wrong_tenant", sentence, self.sentence())

    def sentence(self) -> str:
        return f"tenant is {shown(self.name)}"


class Entry(Wire, frozen=True):
    """An action, or every action below one (`crm.*`), and the constraints on its arguments.

    Without `args`, any arguments are allowed. With `args`, even if it is empty, the list of arguments is closed: the
    call is denied if it has an argument that no pair names, unless a pair for `*` allows it.
    """

    pattern: str
    args: tuple[Pair, ...] | UnsetType = UNSET

    def __post_init__(self) -> None:
        demand_pattern(self.pattern)
        if self.args is not UNSET:
            demand_distinct(self.args)

    def matches(self, action: str) -> bool:
        """Whether this entry is about the action."""
        pattern = self.pattern
        # Only the `*` is cut off: with its dot, `crm.*` does not match `crmx.read`.
        return action == pattern or (pattern.endswith(".*") and action.startswith(pattern[:-1]))

    def misfit(self, call: Call) -> Misfit | None:
        """Return the first argument that this entry does not allow; None if it allows all of them."""
        return next(self.misfits(call), None)

    def misfits(self, call: Call) -> Iterator[Misfit]:
        """Return the arguments that this entry does not allow. It judges one when it is asked for the next."""
        if self.args is UNSET:
            return iter(())
        seen = call.seen_by([pair.name for pair in self.args]) if call.defaults else call.args
        return misfits(self.args, seen)

    def passed(self, misfit: Misfit) -> int:
        """Return how many pairs for named arguments say yes before this misfit; more means a closer entry."""
        named = [] if self.args is UNSET else [pair.name for pair in self.args if pair.name != OTHERS]
        return named.index(misfit.name) if misfit.name in named else len(named)

    def refused(self, first: Misfit, others: Iterable[Misfit] = ()) -> Refusal:
        """Return the refusal for arguments that this entry does not allow; the first of them decides the code."""
        allows = f"allows {self.pattern}"
        found = [first, *islice(others, _TOLD)]
        more = "; and more" if len(found) > _TOLD else ""
        rules, wrong, unnamed = dict[str, None](), list[Misfit](), list[str]()
        for misfit in found[:_TOLD]:
            if misfit.pair is None:
                unnamed.append(shown(misfit.name))
            else:
                rules[misfit.pair.sentence()] = None
                wrong.append(misfit)
        without = f"without an argument {' or '.join(unnamed)}"
        if first.pair is None:
            general = f"{allows} without an argument that it does not name"
            sentence = f"{allows} {without}{more}"
            return Refusal("argument_not_named", sentence, self.sentence(), given=first.name, general=general)
        told = [f"{allows} only where {' and '.join(rules)}", *map(_wrong, wrong), *([without] if unnamed else [])]
        # Of the first alone: each other one would tell more of arguments that are data of the service.
        general = f"{allows} only where {first.pair.sentence()}"
        given = {one.name: evidence(one.value) for one in wrong if one.value is not MISSING}
        return Refusal(
            "argument_refused",
            "; ".join(told) + more,
            self.sentence(),
            given=UNSET if first.value is MISSING else given,
            general=general,
        )

    def sentence(self) -> str:
        """`slides.write where deck is "deck-42"`."""
        if self.args is UNSET:
            return self.pattern
        if not self.args:
            return f"{self.pattern} without arguments"
        return f"{self.pattern} where " + " and ".join(pair.sentence() for pair in self.args)


_TOLD: Final = 8
"""The most arguments that one refusal names."""


def _wrong(misfit: Misfit) -> str:
    if misfit.value is MISSING:
        return f"{shown(misfit.name)} is not given"
    constraint = None if misfit.pair is None else misfit.pair.constraint
    return f"{shown(misfit.name)} is {_as_judged(misfit.value, misfit.said, constraint)}"


def _as_judged(value: JSON, said: Judgement, constraint: Constraint | None) -> str:
    if said is False or constraint is None:
        return shown(value)
    why = constraint.obstacle(value)
    return f"{shown(value)}, which this rule cannot judge{why and ': '}{why}"


class Allow(Caveat, frozen=True, tag="allow"):
    """The allowlist of actions: at least one entry matches the action and allows all its arguments."""

    entries: Annotated[tuple[Entry, ...], Meta(min_length=1)]

    def permits(self, action: str) -> bool:
        """Whether any entry is about the action, whatever its arguments are."""
        return any(entry.matches(action) for entry in self.entries)

    def refusal(self, facts: Facts) -> Refusal | None:
        call = facts.call
        nearest: tuple[Entry, Misfit, Iterator[Misfit]] | None = None
        for entry in self.entries:
            # The plain comparison first: most entries name one action, and it saves a method call.
            if entry.pattern == call.action or entry.matches(call.action):
                found = entry.misfits(call)
                if (misfit := next(found, None)) is None:
                    return None
                # Report the entry that came closest: it tells the agent best what to change.
                if nearest is None or entry.passed(misfit) > nearest[0].passed(nearest[1]):
                    nearest = entry, misfit, found
        return self.ruled_out(call.action) if nearest is None else nearest[0].refused(*nearest[1:])

    def ruled_out(self, action: str) -> Refusal:
        """Return the refusal for an action that no entry is about."""
        sentence = self.sentence()
        return Refusal("action_not_allowed", sentence, sentence, given=action)

    def sentence(self) -> str:
        return "allows only " + "; ".join(entry.sentence() for entry in self.entries)


class Where(Caveat, frozen=True, tag="where"):
    """The attribute of the call, or its argument for `args.NAME`, satisfies the constraint, whatever the action is."""

    attribute: str
    constraint: AnyConstraint

    def __post_init__(self) -> None:
        if self.attribute.startswith("args."):
            demand_argument(self.attribute[5:])
        else:
            demand_attribute(self.attribute)
            if self.constraint.about_absence:
                raise InvalidCaveat("`absent` cannot be used here: the resource always states its attributes")

    def refusal(self, facts: Facts) -> Refusal | None:
        of_argument, call = self.attribute.startswith("args."), facts.call
        name = self.attribute[5:] if of_argument else self.attribute
        value: Value = (call.args if of_argument else call.attributes).get(name, MISSING)
        if value is MISSING and of_argument:
            value = call.defaults.get(name, MISSING)
        said = self.constraint.judge(value)
        if said is True:
            return None
        # Written once: to write a constraint takes time that grows with it.
        needs = self.sentence()
        sentence = f"demands {needs}"
        if value is MISSING:
            return Refusal("attribute_missing", f"{sentence}, and it is missing", needs)
        if not of_argument:
            # An attribute is the resource's own data, so its value is not shown to the bearer.
            return Refusal("argument_refused", sentence, needs)
        told = f"{sentence}; {shown(name)} is {_as_judged(value, said, self.constraint)}"
        return Refusal("argument_refused", told, needs, given={name: evidence(value)}, general=sentence)

    def sentence(self) -> str:
        return f"{told_name(self.attribute)} {self.constraint.sentence()}"


class Budget(Caveat, frozen=True, tag="budget"):
    """The amount spent in this unit, including this call's cost, stays within the limit (a decimal number as text).

    Everyone below this caveat shares one counter. A budget in the authority's block may name its counter, so that
    several capabilities share it.
    """

    unit: str
    limit: str
    counter: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        demand(is_attribute(self.unit), "a unit", self.unit)
        demand(is_amount(self.limit), "an amount such as 20 or 0.5", self.limit)
        if self.counter is not UNSET:
            demand(is_id(self.counter), "a counter's id", self.counter)

    def refusal(self, facts: Facts) -> Refusal | None:
        if not facts.metered:
            return Refusal("no_meter", f"allows {self.sentence()}, and no meter counts here", "a verifier with a meter")
        cost = facts.call.cost_in(self.unit)
        if cost is None:
            sentence = f"allows {self.sentence()}, and this call states no cost in {self.unit}"
            stated = f'state it at the guard, as in `cost={{"{self.unit}": 0}}` for what is free'
            return Refusal("attribute_missing", sentence, self.sentence(), detail=stated)
        # Only the meter knows what is spent. Here a call is denied that would not fit even into an unused budget.
        return self.exhausted(Decimal(0), cost)

    def exhausted(self, spent: Decimal, cost: Decimal) -> Refusal | None:
        """Return the refusal for a call that costs more than is left after `spent`; None if it fits."""
        if plus(spent, cost) <= Decimal(self.limit):
            return None
        # No number here: the bearer must not learn how much others have spent.
        what = "all of it is spent" if spent >= Decimal(self.limit) else "this call costs more than is left"
        return Refusal("budget_exhausted", f"allows {self.sentence()}, and {what}", self.sentence())

    def sentence(self) -> str:
        unit = "call" if (self.limit, self.unit) == ("1", CALLS) else self.unit
        return f"at most {self.limit} {unit}, shared by everyone below"


class NotUnderstood(Caveat, frozen=True):
    """A part of a block that this verifier does not understand. It is kept and shown, and it denies every call.

    `what` is an excerpt of the text, `why` the reader's reason. `own` says that it has the form of one caveat with a
    dotted tag, as a service's own caveats have it.
    """

    what: str
    why: str
    own: bool = False

    def refusal(self, facts: Facts) -> Refusal | None:
        return Refusal("not_understood", f"has a caveat that is not understood here ({self.why})", "a newer verifier")

    def sentence(self) -> str:
        return f"not understood: {self.what}"
