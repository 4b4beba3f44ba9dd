"""A call: the action that a resource is about to execute, described by the resource itself.

Law: nothing in a call comes from what the bearer says about itself. The arguments are those of the execution: those
that the caller gave, and beside them the defaults of the others.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from msgspec import Struct
from msgspec.structs import force_setattr

from capx_caveats.amount import Amount, amount
from capx_caveats.errors import InvalidCaveat
from capx_caveats.names import OTHERS, demand, demand_arguments, demand_attribute, is_action, is_attribute, is_label
from capx_caveats.values import JSON, demand_dict, demand_json, demand_members

NOTHING: Final[Mapping[str, JSON]] = MappingProxyType({})
FREE: Final[Mapping[str, Amount]] = MappingProxyType({})
CALLS: Final = "calls"
"""The unit in which every call costs 1."""


class Call(Struct, frozen=True):
    """One action that is about to be executed, with everything that caveats may judge.

    `args`, `attributes`, `cost` and `defaults` are plain dicts, or read-only views of them (`MappingProxyType`). `cost`
    is the cost in each unit that a budget may count. Every call also costs 1 in the unit `calls`. `defaults` are the
    arguments that the caller left out, with the values with which the action is executed. Caveats need not name them.
    Raises InvalidCaveat for invalid names, values or amounts.
    """

    action: str
    args: Mapping[str, JSON] = NOTHING
    tenant: str | None = None
    attributes: Mapping[str, JSON] = NOTHING
    cost: Mapping[str, Amount] = FREE
    defaults: Mapping[str, JSON] = NOTHING

    def __post_init__(self) -> None:
        demand(is_action(self.action), "an action (labels joined by dots)", self.action)
        if self.tenant is not None:
            demand(is_label(self.tenant), "a tenant", self.tenant)
        self._demand_names()
        for arguments in (self.args, self.defaults):
            demand_members(arguments)
        for stated in (self.attributes, self.cost):
            demand_dict(stated)
        for name, value in self.attributes.items():
            demand_attribute(name)
            demand_json(value)
        for unit, cost in self.cost.items():
            demand(is_attribute(unit), "a unit", unit)
            if unit == CALLS:
                raise InvalidCaveat("a call always costs 1 in `calls`: leave that unit out of `cost`")
            amount(cost)

    def _demand_names(self) -> None:
        for arguments in (self.args, self.defaults):
            demand_dict(arguments)
            demand_arguments(arguments)
        for name in self.defaults:
            if name in self.args:
                raise InvalidCaveat(f"the argument {name!r:.80} was given, so it has no default")

    @classmethod
    def of_json(
        cls,
        action: str,
        args: Mapping[str, JSON],
        tenant: str | None = None,
        *,
        attributes: Mapping[str, JSON] = NOTHING,
        cost: Mapping[str, Amount] = FREE,
        defaults: Mapping[str, JSON] = NOTHING,
    ) -> "Call":
        """Return the call with arguments whose values have passed `demand_json`: they are not looked at again."""
        call = cls(action, tenant=tenant, attributes=attributes, cost=cost)
        force_setattr(call, "args", args)
        force_setattr(call, "defaults", defaults)
        call._demand_names()
        return call

    @property
    def arguments(self) -> Mapping[str, JSON]:
        """All arguments with which the action is executed: those that were given, and the defaults of the others."""
        return {**self.defaults, **self.args} if self.defaults else self.args

    def seen_by(self, names: Iterable[str]) -> Mapping[str, JSON]:
        """The arguments that a rule sees if it names these. A rule that names `*` sees all.

        A default is no argument that the caller gave, so a rule that does not speak of it does not see it.
        """
        named = {*names}
        if OTHERS in named:
            return self.arguments
        return {**{name: value for name, value in self.defaults.items() if name in named}, **self.args}

    def cost_in(self, unit: str) -> Decimal | None:
        """Return the cost in this unit; None if the call does not state it."""
        if unit == CALLS:
            return _ONE
        stated = self.cost.get(unit)
        return None if stated is None else amount(stated)


_ONE = Decimal(1)


class Facts(Struct, frozen=True):
    """Everything that a caveat may see: the call, the time (whole Unix seconds), and the age of the news (seconds).

    The news is what the verifier knows of ended tasks and revocations. `metered` says that a meter counts what is
    spent.
    """

    call: Call
    now: int
    age: float
    metered: bool = False
