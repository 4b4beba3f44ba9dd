"""Judges the call of a FastAPI endpoint that states its action.

Laws:

- The gate comes first, so a caller who is not allowed never reaches other dependencies, validation or the schema.
- Then the validated arguments are judged: path, query and body. Injected values are not.
- If the guard cannot see an input as an argument, `args=` must name what is judged. Otherwise the endpoint cannot be
  made. Headers and cookies are such inputs.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final

from fastapi import Depends
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_dependant
from starlette.requests import HTTPConnection

from capx.errors import ConfigurationProblem, InvalidRequest
from capx.guard.call_facts import CallFacts, CallSpec, StatedArguments, unjudgeable
from capx.guard.fastapi.argument_sources import (
    Args,
    ArgsFunction,
    ArgsTable,
    ArgumentSource,
    OwnArguments,
)
from capx.guard.fastapi.deferred import Check, SyncCheck
from capx.guard.fastapi.denied_arguments import DeniedArguments
from capx.guard.fastapi.inputs import has_body, own_fields, spelling, spread, unnamed
from capx.guard.guarded_request import GuardedRequest
from capx.verify.decision import Allowed
from capx_caveats import JSON

GATE: Final = "capx_passage"
"""The name of the parameter through which the wrapper gets the guarded request."""
_SPEC: Final = "__capx_spec__"

Gate = Callable[..., Awaitable[GuardedRequest]]
"""The dependency that returns the guarded request, or denies it if the action is not allowed at all."""


class EndpointSpec:
    """The action of an endpoint, and the sources of the facts of its call."""

    def __init__(
        self,
        gate: Gate,
        function: Callable[..., Any],
        call: CallSpec,
        *,
        deferred: bool,
        args: Args = None,
        sent: bool = False,
    ) -> None:
        self.gate = gate
        self.wrapper: object = None
        """The function that FastAPI must call in place of the endpoint."""
        self.action = call.action
        self.name = f"{function.__module__}.{function.__qualname__}"
        self.deferred = deferred
        self.signature = self._signature(function)
        self.injected = self._injected(function)
        self.states_args = args is not None
        self._call = call
        # Let FastAPI itself analyze the signature: another analysis could differ from what it does with a request.
        dependant = self._dependant()
        hidden = {field.name for field in (*dependant.header_params, *dependant.cookie_params)}
        visible = self.signature.parameters.keys() - self.injected.keys() - hidden
        call.demand_derivable(visible)
        own = {field.name: field for field in own_fields(dependant)}
        infos = {name: field.field_info for name, field in own.items()}
        self._source: ArgumentSource
        if args is None:
            if problem := next(unnamed(dependant, self.gate), None):
                raise self._problem(problem)
            names = {name: spelling(field) for name, field in own.items()}
            self._source = OwnArguments(infos, names, spread(dependant))
        elif callable(args):
            self._source = ArgsFunction(args, visible, sent=sent)
        else:
            self._source = ArgsTable(args, infos)
        # A dependency that takes a part of the body would change how FastAPI reads the rest of it.
        readable = self._source.sent and not any(map(has_body, dependant.dependencies))
        self._denied = DeniedArguments(self.signature, own, self._source) if readable else None

    @property
    def advice(self) -> str:
        """What a denial adds to the ask that it suggests; empty if it can name the arguments."""
        if self._source.sent:
            return ""
        return (
            f"this service derives the arguments of {self.action} by itself, so an ask cannot name them: only a grant "
            "with `pinned = false` can help"
        )

    async def denied_args(self, connection: HTTPConnection) -> Mapping[str, JSON] | None:
        """Return the arguments of a call whose action is denied; None if a denial must not or cannot name them."""
        return None if self._denied is None else await self._denied.read(connection)

    def judge(self, current: GuardedRequest, values: dict[str, Any]) -> None:
        """Judge the call now, or inject the check that will; fills in the injected parameters."""
        tenant = self._entered(current, values)
        stated = self._args(current, values) if self._states_first else None
        if (facts := self._facts(current, tenant, stated, values)) is not None:
            allowed = current.judge_call(facts)
            values.update(dict.fromkeys(self.injected, allowed))

    async def judge_async(self, current: GuardedRequest, values: dict[str, Any]) -> None:
        """Do the same as `judge`, with blocking work, and that of a large request, in a thread."""
        tenant = self._entered(current, values)
        stated = await self._args_async(current, values) if self._states_first else None
        if (facts := self._facts(current, tenant, stated, values)) is not None:
            allowed = await current.judge_call_async(facts)
            values.update(dict.fromkeys(self.injected, allowed))

    @property
    def _states_first(self) -> bool:
        """Whether the arguments are stated before the endpoint begins, which could change them."""
        # What a deferred endpoint derives waits until the tenant of the row is known.
        return self._source.sent or not self.deferred

    def _entered(self, current: GuardedRequest, values: Mapping[str, Any]) -> str | None:
        """Note that the endpoint has begun, and return the tenant of its call; None if only a row has it."""
        # Before anything can fail: from here on, even an error of this endpoint needs a decision to leave.
        current.entered = True
        # First of all: nothing may be derived from a row of another tenant, nor refused because of it.
        return None if self.deferred else current.own_tenant(self._call, values)

    def _facts(
        self,
        current: GuardedRequest,
        tenant: str | None,
        stated: StatedArguments | None,
        values: dict[str, Any],
    ) -> CallFacts | None:
        """Return the facts of the call; None if the injected check will state them."""
        sent = self._source.sent
        if stated is not None and not self.deferred:
            return self._call.facts(tenant, stated, values, sent=sent)
        given = dict(values)

        def read() -> StatedArguments:
            return self._args(current, given) if stated is None else stated

        async def read_async() -> StatedArguments:
            return await self._args_async(current, given) if stated is None else stated

        for name, kind in self.injected.items():
            values[name] = kind(current, self.action, read_async if kind is Check else read, sent=sent)
        return None

    async def _args_async(self, current: GuardedRequest, values: Mapping[str, Any]) -> StatedArguments:
        # A function of the service runs where its endpoint does.
        taken = self._source.taken(values)
        return await current.computed(functools.partial(self._stated, current, taken))

    def _args(self, current: GuardedRequest, values: Mapping[str, Any]) -> StatedArguments:
        """Return the arguments that caveats judge; raises Denied if one is not JSON."""
        return self._stated(current, self._source.taken(values))

    def _stated(self, current: GuardedRequest, taken: Mapping[str, Any]) -> StatedArguments:
        try:
            stated = self._source.stated(taken)
            # A deferred endpoint has the objects, and may change them before they are judged.
            return stated.copied() if self.deferred and self._states_first else stated
        except InvalidRequest as error:
            problem = unjudgeable(str(error))
        # Out of the block: the denial does not carry the error, which may show a value of the service.
        return current.deny(self.action, problem, sent=self._source.sent)

    def outer(self) -> inspect.Signature:
        """Return the signature that FastAPI sees: the gate first, without the parameters that the wrapper injects."""
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
            raise self._problem("it is a generator, which would answer before it is judged: return a response")
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
            article, public = ("an", "capx") if wanted is Allowed else ("a", "capx.guard.fastapi")
            raise self._problem(
                f"its parameter must be {article} {wanted.__name__} (from {public} import {wanted.__name__}): "
                "deferred plain functions get a SyncCheck, deferred async ones a Check, all others an Allowed"
            )
        if self.deferred and not found:
            raise self._problem(f"it is deferred, so it needs a parameter of the type {wanted.__name__}")
        return found

    def _dependant(self) -> Dependant:
        def reader() -> None: ...

        reader.__signature__ = self.outer()  # type: ignore[attr-defined] # what inspect reads before the function
        return get_dependant(path="/", call=reader)

    def _problem(self, what: str) -> ConfigurationProblem:
        return ConfigurationProblem(f"{self.name}: {what}")


def wrapped(function: Callable[..., Any], spec: EndpointSpec) -> Callable[..., Any]:
    """Return the function that FastAPI calls in place of the endpoint."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_async(**values: Any) -> Any:
            await spec.judge_async(_guarded_request(values), values)
            return await function(**values)

        return _specified(call_async, spec)

    @functools.wraps(function)
    def call(**values: Any) -> Any:
        spec.judge(_guarded_request(values), values)
        return function(**values)

    return _specified(call, spec)


def spec_of(endpoint: object, gate: Gate) -> EndpointSpec | None:
    """Return what an endpoint states; None if the guard of this gate did not wrap it, or another decorator did, too."""
    spec = getattr(endpoint, _SPEC, None)
    # A decorator above the guard copies this attribute, and may take more from the request than the guard has judged.
    found = isinstance(spec, EndpointSpec) and spec.gate == gate and spec.wrapper is endpoint
    return spec if found else None


def _guarded_request(values: dict[str, Any]) -> GuardedRequest:
    current = values.pop(GATE, None)
    if not isinstance(current, GuardedRequest):
        raise ConfigurationProblem("a guarded endpoint was called without its gate: let FastAPI call it")
    return current


def _specified(call: Callable[..., Any], spec: EndpointSpec) -> Callable[..., Any]:
    call.__signature__ = spec.outer()  # type: ignore[attr-defined] # what FastAPI reads
    spec.wrapper = call
    setattr(call, _SPEC, spec)
    return call
