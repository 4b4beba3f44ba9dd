"""Guards functions of this process: each call is presented, admitted and judged before the function runs.

Laws:

- Without a bundle no function runs, nor after the `acting` block of the caller has ended.
- The guard copies the arguments when the call is made. It presents what the caller gave, judges the copy and the
  defaults beside it, and the function gets the copy: whatever the caller changes meanwhile, what was judged is what
  runs.
- If a call of an agent is denied, the agent asks for what it lacks, at most twice. The guard judges the call again
  after each grant, before the function runs.
- A function that returns before its work is done is refused: it would work later, after the decision.
- A call that nobody can judge now, or for which an authority that is away was to be asked, is Unavailable and not
  denied.
"""

import functools
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from capx.agent.actor import Actor, bundle_of, current_actor, run_as, why_nobody_acts
from capx.agent.call_asks import CallAsks
from capx.agent.unfinished_work import demand_finished, returns_coroutine
from capx.background import in_pool, without_loop
from capx.errors import CapxError, InvalidRequest, Unavailable
from capx.guard.call_facts import CallSpec, Costs, Derived, Tenancy
from capx.guard.current import allowed_by
from capx.guard.judged_function import BoundCall, JudgedFunction
from capx.guard.observer import Observer, OnDecision
from capx.tokens.bundle import Bundle, permits
from capx.tokens.capability import Capability
from capx.tokens.grants import audience_of
from capx.tokens.guarded_function import carry_guard, guard_of
from capx.verify.ask import Pending
from capx.verify.decision import NO_TOKEN, Allowed, Decision, Denied
from capx.verify.suggestion import suggested_ask
from capx.verify.verifier import Verifier

if TYPE_CHECKING:
    from inspect import BoundArguments

