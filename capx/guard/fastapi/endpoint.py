"""A FastAPI endpoint that states its action: what is judged of its call, and when.

Laws: the gate comes first, so that a stranger meets no other dependency, no validation and no schema. Then the
validated arguments are judged: path, query and body, never headers, cookies or what is injected. What cannot be
told apart as an argument must be named with `args=`, or the endpoint cannot be made. Of a model every field is
judged as the endpoint gets it, whatever the model leaves out when it is written as JSON; a type that can keep what
callers sent out of its fields needs `args=` too.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import PurePath
from typing import Annotated, Any, Final, cast

from fastapi import Depends
from fastapi.dependencies.utils import get_dependant
from pydantic import AnyUrl, BaseModel, RootModel

from capx.errors import ConfigurationProblem, InvalidRequest
from capx.guard.asgi.request import GuardedRequest
from capx.guard.call_facts import CallFacts, CallSpec, Derived, demand_derivable, derive
from capx.guard.fastapi.deferred import Check, SyncCheck
from capx.guard.fastapi.inputs import shown, unnamed
from capx.guard.json_values import plain
from capx.verify.decision import Allowed
from capx_caveats import JSON, Refusal

GATE: Final = "capx_passage"
"""The parameter through which a wrapper gets the guarded request."""
_SPEC: Final = "__capx_mark__"
_SPELT: Final = (
    AnyUrl,
    PurePath,
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
"""Types whose values are judged as they are spelt."""

Gate = Callable[..., Awaitable[GuardedRequest]]
"""The dependency that gives the guarded request to those who may be here at all."""


class EndpointSpec:
    """What an endpoint states: its action, and where the facts of its call come from."""

    def __init__(
        self,
        gate: Gate,
        function: Callable[..., Any],
        call: CallSpec,
        *,
        deferred: bool,
        args: Derived = None,
    ) -> None:
        self.gate = gate
        self.action = call.action
        self.name = f"{function.__module__}.{function.__qualname__}"
        self.deferred = deferred
        self.signature = self._signature(function)
        self.injected = self._injected(function)
        self.states_args = args is not None
        self._call = call
        self._args = args
        self._arguments, hidden = self._read()
        visible = self.signature.parameters.keys() - self.injected.keys() - hidden
        call.demand_derivable(visible)
        demand_derivable("args", args, visible)

    def args(self, arguments: Mapping[str, Any]) -> Mapping[str, JSON]:
        """The arguments as caveats see them."""
        if self.states_args:
            stated: Any = derive(self._args, arguments)
            if not isinstance(stated, Mapping):
                raise self._problem(f"`args=` gave a {type(stated).__name__}, and not names and values")
            return {name: plain(name, value, _model) for name, value in cast("Mapping[str, Any]", stated).items()}
        return {outside: plain(name, arguments[name], _model) for name, outside in self._arguments.items()}

    def judge(self, current: GuardedRequest, arguments: dict[str, Any]) -> None:
        """Judge the call, or see to it that it will be; fills in what is injected."""
        if (facts := self._entered(current, arguments)) is not None:
            allowed = current.judge_call(facts)
            arguments.update(dict.fromkeys(self.injected, allowed))

    async def judge_async(self, current: GuardedRequest, arguments: dict[str, Any]) -> None:
        """`judge`, with what may wait done in a thread."""
        if (facts := self._entered(current, arguments)) is not None:
            allowed = await current.judge_call_async(facts)
            arguments.update(dict.fromkeys(self.injected, allowed))

    def _entered(self, current: GuardedRequest, arguments: dict[str, Any]) -> CallFacts | None:
        """The facts of the call; None when they are left to the check that is filled in."""
        current.entered = True
        try:
            args = self.args(arguments)
        except InvalidRequest as error:
            current.refuse(self.action, Refusal("argument_refused", str(error), "JSON values"))
        # What `args=` derives may be of the service's own data.
        sent = not self.states_args
        if self.deferred:
            facts = CallFacts(self.action, args, sent=sent)
            arguments.update((name, kind(current, facts)) for name, kind in self.injected.items())
            return None
        return self._call.facts(args, arguments, sent=sent)

    def outer(self) -> inspect.Signature:
        """The signature that FastAPI sees: the gate first, nothing of what the wrapper injects."""
        gate = inspect.Parameter(
            GATE, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[GuardedRequest, Depends(self.gate)]
        )
        others = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in self.signature.parameters.items()
            if name not in self.injected
        ]
        return self.signature.replace(parameters=[gate, *others])

    def _signature(self, function: Callable[..., Any]) -> inspect.Signature:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise self._problem("a generator answers before it is judged: return a response")
        try:
            signature = inspect.signature(function, eval_str=True)
        except NameError as error:
            raise self._problem(f"its annotations cannot be read: {error}") from None
        for parameter in signature.parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise self._problem(f"the parameter {parameter.name} cannot be passed by name")
        return signature

    def _injected(self, function: Callable[..., Any]) -> dict[str, Any]:
        wanted: Any = Allowed
        if self.deferred:
            wanted = Check if inspect.iscoroutinefunction(function) else SyncCheck
        found = {
            name: parameter.annotation
            for name, parameter in self.signature.parameters.items()
            if parameter.annotation in (Allowed, Check, SyncCheck)
        }
        if any(kind is not wanted for kind in found.values()):
            raise self._problem(
                f"it can be given a {wanted.__name__} (from {wanted.__module__} import {wanted.__name__}), "
                "and asks for another: plain functions get a SyncCheck, async ones a Check"
            )
        if self.deferred and not found:
            raise self._problem(f"it is deferred, so it needs a parameter of the type {wanted.__name__}")
        return found

    def _read(self) -> tuple[dict[str, str], set[str]]:
        """The arguments by parameter, as callers name them; and the parameters that are headers or cookies."""

        def reader() -> None: ...

        reader.__signature__ = self.outer()  # type: ignore[attr-defined] # what inspect reads before the function
        dependant = get_dependant(path="/", call=reader)
        if not self.states_args and (problem := next(unnamed(dependant, self.gate), None)):
            raise self._problem(problem)
        fields = [*dependant.path_params, *dependant.query_params, *dependant.body_params]
        hidden = {field.name for field in (*dependant.header_params, *dependant.cookie_params)}
        return {field.name: shown(field) for field in fields}, hidden

    def _problem(self, what: str) -> ConfigurationProblem:
        return ConfigurationProblem(f"{self.name}: {what}")


def wrapped(function: Callable[..., Any], spec: EndpointSpec) -> Callable[..., Any]:
    """The endpoint as FastAPI calls it."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_async(**arguments: Any) -> Any:
            await spec.judge_async(_guarded_request(arguments), arguments)
            return await function(**arguments)

        return _specified(call_async, spec)

    @functools.wraps(function)
    def call(**arguments: Any) -> Any:
        spec.judge(_guarded_request(arguments), arguments)
        return function(**arguments)

    return _specified(call, spec)


