"""The call: what a resource is about to do, stated by the resource itself.

Law: nothing in a call comes from what the bearer says about itself; its arguments are those of the execution,
defaults filled in.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from capx_caveats.names import demand, demand_argument, demand_attribute, is_action, is_label
from capx_caveats.values import JSON, demand_json

NOTHING: Final[Mapping[str, JSON]] = MappingProxyType({})


class Call(Struct, frozen=True):
    """One action about to be executed, with everything that caveats may judge.

    Raises InvalidCaveat for names or values outside JSON as capx reads it.
    """

    action: str
    args: Mapping[str, JSON] = NOTHING
    tenant: str | None = None
    attributes: Mapping[str, JSON] = NOTHING

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


class Facts(Struct, frozen=True):
    """What a caveat may see: the call, the time (whole Unix seconds) and the age of what is known about deaths (s)."""

    call: Call
    now: int
    age: float