_NOT_RUN: Final = "the function did not run"
"""Why a call gives back what it has spent, for the log."""

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
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Guard a plain or async function: it runs if the call is allowed, and raises Denied otherwise.

        If nobody can say now whether it is allowed, Unavailable is raised, and its cause is the Denied. `audience` is
        the action's first label by default. `tenant`, `attributes` and `cost` (by unit) state facts of the call:
        constants, or functions whose parameters have the names of arguments. Inside the function,
        `capx.current_allowed()` returns the decision. Raises ConfigurationProblem for functions whose calls cannot be
        judged as a whole: generators, functions that take `*args` or `**kwargs`, and methods in the body of a class,
        whose `self` would be an argument. A call raises it if a plain function returns an awaitable or an iterator that
        is still to be read, whose work would run after the decision.
        """
        spec = CallSpec(action, tenant, attributes, cost)

        def guarded(function: Callable[P, R]) -> Callable[P, R]:
            name = audience_of(action) if audience is None else audience
            guard = _FunctionGuard(
                function, JudgedFunction(function, spec), lambda: self._verifier_for(name), self._observer
            )
            return cast("Callable[P, R]", guard.function)

        return guarded


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
            return without_loop(self._allowed(args, kwargs, is_async=False)).run(self._unguarded)

        return call

    def _async(self) -> Callable[..., Any]:
        @functools.wraps(self._unguarded)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            return await (await self._allowed(args, kwargs, is_async=True)).run_async(self._unguarded)

        return call_async

    def _threaded(self) -> Callable[..., Any]:
        @functools.wraps(self._unguarded)
        async def call_in_thread(*args: Any, **kwargs: Any) -> Any:
            allowed = await self._allowed(args, kwargs, is_async=True)
            return await in_pool(lambda: allowed.run(self._unguarded))

        return call_in_thread

    async def _allowed(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, is_async: bool) -> "_AllowedCall":
        report = functools.partial(self._observer.decided, started=self._observer.started())
        verifier, bound = self._verifier_for(), self._tool.bind(args, kwargs)
        asks = CallAsks(current_actor(), verifier.audience)
        try:
            allowed = await _judged_or_asked(self._tool, verifier, bound, asks, is_async=is_async)
        except Denied as denied:
            report(denied.decision)
            raise
        except (Pending, Unavailable):
            # The caller is told that nobody can say now. The log has the denial before that.
            if asks.denied is not None:
                report(asks.denied.decision)
            raise
        report(allowed.decision)
        return _AllowedCall(verifier, bound.runs, allowed, report)


class _AllowedCall(Struct, frozen=True):
    """A call that was allowed, and has not run yet."""

    verifier: Verifier
    bound: "BoundArguments"
    allowed: Allowed
    report: Callable[[Decision], None]

    def run(self, function: Callable[..., Any]) -> Any:
        """Run the function; if it does not run after all, the call gives back what it has spent."""
        try:
            _demand_actor(self.verifier)
        except Denied as denied:
            self.report(denied.decision)
            if self.allowed.spent:
                with suppress(CapxError):
                    self.allowed.give_back(_NOT_RUN)
            raise
        with allowed_by(self.allowed):
            return demand_finished(function, function(*self.bound.args, **self.bound.kwargs))

    async def run_async(self, function: Callable[..., Any]) -> Any:
        """`run` for an async function."""
        try:
            _demand_actor(self.verifier)
        except Denied as denied:
            self.report(denied.decision)
            if self.allowed.spent:
                with suppress(CapxError):
                    await self.allowed.give_back_async(_NOT_RUN)
            raise
        with allowed_by(self.allowed):
            return demand_finished(function, await function(*self.bound.args, **self.bound.kwargs))


async def _judged_or_asked(
    tool: JudgedFunction, verifier: Verifier, bound: BoundCall, asks: CallAsks, *, is_async: bool
) -> Allowed:
    """Return the decision once the call is allowed, after asks for what it lacks; awaits nothing unless `is_async`."""
    # At most two grants: after one that is pinned to arguments, `CallAsks` suggests nothing more.
    while True:
        # Anew each time: while a person decided, the caller may have been cancelled.
        actor = current_actor()
        held = None if actor is None else bundle_of(actor)
        try:
            allowed, passed = await _judged_with_bundle(tool, verifier, bound, held, is_async=is_async)
        except Denied as denied:
            # The call has ended, and not failed: its grants may help the next one.
            _demand_actor(verifier)
            wanted = asks.next([denied])
            if wanted is None:
                asks.raise_denied(denied)
            outcome = await asks.seek_async(wanted) if is_async else asks.seek(wanted)
            _demand_actor(verifier)
            if not asks.gained(outcome, held or ()):
                asks.raise_denied(denied)
        else:
            asks.passed(passed)
            return allowed


async def _judged_with_bundle(
    tool: JudgedFunction, verifier: Verifier, bound: BoundCall, held: Bundle | None, *, is_async: bool
) -> tuple[Allowed, Capability]:
    """Return the decision that allows the call, with this capability that the bundle holds now."""
    first: Denied | None = None
    for candidate in _candidates(verifier, bound, held):
        _demand_actor(verifier)
        try:
            # The presentation is in no variable, which an error would carry before it is burnt.
            if is_async:
                admitted = await verifier.admit_async(_presented(candidate, bound, held), bound.presented)
            else:
                admitted = verifier.admit(_presented(candidate, bound, held), bound.presented)
            call = tool.call(admitted, bound)
            allowed = await admitted.judge_async(call, sent=True) if is_async else admitted.judge(call, sent=True)
        except Denied as denied:
            first = _first_denial(first, denied)
        else:
            return allowed, candidate
    raise first or _without(verifier, bound, held)


def _first_denial(first: Denied | None, denied: Denied) -> Denied:
    """Return the denial to report if no capability passes: of one that lacks only an approval, or of the newest."""
    # Only a 403 is about this capability. Any other status, such as a store that is away, meets the next one too.
    if denied.status != 403:
        raise denied
    return denied if first is None or (first.approve is None and denied.approve is not None) else first


def _presented(candidate: Capability, bound: BoundCall, held: Bundle | None) -> str:
    """The text of a presentation of a capability, with the approvals of the bundle that may serve the call."""
    if held is None or not held.approvals:
        return candidate.present(bound.presented).text
    return held.present_capability(candidate, bound.presented, call=bound.call).text


def _candidates(verifier: Verifier, bound: BoundCall, held: Bundle | None) -> list[Capability]:
    if held is None or verifier.audience not in held.audiences:
        return []
    action = bound.presented.action
    candidates = held.candidates(verifier.audience, bound.call)
    if len(candidates) > 1 or permits(candidates[0], action):
        return candidates
    # No capability allows the call. One that allows its action shows what else denies it, and so what to ask for.
    speaking = (one for one in held if one.audience == verifier.audience and permits(one, action))
    return [*speaking][-1:] or candidates


def _without(verifier: Verifier, bound: BoundCall, held: Bundle | None) -> Denied:
    """Return the denial of a call for which there is nothing to present.

    If the caller holds a bundle, the denial suggests what to ask for.
    """
    audience = verifier.audience
    if held is None:
        return _nobody(verifier)
    action = bound.presented.action
    sentence = f"{NO_TOKEN.sentence}: this agent holds no capability for {audience}"
    missing = replace(NO_TOKEN, sentence=sentence, wanted=f"a bundle that holds a capability for {audience}")
    denied = verifier.denial(missing, action)
    ask = suggested_ask((), audience=audience, action=action, args=bound.stated.arguments)
    return Denied(denied.decision, ask)


def _demand_actor(verifier: Verifier) -> None:
    """Raise Denied if nobody acts any more: the caller was cancelled, or has left."""
    if current_actor() is None:
        raise _nobody(verifier)


def _nobody(verifier: Verifier) -> Denied:
    sentence = f"{NO_TOKEN.sentence}: {why_nobody_acts()}"
    return verifier.denial(replace(NO_TOKEN, sentence=sentence, wanted="run it inside `with capx.acting(bundle):`"))
