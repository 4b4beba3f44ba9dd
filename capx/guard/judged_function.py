"""A function whose calls are judged with the very arguments with which it runs.

Laws:

- The guard copies the arguments when the call is made. It judges the copy and the defaults beside it, and the function
  gets the copy: whatever the caller changes meanwhile, what was judged is what runs.
- A parameter has its default if the caller did not give it, and its value is the default that the guard read when the
  function was guarded. What a framework computes in its place may come from the caller, so it is an argument.
- A function whose calls cannot be judged as a whole is refused when it is guarded.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from capx.agent.unfinished_work import demand_no_generator
from capx.crypto.canonical_json import sorted_json
from capx.errors import ConfigurationProblem, InvalidRequest
from capx.guard.call_facts import CallSpec
from capx.guard.json_values import plain
from capx.guard.judged_call import StatedCall, copies
from capx_caveats import is_label

if TYPE_CHECKING:
    from inspect import BoundArguments, Signature


class JudgedFunction:
    """One function, and how its calls are stated.

    `injected` are parameters that a framework fills in: they are no arguments, and no caveat sees them.
    """

    def __init__(self, function: Callable[..., Any], spec: CallSpec, injected: Iterable[str] = ()) -> None:
        self.signature = _judgeable(function)
        self.injected = parameter_names(injected)
        if unknown := self.injected.difference(self.signature.parameters):
            raise ConfigurationProblem(
                f"`injected=` names {', '.join(sorted(unknown))}, which {function.__qualname__} does not take"
            )
        spec.demand_derivable(self.signature.parameters.keys() - self.injected)
        self.spec = spec
        arguments = {name: one for name, one in self.signature.parameters.items() if name not in self.injected}
        self.defaults = written({name: parameter.default for name, parameter in arguments.items()})
        """The defaults of parameters, as `written` returns them. A framework may read more of them."""

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any], sent: Container[str] | None = None) -> "BoundCall":
        """Return the arguments with which the function runs, and the call as caveats see it.

        The arguments are a copy with the defaults filled in, except those that the framework fills in. `sent` are the
        names of the arguments that the caller gave, if a framework passes its defaults, too.
        """
        bound = self.signature.bind(*args, **kwargs)
        given = {*bound.arguments} if sent is None else sent
        bound.apply_defaults()
        values = copies({name: value for name, value in bound.arguments.items() if name not in self.injected})
        bound.arguments.update(values)
        return BoundCall(bound, StatedCall.of(self.spec, values, given, self.defaults))


class BoundCall(Struct, frozen=True):
    """The arguments with which the function runs, and the call as caveats see it."""

    runs: "BoundArguments"
    stated: StatedCall


def parameter_names(injected: Iterable[str]) -> frozenset[str]:
    """Return the names of parameters; ConfigurationProblem for one text, whose letters would be the names."""
    if isinstance(injected, str):
        raise ConfigurationProblem(
            f"`injected=` is one text: name the parameters in a tuple, as in ({injected!r:.80},)"
        )
    return frozenset(injected)


def written(defaults: Mapping[str, Any]) -> dict[str, bytes]:
    """Return defaults as sorted JSON, without those that have none: a parameter that is required has no default."""
    found: dict[str, bytes] = {}
    for named in defaults.items():
        with suppress(InvalidRequest):
            found[named[0]] = sorted_json(plain(*named))
    return found


def _judgeable(function: Callable[..., Any]) -> "Signature":
    import inspect

    # Whatever its type says: a framework's decorator may return an object of its own.
    found: object = function
    if not callable(found):
        raise ConfigurationProblem(
            f"a {type(found).__name__} is no function: put the guard below the decorator that makes a tool of it"
        )
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
