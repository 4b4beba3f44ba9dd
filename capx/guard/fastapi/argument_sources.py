"""The three sources of the arguments that caveats judge at an endpoint.

    OwnArguments     no `args=`: the path, query and body parameters, by the names that callers use
    ArgsTable        `args={"amount": "body.amount"}`: an argument for each path of parameters and fields
    ArgsFunction     `args=function`: what a function of the service returns

Laws:

- Two values never share a name: the call is denied instead.
- A denial names arguments only if they come from what the bearer sent and from defaults. That is so for parameters and
  tables. Of a function, the service must say it.
- A default that the caller did not touch is stated beside the arguments. So a token whose entry names all arguments is
  still good when an endpoint gets a new one. A parameter that has exactly its default counts as one that was left out,
  because an endpoint cannot tell the two apart. Of a model it can, so its members count only if they were left out,
  and only with the default that is in the class. What a function of the model computes instead is an argument.
- A model is read as the class that the type at its place names. If a validator returns another one, whose defaults the
  guard does not know, the call is denied.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Protocol, Union, cast, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from capx.errors import ConfigurationProblem, InvalidCaveat, InvalidRequest
from capx.guard.call_facts import StatedArguments, demand_derivation, derive
from capx.guard.fastapi.defaults import Defaults
from capx.guard.fastapi.named_classes import Classes, judged, named_classes
from capx.guard.hidden_fields import hidden_fields
from capx.guard.json_values import plain
from capx.guard.model_values import converted, missing_if_none
from capx_caveats import JSON, demand_dict, is_label

Args = Mapping[str, str] | Callable[..., Mapping[str, JSON]] | None
"""What `args=` takes: a table of paths, or a function whose parameters have the names of the endpoint's."""


