"""A function whose calls are judged with the very arguments with which it runs.

Laws:

- The guard copies the arguments when the call is made. It judges the copy and the defaults beside it, and the function
  gets the copy: whatever the caller changes meanwhile, what was judged is what runs.
- A function whose calls cannot be judged as a whole is refused when it is guarded.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct, to_builtins

from capx.agent.unfinished_work import demand_no_generator
from capx.errors import ConfigurationProblem, InvalidCaveat, InvalidRequest
from capx.guard.argument_copy import own_copy
from capx.guard.call_facts import CallSpec, StatedArguments
from capx.guard.json_values import plain
from capx.tokens.binding import ToolCall
from capx.verify.admitted import Admitted
from capx_caveats import Call, is_label

if TYPE_CHECKING:
    from inspect import BoundArguments, Signature


class JudgedFunction:
    """One function, and how its calls are stated."""

    def __init__(self, function: Callable[..., Any], spec: CallSpec) -> None:
        self.signature = _judgeable(function)
        spec.demand_derivable(self.signature.parameters)
        self._spec = spec

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "BoundCall":
        """Return a copy of the arguments with the defaults filled in, and what caveats see of them."""
        bound = self.signature.bind(*args, **kwargs)
        given = {*bound.arguments}
        bound.apply_defaults()
        bound.arguments = _copies(bound.arguments)
        # Copied again: whoever is asked for permission sees what is judged, and must not change what runs.
        judged = {name: to_builtins(plain(name, value)) for name, value in bound.arguments.items()}
        # A presentation covers what the caller gave.
        try:
            presented = ToolCall(self._spec.action, {name: value for name, value in judged.items() if name in given})
        except InvalidCaveat as error:
            raise InvalidRequest(f"an argument cannot be judged: {error}") from None
        defaults = {name: value for name, value in judged.items() if name not in given}
        return BoundCall(bound, presented, StatedArguments(presented.args, defaults))

    def call(self, admitted: Admitted, bound: "BoundCall") -> Call:
        """Return the call that is about to run."""
        # Screen first: a caller who may not use the action at all must not make functions derive facts.
        admitted.screen(self._spec.action, bound.stated.arguments)
        # A copy of its own: a function that derives a fact must not change what runs.
        values = _copies(bound.runs.arguments) if self._spec.derives else {}
        tenant = self._spec.own_tenant(admitted, values)
        return self._spec.facts(tenant, bound.stated, values, sent=True).call(admitted)


class BoundCall(Struct, frozen=True):
    """The arguments with which the function runs, and what caveats see of them. Only the guard holds them."""

    runs: "BoundArguments"
    presented: ToolCall
    stated: StatedArguments

    @property
    def call(self) -> Call:
        """The call, as far as it is known without facts of the service."""
        return Call(self.presented.action, self.stated.args, defaults=self.stated.defaults)


def _copies(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: own_copy(name, value) for name, value in arguments.items()}


def _judgeable(function: Callable[..., Any]) -> "Signature":
    import inspect

    # The token could expire, or be revoked, between the call and the first value.
    demand_no_generator(function)
    signature = inspect.signature(function)
    if _is_unbound(function, next(iter(signature.parameters), "")):
        # The object would be an argument: the model, the approver and the store would read all that it holds.
        name = function.__name__
        raise ConfigurationProblem(
            f"{function.__qualname__} is a method, and would pass its object as an argument: guard the bound method "
            f"in __init__, as in self.{name} = lab.tool(…)(self.{name})"
        )
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            # Caveats find arguments by their names.
            raise ConfigurationProblem(f"*{parameter.name} takes arguments that the signature does not name: name each")
        if not is_label(parameter.name):
            raise ConfigurationProblem(
                f"{parameter.name!r:.80} cannot be the name of an argument: write 1 to 128 characters"
            )
    return signature


def _is_unbound(function: Callable[..., Any], first: str) -> bool:
    """Whether this is a function in the body of a class whose first parameter is the object or the class."""
    around, _, _ = getattr(function, "__qualname__", "").rpartition(".")
    return first in {"self", "cls"} and bool(around) and not around.endswith("<locals>")
