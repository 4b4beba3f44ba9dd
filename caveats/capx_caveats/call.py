"""A call: the action that a resource is about to execute, described by the resource itself.

Law: nothing in a call comes from what the bearer says about itself. The arguments are those of the execution, with
defaults filled in.
"""

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from capx_caveats.amount import Amount, amount
from capx_caveats.errors import InvalidCaveat
from capx_caveats.names import demand, demand_argument, demand_attribute, is_action, is_attribute, is_label
from capx_caveats.values import JSON, demand_dict, demand_json

NOTHING: Final[Mapping[str, JSON]] = MappingProxyType({})
FREE: Final[Mapping[str, Amount]] = MappingProxyType({})
CALLS: Final = "calls"
"""The unit in which every call costs 1."""


class Call(Struct, frozen=True):
    """One action that is about to be executed, with everything that caveats may judge.

    `args`, `attributes` and `cost` are plain dicts, or read-only views of them (`MappingProxyType`).
    `cost` is the cost in each unit that a budget may count. Every call also costs 1 in the unit `calls`. Raises
    InvalidCaveat for invalid names, values or amounts.
    """

    action: str
    args: Mapping[str, JSON] = NOTHING
    tenant: str | None = None
    attributes: Mapping[str, JSON] = NOTHING
    cost: Mapping[str, Amount] = FREE

    def __post_init__(self) -> None:
        demand(is_action(self.action), "an action (labels joined by dots)", self.action)
        if self.tenant is not None:
            demand(is_label(self.tenant), "a tenant", self.tenant)
        for stated in (self.args, self.attributes, self.cost):
            demand_dict(stated)
        for name, value in self.args.items():
            demand_argument(name)
            demand_json(value)
        for name, value in self.attributes.items():
            demand_attribute(name)
            demand_json(value)
        for unit, cost in self.cost.items():
            demand(is_attribute(unit), "a unit", unit)
            if unit == CALLS:
                raise InvalidCaveat("a call always costs 1 in `calls`: leave that unit out of `cost`")
            amount(cost)

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