class ArgumentSource(Protocol):
    """Where the arguments of an endpoint come from."""

    @property
    def sent(self) -> bool:
        """Whether they hold only what the bearer sent, and defaults."""
        ...

    def taken(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what is stated of the values of the endpoint's parameters. Code of the service may run."""
        ...

    def stated(self, taken: Mapping[str, Any]) -> StatedArguments:
        """Return the arguments as caveats see them, in any thread; InvalidRequest if one is not JSON.

        They may hold the very objects of the parameters.
        """
        ...


class OwnArguments:
    """The path, query and body parameters: `names` are those that callers use, by parameter.

    A parameter in `spread` has no name in the request: its value is a model, whose members are arguments.
    """

    sent = True

    def __init__(
        self, own: Mapping[str, FieldInfo], names: Mapping[str, str], spread: Mapping[str, type[BaseModel]]
    ) -> None:
        self._names = names
        self._spread = {parameter: (kind, Defaults(kind.model_fields)) for parameter, kind in spread.items()}
        self._classes = {parameter: named_classes(own[parameter]) for parameter in names}
        self._defaults = Defaults(own)

    def taken(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the values as they are."""
        return values

    def stated(self, taken: Mapping[str, Any]) -> StatedArguments:
        """Return each parameter, and each member of one that is spread."""
        args: dict[str, JSON] = {}
        defaults: dict[str, JSON] = {}
        # With set operations and not name by name: a body may have thousands of members.
        for named, absent in self._named(taken):
            for name in named.keys() & (args.keys() | defaults.keys()):
                raise InvalidRequest(f"two arguments have the name {name!r:.80}, so a caveat could not see both")
            args.update(named)
            defaults.update((name, args.pop(name)) for name in named.keys() & absent)
        return StatedArguments(args, defaults)

    def _named(self, values: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, JSON], frozenset[str]]]:
        """Yield the arguments of each parameter, and the names of those that were left out."""
        for parameter, name in self._names.items():
            found = values[parameter]
            value = judged(name, found, self._classes[parameter])
            if parameter not in self._spread:
                yield {name: value}, frozenset({name} if self._defaults.has(parameter, value) else ())
                continue
            kind, defaults = self._spread[parameter]
            if type(found) is not kind:
                raise InvalidRequest(f"{name} cannot be judged by its members, because it is no {kind.__name__}")
            members = cast("Mapping[str, JSON]", value)
            yield members, defaults.left_out(found, members)


class ArgsTable:
    """A table of arguments: each is read from a parameter, or from a field of a model in it.

    `own` are the endpoint's path, query and body parameters, as pydantic describes fields. Raises ConfigurationProblem
    for a path that leads nowhere.
    """

    sent = True

    def __init__(self, table: Any, own: Mapping[str, FieldInfo]) -> None:
        if not isinstance(table, Mapping):
            raise ConfigurationProblem(
                '`args=` is neither a table nor a function: give a table of paths such as {"deck": "job.deck"}, or a '
                "function that returns names and values"
            )
        paths = cast("Mapping[str, Any]", table)
        self._members: dict[type[BaseModel], Defaults] = {}
        self._paths = {name: _checked(name, path, own, self._members) for name, path in paths.items()}
        self._classes = {root: named_classes(own[root]) for root, *_ in self._paths.values()}
        self._defaults = Defaults(own)

    def taken(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the values as they are."""
        return values

    def stated(self, taken: Mapping[str, Any]) -> StatedArguments:
        """Return what each path leads to; an argument whose field was left out and gives None is missing."""
        args: dict[str, JSON] = {}
        defaults: dict[str, JSON] = {}
        for name, path in self._paths.items():
            there, by_default, found, named = self._followed(path, taken)
            if there:
                value = judged(name, found, named)
                by_default = by_default or (len(path) == 1 and self._defaults.has(path[0], value))
                (defaults if by_default else args)[name] = value
        return StatedArguments(args, defaults)

    def _followed(self, path: list[str], values: Mapping[str, Any]) -> tuple[bool, bool, Any, Classes]:
        """Return whether a path leads to a value, whether that is a default, the value, and the classes there."""
        root, *fields = path
        value, named, by_default = values[root], self._classes[root], False
        is_sent = True
        for field in fields:
            # An explicit null on the way is a null at the end: it must not look as if it had been left out.
            if value is None:
                break
            model: BaseModel = value
            defaults = self._members.get(type(model)) if type(model) in named else None
            if defaults is None or field not in vars(model):
                raise InvalidRequest(
                    f"{'.'.join(path)} cannot be judged: a validator returned something else than the model"
                )
            value, named = vars(model)[field], named_classes(type(model).model_fields[field])
            if value is None and field in missing_if_none(model):
                return False, False, None, named
            # The first step that was not sent decides: what is below a computed value is computed, too.
            if is_sent and field not in model.__pydantic_fields_set__:
                is_sent, by_default = False, defaults.has(field, plain(field, value, converted))
        return True, by_default, value, named


class ArgsFunction:
    """A function of the service; `visible` are the parameters whose values it may take.

    Raises ConfigurationProblem for a function that takes others.
    """

    def __init__(self, function: Callable[..., Any], visible: Collection[str], *, sent: bool) -> None:
        demand_derivation("args", function, visible)
        self._function = function
        self.sent = sent

    def taken(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what the function returns; ConfigurationProblem if that is not a plain dict."""
        stated: Any = derive(self._function, values)
        try:
            demand_dict(stated)
        except InvalidCaveat as error:
            raise ConfigurationProblem(f"`args=` returned no dict of names and values: {error}") from None
        return cast("Mapping[str, Any]", stated)

    def stated(self, taken: Mapping[str, Any]) -> StatedArguments:
        """Return the JSON value of each argument."""
        stated = StatedArguments({name: plain(name, value, converted) for name, value in taken.items()}, {})
        # The service may keep what its function returns, and change it before it is judged.
        return stated.copied()


def _checked(name: Any, path: Any, own: Mapping[str, FieldInfo], members: dict[type[BaseModel], Defaults]) -> list[str]:
    """Return the steps of a path; adds the models on it, with the defaults of their fields, to `members`."""
    if not is_label(name):
        raise ConfigurationProblem(f"`args=` names {name!r:.80}, which cannot be the name of an argument")
    if not isinstance(path, str):
        raise ConfigurationProblem(
            f'`args=` maps {name} to {path!r:.80}: give a path of parameters and fields such as "job.deck", or a '
            "function"
        )
    root, *fields = path.split(".")
    if root not in own:
        raise ConfigurationProblem(
            f"`args=` reads {path} for {name}, but {root} is not a path, query or body parameter of the function"
        )
    ends = [own[root]]
    for field in fields:
        models = [model for end in ends for model in _models(end.annotation)]
        found = [None if model is None else model.model_fields.get(field) for model in models]
        if not found or None in found:
            raise ConfigurationProblem(
                f"`args=` reads {path} for {name}, but {field} is not a field of a model there: use the names in Python"
            )
        members.update((model, Defaults(model.model_fields)) for model in models if model is not None)
        ends = [one for one in found if one is not None]
    if problem := next((problem for end in ends for problem in hidden_fields(end)), None):
        raise ConfigurationProblem(f"`args=` reads {path} for {name}, which {problem}")
    return [root, *fields]


def _models(kind: Any) -> Iterator[type[BaseModel] | None]:
    """Yield the models that a value of a type can be; None for anything else that it can be, except null."""
    if get_origin(kind) is Annotated:
        yield from _models(get_args(kind)[0])
    elif get_origin(kind) in (Union, UnionType):
        for one in get_args(kind):
            yield from _models(one)
    elif kind is not NoneType:
        yield kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
