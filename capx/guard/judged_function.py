"""A function whose calls are judged with the very arguments with which it runs.

Laws:

- The guard copies the arguments when the call is made. It judges the copy and the defaults beside it, and the function
  gets the copy: whatever the caller changes meanwhile, what was judged is what runs.
- A function whose calls cannot be judged as a whole is refused when it is guarded.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct, to_builtins

from capx.agent.unfinished_work import demand_no_generator
from capx.errors import ConfigurationProblem, InvalidCaveat, InvalidRequest
from capx.guard.argument_copy import own_copy
from capx.guard.call_facts import CallFacts, CallSpec, StatedArguments
from capx.guard.json_values import plain
from capx.tokens.binding import ToolCall
from capx.verify.admitted import Admitted
from capx_caveats import Call, is_label

if TYPE_CHECKING:
    from inspect import BoundArguments, Signature


class JudgedFunction:
    """One function, and how its calls are stated.

    `injected` are parameters that a framework fills in: they are no arguments, and no caveat sees them.
    """

    def __init__(self, function: Callable[..., Any], spec: CallSpec, injected: Iterable[str] = ()) -> None:
        self.signature = _judgeable(function)
        self.injected = frozenset(injected)
        if unknown := self.injected - self.signature.parameters.keys():
            raise ConfigurationProblem(f"`injected=` names {', '.join(sorted(unknown))}, which is no parameter")
        spec.demand_derivable(self.signature.parameters.keys() - self.injected)
        self.spec = spec

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any], sent: Container[str] | None = None) -> "BoundCall":
        """Return a copy of the arguments with the defaults filled in, and what caveats see of them.

        `sent` are the names of the arguments that the caller gave, if a framework passes its defaults, too.
        """
        bound = self.signature.bind(*args, **kwargs)
        given = {*bound.arguments} if sent is None else sent
        bound.apply_defaults()
        copies = _copies(self._arguments(bound))
        bound.arguments.update(copies)
        # Copied again: whoever is asked for permission sees what is judged, and must not change what runs.
        judged = {name: to_builtins(plain(name, value)) for name, value in copies.items()}
        # A presentation covers what the caller gave.
        try:
            presented = ToolCall(self.spec.action, {name: value for name, value in judged.items() if name in given})
        except InvalidCaveat as error:
            raise InvalidRequest(f"an argument cannot be judged: {error}") from None
        defaults = {name: value for name, value in judged.items() if name not in given}
        return BoundCall(bound, presented, StatedArguments(presented.args, defaults))

    def call(self, admitted: Admitted, bound: "BoundCall") -> Call:
        """Return the call that is about to run."""
        # Screen first: a caller who may not use the action at all must not make functions derive facts.
        admitted.screen(self.spec.action, bound.stated.arguments)
        return self.facts(bound, lambda spec, values: spec.own_tenant(admitted, values)).call(admitted)

    def facts(self, bound: "BoundCall", own_tenant: Callable[[CallSpec, Mapping[str, Any]], str | None]) -> CallFacts:
        """Return the facts of the call; `own_tenant` gives its tenant, or denies it."""
        # A copy of its own: a function that derives a fact must not change what runs.
        values = _copies(self._arguments(bound.runs)) if self.spec.derives else {}
        return self.spec.facts(own_tenant(self.spec, values), bound.stated, values, sent=True)

    def _arguments(self, bound: "BoundArguments") -> dict[str, Any]:
        return {name: value for name, value in bound.arguments.items() if name not in self.injected}


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