def spec_of(endpoint: object) -> EndpointSpec | None:
    """What an endpoint states, if it went through a guard."""
    spec = getattr(endpoint, _SPEC, None)
    return spec if isinstance(spec, EndpointSpec) else None


def _model(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _held(value)
    if isinstance(value, _SPELT):
        return str(value)
    raise TypeError(f"a {type(value).__name__} is not converted to JSON")


def _held(model: BaseModel) -> Any:
    if model.__pydantic_private__:
        raise TypeError(f"a {type(model).__name__} holds private attributes: state what is judged, as by `model_dump`")
    held, extra = vars(model), model.model_extra or {}
    if held.keys() & extra.keys():
        raise TypeError("a member has the name of a field that is called otherwise, so neither can be told apart")
    return held["root"] if isinstance(model, RootModel) and held.keys() == {"root"} else held | extra


def _guarded_request(arguments: dict[str, Any]) -> GuardedRequest:
    current = arguments.pop(GATE, None)
    if not isinstance(current, GuardedRequest):
        raise ConfigurationProblem("a guarded endpoint was called past its gate")
    return current


def _specified(call: Callable[..., Any], spec: EndpointSpec) -> Callable[..., Any]:
    call.__signature__ = spec.outer()  # type: ignore[attr-defined] # what FastAPI reads
    setattr(call, _SPEC, spec)
    return call
