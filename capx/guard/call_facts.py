"""The facts of a call that a guard states: its action, arguments, tenant, attributes and cost.

Laws:

- A guard states the arguments and the defaults with which the function will run. "Arguments" are JSON, as caveats see
  them; "values" are what the function gets.
- The tenant comes first. If it is not the one that the authority named, no other fact is derived, read or judged.
"""

import enum
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypedDict

from msgspec import Struct, to_builtins

from capx.errors import ConfigurationProblem, InvalidCaveat
from capx.guard.observer import LOGGER
from capx.verify.admitted import Admitted
from capx.verify.decision import Denied
from capx_caveats import JSON, Amount, Call, Refusal, is_action, is_label

_log = logging.getLogger(LOGGER)


class GrantedTenant(enum.Enum):
    """The type of GRANTED."""

    GRANTED = "the tenant of the authority's block"


GRANTED: Final = GrantedTenant.GRANTED
"""The tenant that the authority named in the token. The code must then keep to that tenant.

If the authority named none, the call is denied: incomplete_authority.
"""

Tenancy = str | GrantedTenant | Callable[..., str | None] | None
"""A call's tenant: a constant, GRANTED, or a function whose parameters have the names of arguments."""
Derived = Mapping[str, JSON] | Callable[..., Mapping[str, JSON]] | None
"""Facts by name: a constant mapping, or a function whose parameters have the names of arguments."""
Costs = Mapping[str, Amount] | Callable[..., Mapping[str, Amount]] | None
"""The cost of a call by unit: a constant mapping, or a function whose parameters have the names of arguments."""


def derive(derivation: Any, values: Mapping[str, Any]) -> Any:
    """Return a constant as it is, or call a function with those values that its parameters name."""
    if not callable(derivation):
        return derivation
    return derivation(**{name: values[name] for name in _taken(derivation)})


def demand_derivation(what: str, derivation: Callable[..., Any], names: Iterable[str]) -> None:
    """Raise ConfigurationProblem unless this is a plain function of arguments with these names."""
    import inspect  # slow to import, and a constant does not need it

    if inspect.iscoroutinefunction(derivation):
        # A guard derives facts before the endpoint runs, and also for plain functions, which cannot await.
        raise ConfigurationProblem(f"`{what}=` is an async function: give a plain one, or use `deferred` to await")
    if unknown := set(_taken(derivation)).difference(names):
        raise ConfigurationProblem(
            f"`{what}=` takes {', '.join(sorted(unknown))}, which the guard cannot give it: name its parameters after "
            "arguments of the function"
        )


def _taken(derivation: Callable[..., Any]) -> list[str]:
    import inspect

    return list(inspect.signature(derivation).parameters)


class StatedArguments(NamedTuple):
    """The arguments of a call as caveats see them, and the defaults of those that the caller left out."""

    args: Mapping[str, JSON]
    defaults: Mapping[str, JSON]

    @property
    def arguments(self) -> Mapping[str, JSON]:
        """The arguments and the defaults."""
        return {**self.defaults, **self.args}

    def copied(self) -> "StatedArguments":
        """A copy that nobody else holds."""
        return StatedArguments(to_builtins(self.args), to_builtins(self.defaults))


class CallSpec(Struct, frozen=True):
    """The action of a guarded function, and where the other facts of its calls come from."""

    action: str
    tenant: Tenancy = None
    attributes: Derived = None
    cost: Costs = None

    def __post_init__(self) -> None:
        if not is_action(self.action):
            raise ConfigurationProblem(f"{self.action!r:.80} is not an action: labels joined by dots")

    @property
    def derives(self) -> bool:
        """Whether a function of the service derives a fact from the arguments."""
        return callable(self.tenant) or callable(self.attributes) or callable(self.cost)

    def demand_derivable(self, names: Iterable[str]) -> None:
        """Raise ConfigurationProblem unless every fact can be derived from arguments with these names."""
        # A constant that is wrong would deny every call, so it is an error at start.
        if callable(self.tenant):
            demand_derivation("tenant", self.tenant, names)
        elif isinstance(self.tenant, str) and not is_label(self.tenant):
            raise ConfigurationProblem(f"{self.tenant!r:.80} is not a tenant")
        mappings: dict[str, Any] = {"attributes": self.attributes, "cost": self.cost}
        for what, derivation in mappings.items():
            if derivation is None:
                continue
            if callable(derivation):
                demand_derivation(what, derivation, names)
                continue
            if not isinstance(derivation, Mapping):
                raise ConfigurationProblem(
                    f"`{what}=` is neither a mapping nor a function: give a mapping of constants, or a function of "
                    "arguments that returns names and values"
                )
            constant: dict[str, Any] = {what: derivation}
            try:
                Call(self.action, **constant)
            except InvalidCaveat as error:
                raise ConfigurationProblem(f"`{what}=`: {error}") from None

    def own_tenant(self, admitted: Admitted, values: Mapping[str, Any]) -> str | None:
        """Return the tenant of the call with these values of arguments; raises Denied unless it is the token's.

        A function that finds no row returns None or raises LookupError, such as the KeyError of a dict.
        """
        if self.tenant is None and admitted.tenant is not None:
            # For the log: the bearer is told the same as of a row of another tenant.
            raise admitted.missing_row(self.action, "the guard states no tenant: give it `tenant=`, such as GRANTED")
        try:
            tenant = derive(self.tenant, values)
        except LookupError:
            # Without a traceback: to write one takes time, by which a missing row could be told from a foreign one.
            _log.info("`tenant=` of %s found no row", self.action)
        else:
            return own_tenant(admitted, self.action, tenant)
        raise admitted.missing_row(self.action, "`tenant=` found no row")

    def facts(
        self, tenant: str | None, stated: StatedArguments, values: Mapping[str, Any], *, sent: bool = False
    ) -> "CallFacts":
        """Return the facts of the call, whose tenant is known.

        `values` are the arguments as the function gets them, and `stated` is what `plain` made of them.
        """
        return CallFacts(
            self.action,
            stated.args,
            tenant=tenant,
            attributes=_named("attributes", derive(self.attributes, values)),
            cost=_named("cost", derive(self.cost, values)),
            sent=sent,
            defaults=stated.defaults,
            is_json=True,
        )


