"""Guards functions of this process: each call is presented, admitted and judged before the function runs.

Laws:

- Without a bundle no function runs, nor after the `acting` block of the caller has ended.
- A function that returns before its work is done is refused: it would work later, after the decision.
- The other laws are those of a judged call and of a judged function (capx.guard.judged_call, judged_function).
"""

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from capx.agent.actor import Actor, run_as
from capx.agent.unfinished_work import demand_finished, returns_coroutine
from capx.background import in_pool, without_loop
from capx.errors import InvalidRequest
from capx.guard.call_facts import CallSpec, Costs, Derived, Tenancy
from capx.guard.current import allowed_by
from capx.guard.judged_call import AllowedCall, StatedCall, copies, judged
from capx.guard.judged_function import JudgedFunction, parameter_names
from capx.guard.observer import Observer, OnDecision
from capx.tokens.grants import audience_of
from capx.tokens.guarded_function import carry_guard, guard_of
from capx.verify.decision import Allowed
from capx.verify.verifier import Verifier

if TYPE_CHECKING:
    from inspect import BoundArguments

P = ParamSpec("P")
R = TypeVar("R")


class ToolGuard:
    """Guards functions of this process; `verifier_for` gives the verifier of a function's audience.

    `on_decision` gets the decision of each call: the one that allowed it, or the last one that denied it. If the
    caller has left before the function runs, it gets both.
    """

    def __init__(self, verifier_for: Callable[[str], Verifier], *, on_decision: OnDecision | None = None) -> None:
        self._verifier_for = verifier_for
        self._observer = Observer(on_decision)

    def tool(
        self,
        action: str,
        *,
        tenant: Tenancy = None,
        attributes: Derived = None,
        cost: Costs = None,
        audience: str | None = None,
        injected: Iterable[str] = (),
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Guard a plain or async function: it runs if the call is allowed, and raises Denied otherwise.

        If nobody can say now whether it is allowed, Unavailable is raised, and its cause is the Denied. `audience` is
        the action's first label by default. `tenant`, `attributes` and `cost` (by unit) state facts of the call:
        constants, or functions whose parameters have the names of arguments. `injected` are the parameters that a
        framework fills in, such as its context: they are no arguments, so no presentation and no caveat sees them, and
        the function gets the very object. Inside the function, `capx.current_allowed()` returns the decision.

        Raises ConfigurationProblem for functions whose calls cannot be judged as a whole: generators, functions that
        take `*args` or `**kwargs`, and methods in the body of a class, whose `self` would be an argument. A call raises
        it if a plain function returns an awaitable or an iterator that is still to be read, whose work would run after
        the decision.
        """
        spec = CallSpec(action, tenant, attributes, cost)
        filled_in = parameter_names(injected)

        def guarded(function: Callable[P, R]) -> Callable[P, R]:
            tool = JudgedFunction(function, spec, filled_in)
            guard = _FunctionGuard(function, tool, lambda: self._verifier(action, audience), self._observer)
            return cast("Callable[P, R]", guard.function)

        return guarded

    @contextmanager
    def judging(
        self,
        action: str,
        args: Mapping[str, Any],
        *,
        tenant: Tenancy = None,
        attributes: Derived = None,
        cost: Costs = None,
        audience: str | None = None,
    ) -> Generator[Allowed]:
        """Guard one call of code that is not yours, in a `with` block: the block runs if the call is allowed.

        The call is presented, asked for, judged and reported as that of a guarded function, with these arguments, and
        with the facts of `tool`. State the arguments with which the code will run, its defaults included. The block
        gets the decision, and must make this call only: `Allowed.call.args` are the arguments as JSON that was judged,
        and nobody has changed them since. If the block raises, the call stays paid, unless it gives back.
        """
        report = self._observer.reporting()
        stated = _stated(CallSpec(action, tenant, attributes, cost), args)
        verifier = self._verifier(action, audience)
        call = without_loop(judged(stated, verifier, report, is_async=False))
        call.demand_actor()
        with allowed_by(call.allowed):
            yield call.allowed

    @asynccontextmanager
    async def judging_async(
        self,
        action: str,
        args: Mapping[str, Any],
        *,
        tenant: Tenancy = None,
        attributes: Derived = None,
        cost: Costs = None,
        audience: str | None = None,
    ) -> AsyncGenerator[Allowed]:
        """`judging` for async code: `async with`."""
        report = self._observer.reporting()
        stated = _stated(CallSpec(action, tenant, attributes, cost), args)
        verifier = self._verifier(action, audience)
        call = await judged(stated, verifier, report, is_async=True)
        await call.demand_actor_async()
        with allowed_by(call.allowed):
            yield call.allowed

    def _verifier(self, action: str, audience: str | None) -> Verifier:
        return self._verifier_for(audience_of(action) if audience is None else audience)


def on_loop(tool: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Return the async twin of a plain guarded tool: it waits on the event loop, then runs the function in a thread.

    So a run that is cancelled while a person decides never runs the function, even if its framework waits for threads
    before it passes a cancellation on. The twin is a guarded tool itself. InvalidRequest unless the tool was made by
    `ToolGuard.tool` or `Authority.tool` of a plain function.
    """
    guard = guard_of(tool)
    if not isinstance(guard, _FunctionGuard) or returns_coroutine(tool):
        raise InvalidRequest(f"{tool.__qualname__} is async, so it waits on the event loop by itself: use it as it is")
    return cast("Callable[P, Coroutine[Any, Any, R]]", guard.twin().function)


class _FunctionGuard:
    """The guard of one function; `function` is the guarded one."""

    def __init__(
        self,
        unguarded: Callable[..., Any],
        tool: JudgedFunction,
        verifier_for: Callable[[], Verifier],
        observer: Observer,
        *,
        in_thread: bool = False,
    ) -> None:
        self._unguarded = unguarded
        self._tool = tool
        self._verifier_for = verifier_for
        self._observer = observer
        self.injected = tool.injected
        if in_thread:
            self.function = self._threaded()
        else:
            self.function = self._async() if returns_coroutine(unguarded) else self._sync()
        carry_guard(self)

    def called_by(self, actor: Actor, /) -> Callable[..., Any]:
        """Return the guarded function, called for this bundle or agent."""
        return run_as(actor, self.function)

    def twin(self) -> "_FunctionGuard":
        """Return the guard of the same function, called from an event loop and run in a thread."""
        return _FunctionGuard(self._unguarded, self._tool, self._verifier_for, self._observer, in_thread=True)

    def _sync(self) -> Callable[..., Any]:
        @functools.wraps(self._unguarded)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._run(*without_loop(self._judged(args, kwargs, is_async=False)))

        return call

    def _async(self) -> Callable[..., Any]:
        @functools.wraps(self._unguarded)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            call, bound = await self._judged(args, kwargs, is_async=True)
            await call.demand_actor_async()
            with allowed_by(call.allowed):
                return demand_finished(self._unguarded, await self._unguarded(*bound.args, **bound.kwargs))

        return call_async

    def _threaded(self) -> Callable[..., Any]:
        @functools.wraps(self._unguarded)
        async def call_in_thread(*args: Any, **kwargs: Any) -> Any:
            call, bound = await self._judged(args, kwargs, is_async=True)
            return await in_pool(lambda: self._run(call, bound))

        return call_in_thread

    def _run(self, call: AllowedCall, bound: "BoundArguments") -> Any:
        call.demand_actor()
        with allowed_by(call.allowed):
            return demand_finished(self._unguarded, self._unguarded(*bound.args, **bound.kwargs))

    async def _judged(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, is_async: bool
    ) -> "tuple[AllowedCall, BoundArguments]":
        report = self._observer.reporting()
        verifier = self._verifier_for()
        bound = self._tool.bind(args, kwargs)
        return await judged(bound.stated, verifier, report, is_async=is_async), bound.runs


def _stated(spec: CallSpec, args: Mapping[str, Any]) -> StatedCall:
    spec.demand_derivable(args)
    values = copies(args)
    return StatedCall.of(spec, values, values, {})
