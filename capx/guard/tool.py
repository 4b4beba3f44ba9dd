"""Guarded functions: each call is presented, admitted and judged before it runs.

Laws: without a bundle nothing runs. What is presented are the arguments as given; what is judged are those that
the function gets, defaults filled in. An agent that is refused asks for what it lacks, no more than twice, and the call
is judged again after each grant, before the function runs.
"""

import functools
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from msgspec.structs import replace

from capx.agent.actor import bundle_of, current_actor
from capx.agent.next_asks import AskOutcome, DenialSummary, NextAsks, next_asks
from capx.errors import ConfigurationProblem
from capx.guard.call_facts import CallSpec, Costs, Derived, Tenancy
from capx.guard.current import allowed_by
from capx.guard.json_values import plain
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.tokens.grants import audience_of
from capx.verify.admitted import Admitted
from capx.verify.ask import Granted
from capx.verify.decision import NO_TOKEN, Allowed, Denied
from capx.verify.suggestion import suggested_ask
from capx.verify.verifier import Verifier
from capx_caveats import JSON, Allow, Call

if TYPE_CHECKING:
    from inspect import BoundArguments, Signature

P = ParamSpec("P")
R = TypeVar("R")


class ToolGuard:
    """Guards functions of this process with the verifier of each one's audience."""

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
        """Guard a plain or async function: it runs for an allowed call, and raises Denied otherwise.

        The audience is the action's first label unless given. `tenant`, `attributes` and, by unit, `cost` state facts
        of the call: constants, or functions of the arguments that they name. Within it, `capx.current_allowed`
        is the decision. Raises ConfigurationProblem for functions whose calls cannot be judged whole: generators, and
        those that take `*args` or `**kwargs`.
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
        """The arguments as the function gets them, and the call as it was made: defaults not filled in."""
        bound = self.signature.bind(*args, **kwargs)
        sent = ToolCall(self._spec.action, _json(bound))
        bound.apply_defaults()
        return bound, sent

    def call(self, admitted: Admitted, bound: "BoundArguments") -> Call:
        """The call as it is about to be executed."""
        args = _json(bound)
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
    """The result of work that waits in this thread, and never for an event loop."""
    try:
        work.send(None)
    except StopIteration as end:
        return cast("Allowed", end.value)
    raise RuntimeError("a plain function cannot wait for an event loop")


async def _judge(
    tool: _Tool, verifier: Verifier, bound: "BoundArguments", sent: ToolCall, *, is_async: bool
) -> Allowed:
    """The decision to allow the call, after asking for what it lacks; awaits nothing unless it `is_async`."""
    actor = current_actor()
    gained: AskOutcome | None = None
    while True:
        held = None if actor is None else bundle_of(actor)
        try:
            return await _judged(tool, verifier, bound, sent, held, is_async=is_async)
        except Denied as denied:
            wanted = _next_asks(denied, verifier, gained)
            if actor is None or isinstance(actor, Bundle) or wanted is None:
                raise
            outcome = await actor.seek_async(wanted) if is_async else actor.seek(wanted)
            gained = _gained(outcome, held, denied)
            if gained is None:
                raise


def _next_asks(denied: Denied, verifier: Verifier, gained: AskOutcome | None) -> NextAsks | None:
    """What the call needs still; what it was granted in vain is noted on the denial."""
    if gained is not None:
        denied.add_note(gained.sentence())
    told = DenialSummary(denied.ask, tuple(refusal.code for refusal in denied.refusals))
    return next_asks(verifier.audience, [told], None if gained is None else gained.ask)


def _gained(outcome: AskOutcome | None, held: Bundle | None, denied: Denied) -> AskOutcome | None:
    """What was granted, if it is new and can be presented; why nothing was is noted on the denial."""
    if outcome is None:
        return None
    if isinstance(outcome.answer, Granted) and (held is None or outcome.answer.capability not in held):
        return outcome
    denied.add_note(outcome.sentence())
    return None


async def _judged(
    tool: _Tool, verifier: Verifier, bound: "BoundArguments", sent: ToolCall, held: Bundle | None, *, is_async: bool
) -> Allowed:
    """The decision to allow the call with what is held now."""
    first: Denied | None = None
    for candidate in _candidates(verifier, sent, held):
        try:
            presented = candidate.present(sent).text
            if is_async:
                admitted = await verifier.admit_async(presented, sent)
                return await admitted.judge_async(tool.call(admitted, bound), sent=True)
            admitted = verifier.admit(presented, sent)
            return admitted.judge(tool.call(admitted, bound), sent=True)
        except Denied as denied:
            first = _next(first, denied)
    raise first or _without(verifier, bound, sent, held)


def _next(first: Denied | None, denied: Denied) -> Denied:
    """Go on to the next capability after a refusal that another could pass; the newest one's is told."""
    if denied.status != 403:
        raise denied
    return first or denied


def _candidates(verifier: Verifier, sent: ToolCall, held: Bundle | None) -> list[Capability]:
    if held is None or verifier.audience not in held.audiences:
        return []
    candidates = held.candidates(verifier.audience, sent)
    if len(candidates) > 1 or _speaks_of(candidates[0], sent.action):
        return candidates
    # All rule the call out: what speaks of its action says what else is refused, and so what to ask for.
    speaking = (one for one in held if one.audience == verifier.audience and _speaks_of(one, sent.action))
    return [*speaking][-1:] or candidates


def _speaks_of(capability: Capability, action: str) -> bool:
    allows = (caveat for block in capability.caveats for caveat in block if isinstance(caveat, Allow))
    return all(allow.permits(action) for allow in allows)


def _without(verifier: Verifier, bound: "BoundArguments", sent: ToolCall, held: Bundle | None) -> Denied:
    """The denial where nothing could be presented; whoever holds a bundle can ask for what it lacks."""
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
        raise ConfigurationProblem("a generator is judged when it is called and runs later: return a list instead")
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ConfigurationProblem(f"*{parameter.name} has arguments without names: name each one")
    return signature