class StatedFacts(TypedDict, total=False):
    """The facts of a call that an application may state beside its action and arguments, as in CallFacts."""

    tenant: str | GrantedTenant | None
    attributes: Mapping[str, JSON] | None
    cost: Mapping[str, Amount] | None
    sent: bool
    defaults: Mapping[str, JSON] | None


def _named(what: str, derived: Any) -> Any:
    """Return what a function of the service derived, if it is a mapping or None; its members are not checked yet."""
    if derived is not None and not isinstance(derived, Mapping):
        raise ConfigurationProblem(
            f"`{what}=` returned a {type(derived).__name__}: return a mapping of names and values, or None"
        )
    return derived  # pyright: ignore[reportUnknownVariableType] # Call checks its members


class CallFacts(Struct, frozen=True):
    """The facts of one call that is about to run.

    `tenant` may be GRANTED. `cost` is the cost in each unit except `calls`. If `sent` is true, the arguments are what
    the bearer sent, or defaults of the action: then a denial may name their values. Otherwise they may come from the
    service's own data, which the bearer must not learn. `defaults` are the arguments that the bearer left out.
    `is_json` says that `plain` made all arguments, so nobody needs to look at them again.
    """

    action: str
    args: Mapping[str, JSON]
    tenant: str | GrantedTenant | None = None
    attributes: Mapping[str, JSON] | None = None
    cost: Mapping[str, Amount] | None = None
    sent: bool = False
    defaults: Mapping[str, JSON] | None = None
    is_json: bool = False

    def call(self, admitted: Admitted) -> Call:
        """Return the call, or raise Denied if it holds a value that capx does not accept.

        The bearer may have chosen the value: an argument, what is derived from one, or an action that an application
        takes from the path. That is why this is a denial and not an error of the service.
        """
        action, tenant = self.action, own_tenant(admitted, self.action, self.tenant)
        if not is_action(action):
            raise Denied(admitted.recorded_denial((_NO_ACTION,)))
        try:
            call = Call.of_json if self.is_json else Call
            return call(
                action,
                self.args,
                tenant,
                attributes=_or_empty(self.attributes),
                cost=_or_empty(self.cost),
                defaults=_or_empty(self.defaults),
            )
        except InvalidCaveat as error:
            # Out of this block: the denial that the bearer sees does not carry the error as its context.
            refusal = self._refusal(action, str(error))
        raise Denied(admitted.recorded_denial((refusal,), action), sent=self.sent)

    def _refusal(self, action: str, why: str) -> Refusal:
        """Say which part cannot be part of a call: the arguments, the attributes or the cost."""
        try:
            Call(action, self.args, defaults=_or_empty(self.defaults))
        except InvalidCaveat as error:
            return unjudgeable(str(error))
        try:
            Call(action, attributes=_or_empty(self.attributes))
        except InvalidCaveat as error:
            return Refusal("argument_refused", "an attribute cannot be judged", "JSON values", detail=str(error))
        return Refusal("argument_refused", "the cost cannot be counted", "amounts", detail=why)


def _or_empty(stated: Mapping[str, Any] | None) -> Mapping[str, Any]:
    # Only for None: an empty list is no mapping, and must be refused as one that is not empty.
    return {} if stated is None else stated


_NO_ACTION: Final = Refusal("argument_refused", "the action is not valid", "an action")


def own_tenant(admitted: Admitted, action: str, tenant: str | GrantedTenant | None) -> str | None:
    """Return the tenant of a call of this token; raises Denied if the token is not for the call's tenant."""
    if isinstance(tenant, GrantedTenant):
        # Without a tenant in the token, None would pass below: a call of every tenant.
        if admitted.tenant is None:
            raise admitted.missing_row(action, "the guard states GRANTED")
        return admitted.tenant
    admitted.demand_tenant(action, tenant)
    return tenant


def unjudgeable(why: str, wanted: str = "JSON values") -> Refusal:
    """Return the refusal of an argument that is not JSON, or ambiguous; `why` may name it and its value."""
    general = "an argument cannot be judged"
    sentence = why if "cannot be judged" in why else f"{general}: {why}"
    return Refusal("argument_refused", sentence, wanted, general=general)
