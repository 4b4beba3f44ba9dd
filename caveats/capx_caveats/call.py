"""The call: what a resource is about to do, stated by the resource itself.

Law: nothing in a call comes from what the bearer says about itself; its arguments are those of the execution,
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
from capx_caveats.values import JSON, demand_json

NOTHING: Final[Mapping[str, JSON]] = MappingProxyType({})
FREE: Final[Mapping[str, Amount]] = MappingProxyType({})
CALLS: Final = "calls"
"""The unit in which every call costs 1."""


class Call(Struct, frozen=True):
    """One action about to be executed, with everything that caveats may judge.

    `cost` is what it costs in each unit that a budget may count, besides the one call that it always is. Raises
    InvalidCaveat for names, values or amounts that are none.
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
        for name, value in self.args.items():
            demand_argument(name)
            demand_json(value)
        for name, value in self.attributes.items():
            demand_attribute(name)
            demand_json(value)
        for unit, cost in self.cost.items():
            demand(is_attribute(unit), "a unit", unit)
            if unit == CALLS:
                raise InvalidCaveat("a call costs 1 in `calls`, always: state no other cost in it")
            amount(cost)

    def cost_in(self, unit: str) -> Decimal | None:
        """What it costs in this unit; None when that is not stated."""
        if unit == CALLS:
            return _ONE
        stated = self.cost.get(unit)
        return None if stated is None else amount(stated)


_ONE = Decimal(1)


class Facts(Struct, frozen=True):
    """What a caveat may see: the call, the time (whole Unix seconds) and the age of what is known about deaths (s).

    `metered`: there is something that counts what is spent.
    """

    call: Call
    now: int
    age: float
    metered: bool = False
