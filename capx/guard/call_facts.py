"""What a guard states about a call: which of a function's arguments, whose tenant, what it costs.

Law: arguments are judged as they will be executed, defaults filled in.
"""

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from capx.errors import ConfigurationProblem, InvalidCaveat
from capx.verify.admitted import Admitted
from capx.verify.decision import Denied
from capx_caveats import JSON, Amount, Call, Refusal, is_action, is_label


class GrantedTenant(enum.Enum):
    """The type of GRANTED."""

    GRANTED = "the tenant of the authority's block"


GRANTED: Final = GrantedTenant.GRANTED
"""As a tenant: the one that the authority named, for code that keeps to it; none named: incomplete_authority."""

Tenancy = str | GrantedTenant | Callable[..., str | None] | None
"""A call's tenant: a constant, GRANTED, or a function of some of the arguments, by their names."""
Derived = Mapping[str, JSON] | Callable[..., Mapping[str, JSON]] | None
"""Facts by name: constant, or a function of some of the arguments, by their names."""
Costs = Mapping[str, Amount] | Callable[..., Mapping[str, Amount]] | None
"""What a call costs, by unit: constant, or a function of some of the arguments, by their names."""


def derive(derivation: Any, arguments: Mapping[str, Any]) -> Any:
    """A constant itself; of a function, what it says about the arguments that it takes."""
    if not callable(derivation):
        return derivation
    return derivation(**{name: arguments[name] for name in _taken(derivation)})


def demand_derivable(what: str, derivation: Any, names: Iterable[str]) -> None:
    """Raise ConfigurationProblem unless `derive` can call the derivation with these arguments."""
    if what == "tenant" and isinstance(derivation, str) and not is_label(derivation):
        raise ConfigurationProblem(f"{derivation!r:.80} is not a tenant")
    if not callable(derivation):
        if what != "tenant" and derivation is not None and not isinstance(derivation, Mapping):
            raise ConfigurationProblem(
                f"`{what}=` is a function of arguments that gives names and values, such as "
                "`lambda job: job.model_dump()`, or a mapping of constants"
            )
        return
    import inspect

    if inspect.iscoroutinefunction(derivation):
        raise ConfigurationProblem(f"`{what}=` is a plain function: facts that must be waited for need `deferred`")
    if unknown := set(_taken(derivation)).difference(names):
        raise ConfigurationProblem(f"`{what}=` takes {', '.join(sorted(unknown))}, which is no argument it may see")


def _taken(derivation: Callable[..., Any]) -> list[str]:
    import inspect

    return list(inspect.signature(derivation).parameters)


class CallSpec(Struct, frozen=True):
    """The action of a guarded function, and where the other facts of its calls come from."""

    action: str
    tenant: Tenancy = None
    attributes: Derived = None
    cost: Costs = None

    def __post_init__(self) -> None:
        if not is_action(self.action):
            raise ConfigurationProblem(f"{self.action!r:.80} is not an action: labels joined by dots")

    def demand_derivable(self, names: Iterable[str]) -> None:
        """Raise ConfigurationProblem unless all can be had of arguments with these names."""
        for what, derivation in (("tenant", self.tenant), ("attributes", self.attributes), ("cost", self.cost)):
            demand_derivable(what, derivation, names)
        if self.cost is not None and not callable(self.cost):
            try:
                Call("any", cost=self.cost)
            except InvalidCaveat as error:
                raise ConfigurationProblem(f"`cost=`: {error}") from None

    def facts(self, args: Mapping[str, JSON], arguments: Mapping[str, Any], *, sent: bool = False) -> "CallFacts":
        """Those of the call with these arguments; `args` are the arguments as caveats see them."""
        return CallFacts(
            self.action,
            args,
            tenant=derive(self.tenant, arguments),
            attributes=derive(self.attributes, arguments),
            cost=_by_unit(derive(self.cost, arguments)),
            sent=sent,
        )


def _by_unit(cost: object) -> Mapping[str, Amount] | None:
    """What a call costs, not yet looked at; ConfigurationProblem if it is not by unit."""
    if cost is not None and not isinstance(cost, Mapping):
        raise ConfigurationProblem(f"`cost=` gave a {type(cost).__name__}, and not units and amounts")
    return cost  # pyright: ignore[reportUnknownVariableType] # a call looks at what is in it


class CallFacts(Struct, frozen=True):
    """What a guard states about one call that is about to be executed.

    `tenant` may be GRANTED; `cost` is what it costs in each unit besides `calls`. `sent` tells that the arguments are
    what the bearer sent, or defaults of the action: a denial may name them.
    """

    action: str
    args: Mapping[str, JSON]
    tenant: str | GrantedTenant | None = None
    attributes: Mapping[str, JSON] | None = None
    cost: Mapping[str, Amount] | None = None
    sent: bool = False

    def call(self, admitted: Admitted) -> Call:
        """The call; what capx does not read, in arguments or derived from them, is the bearer's, so it is refused."""
        tenant = admitted.granted_tenant() if isinstance(self.tenant, GrantedTenant) else self.tenant
        try:
            return Call(self.action, self.args, tenant, self.attributes or {}, self.cost or {})
        except InvalidCaveat:
            refusal = self._refusal(tenant)
        raise Denied(admitted.refused((refusal,), self.action))

    def _refusal(self, tenant: str | None) -> Refusal:
        """Which part is no part of a call."""
        code, sentence, wanted = "argument_refused", "an argument cannot be judged", "JSON values"
        try:
            Call(self.action, self.args)
            code, sentence, wanted = "wrong_tenant", "nobody can be this tenant", "a tenant"
            Call(self.action, tenant=tenant)
            code, sentence, wanted = "argument_refused", "an attribute cannot be judged", "JSON values"
            Call(self.action, attributes=self.attributes or {})
            code, sentence, wanted = "argument_refused", "what it costs cannot be counted", "amounts"
            Call(self.action, cost=self.cost or {})
        except InvalidCaveat as error:
            sentence = f"{sentence}: {error}"
        return Refusal(code, sentence, wanted)
