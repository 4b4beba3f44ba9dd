"""Guards functions of this process: each call is presented, admitted and judged before the function runs.

Laws: without a bundle no function runs. The guard presents the arguments as the caller gave them, and judges the
arguments that the function gets, with the defaults filled in. If a call of an agent is denied, the agent asks for what
it lacks, at most twice. The guard judges the call again after each grant, before the function runs. A call that nobody
can judge now, or for which an authority that is away was to be asked, is Unavailable and not denied.
"""

import functools
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from msgspec.structs import replace

from capx.agent.actor import bundle_of, current_actor
from capx.agent.call_asks import CallAsks
from capx.errors import ConfigurationProblem
from capx.guard.call_facts import CallSpec, Costs, Derived, Tenancy
from capx.guard.current import allowed_by
from capx.guard.json_values import plain
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle, permits
from capx.tokens.capability import Capability
from capx.tokens.grants import audience_of
from capx.verify.admitted import Admitted
from capx.verify.decision import NO_TOKEN, Allowed, Denied
from capx.verify.suggestion import suggested_ask
from capx.verify.verifier import Verifier
from capx_caveats import JSON, Call

if TYPE_CHECKING:
    from inspect import BoundArguments, Signature

P = ParamSpec("P")
R = TypeVar("R")


class ToolGuard:
    """Guards functions of this process; `verifier_for` gives the verifier of a function's audience."""

    def __init__(self, verifier_for: Callable[[str], Verifier]) -> None:
        self._verifier_for = verifier_for

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
        judged as a whole: generators, and functions that take `*args` or `**kwargs`.
        """
        spec = CallSpec(action, tenant, attributes, cost)

        def guarded(function: Callable[P, R]) -> Callable[P, R]:
            tool = _Tool(function, spec)
            name = audience_of(action) if audience is None else audience
            return cast("Callable[P, R]", _wrapped(function, tool, lambda: self._verifier_for(name)))

        return guarded


class _Tool:
    """One function, and how its calls are stated."""

    def __init__(self, function: Callable[..., Any], spec: CallSpec) -> None:
        self.signature = _judgeable(function)
        spec.demand_derivable(self.signature.parameters)
        self._spec = spec

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "tuple[BoundArguments, ToolCall]":
        """Return the arguments with the defaults filled in, and the call as the caller made it."""
        bound = self.signature.bind(*args, **kwargs)
        # Before the defaults are filled in: a presentation covers what the caller gave.
        sent = ToolCall(self._spec.action, _json(bound))
        bound.apply_defaults()
        return bound, sent

    def call(self, admitted: Admitted, bound: "BoundArguments") -> Call:
        """Return the call that is about to run."""
        args = _json(bound)
        # Screen first: a caller who may not use the action at all must not make functions derive facts.
        admitted.screen(self._spec.action, args)
        return self._spec.facts(args, bound.arguments).call(admitted)


def _wrapped(function: Callable[..., Any], tool: _Tool, verifier_for: Callable[[], Verifier]) -> Callable[..., Any]:
    import inspect

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            bound, sent = tool.bind(args, kwargs)
            with allowed_by(await _judge(tool, verifier_for(), bound, sent, is_async=True)):
                return await function(*bound.args, **bound.kwargs)

        return call_async

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound, sent = tool.bind(args, kwargs)
        with allowed_by(_result(_judge(tool, verifier_for(), bound, sent, is_async=False))):
            return function(*bound.args, **bound.kwargs)

    return call


def _result(work: Coroutine[Any, Any, Allowed]) -> Allowed:
    """Run a coroutine that awaits nothing to its end, and return its result.

    So plain and async functions share one path from denial to ask, and a plain call needs no event loop.
    """
    try:
        work.send(None)
    except StopIteration as end:
        return cast("Allowed", end.value)
    raise RuntimeError("a plain function cannot wait for an event loop")


async def _judge(
    tool: _Tool, verifier: Verifier, bound: "BoundArguments", sent: ToolCall, *, is_async: bool
) -> Allowed:
    """Return the decision to allow the call, after asks for what it lacks; awaits nothing unless `is_async`."""
    actor = current_actor()
    asks = CallAsks(actor, verifier.audience)
    # At most two grants: after one that is pinned to arguments, `asks` has nothing more to ask for.
    while True:
        held = None if actor is None else bundle_of(actor)
        try:
            allowed, passed = await _judged(tool, verifier, bound, sent, held, is_async=is_async)
        except Denied as denied:
            wanted = asks.next([denied])
            if actor is None or isinstance(actor, Bundle) or wanted is None:
                asks.raise_denied(denied)
            outcome = await actor.seek_async(wanted) if is_async else actor.seek(wanted)
            if asks.gained(outcome, held or ()) is None:
                asks.raise_denied(denied)
        else:
            asks.passed(passed)
            return allowed


async def _judged(
    tool: _Tool, verifier: Verifier, bound: "BoundArguments", sent: ToolCall, held: Bundle | None, *, is_async: bool
) -> tuple[Allowed, Capability]:
    """Return the decision to allow the call, and the capability of the bundle with which it passed."""
    first: Denied | None = None
    for candidate in _candidates(verifier, sent, held):
        try:
            presented = candidate.present(sent).text
            if is_async:
                admitted = await verifier.admit_async(presented, sent)
                return await admitted.judge_async(tool.call(admitted, bound), sent=True), candidate
            admitted = verifier.admit(presented, sent)
            return admitted.judge(tool.call(admitted, bound), sent=True), candidate
        except Denied as denied:
            first = _first_denial(first, denied)
    raise first or _without(verifier, bound, sent, held)


def _first_denial(first: Denied | None, denied: Denied) -> Denied:
    """Return the denial to report if no capability passes; the first is that of the newest capability."""
    # Only a 403 is about this capability. Any other status, such as a store that is away, meets the next one too.
    if denied.status != 403:
        raise denied
    return first or denied


def _candidates(verifier: Verifier, sent: ToolCall, held: Bundle | None) -> list[Capability]:
    if held is None or verifier.audience not in held.audiences:
        return []
    candidates = held.candidates(verifier.audience, sent)
    if len(candidates) > 1 or permits(candidates[0], sent.action):
        return candidates
    # No capability allows the call. One that allows its action shows what else denies it, and so what to ask for.
    speaking = (one for one in held if one.audience == verifier.audience and permits(one, sent.action))
    return [*speaking][-1:] or candidates


def _without(verifier: Verifier, bound: "BoundArguments", sent: ToolCall, held: Bundle | None) -> Denied:
    """Return the denial of a call for which there is nothing to present.

    If the caller holds a bundle, the denial suggests what to ask for.
    """
    audience = verifier.audience
    if held is None:
        return verifier.denial(replace(NO_TOKEN, wanted="run it inside `with capx.acting(bundle):`"))
    denied = verifier.denial(replace(NO_TOKEN, wanted=f"a bundle that holds a capability for {audience}"))
    return Denied(denied.decision, suggested_ask((), audience=audience, action=sent.action, args=_json(bound)))


def _json(bound: "BoundArguments") -> dict[str, JSON]:
    return {name: plain(name, value) for name, value in bound.arguments.items()}


def _judgeable(function: Callable[..., Any]) -> "Signature":
    import inspect

    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        # The token could expire, or be revoked, between the call and the first value.
        raise ConfigurationProblem("a generator cannot be guarded, because it runs after it is judged: return a list")
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            # Caveats find arguments by their names.
            raise ConfigurationProblem(f"*{parameter.name} takes arguments that the signature does not name: name each")
    return signature
