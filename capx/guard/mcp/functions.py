"""Functions of an MCP server that judge their own calls, with the values that they get.

Laws:

- A guarded function runs only for a request that the guard has let in, and while that request is served. Any other call
  of it raises ConfigurationProblem: nobody has presented it.
- Until it has judged the call, the server runs no other function in its place.
- The values are judged that the function gets, after the server has parsed and validated them. An argument is a
  default only if the client did not send it and the function gets the static default of its parameter.
- The server sees a denial as an error of its own SDK, so that it logs no traceback. The guard keeps the denial itself.
"""

import functools
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Final

from capx.agent.context_block import ContextBlock, innermost
from capx.agent.unfinished_work import demand_finished, returns_coroutine
from capx.errors import ConfigurationProblem, InvalidRequest
from capx.guard.call_facts import CallFacts, CallSpec, unjudgeable
from capx.guard.current import allowed_by
from capx.guard.guarded_request import GuardedRequest
from capx.guard.judged_function import BoundCall, JudgedFunction, written
from capx.verify.decision import Denied

_ATTRIBUTE: Final = "__capx_mcp__"


class ServedRequest:
    """A request that was let in by the guard `owner`; `function` is the tool that it calls, with arguments `sent`."""

    def __init__(
        self,
        owner: object,
        current: GuardedRequest,
        function: "GuardedFunction | None" = None,
        sent: Iterable[str] = (),
    ) -> None:
        self.owner = owner
        self.current = current
        self.is_by_function = function is not None
        self._function = function
        self._sent = frozenset(sent)

    def sent_to(self, function: "GuardedFunction") -> frozenset[str] | None:
        """Return what the client sent for this call; None if the code of another function makes the call."""
        called, self._function = self._function, None
        return self._sent if called is function else None


_served: ContextVar["ContextBlock[ServedRequest] | None"] = ContextVar("capx_mcp_request", default=None)


def serving(request: ServedRequest) -> AbstractContextManager[ServedRequest]:
    """Serve a request in this block: guarded functions that run in it are judged for it."""
    return ContextBlock(_served, request, what="block of a served request")


def awaits_function(owner: object) -> bool:
    """Whether code here serves a request of this guard that a function is to judge, and none has allowed it yet."""
    # Also if the request has ended meanwhile: nobody will judge it any more.
    block: ContextBlock[ServedRequest] | None = innermost(_served)
    if block is None or block.value.owner is not owner:
        return False
    return block.value.is_by_function and block.value.current.allowed is None


class GuardedFunction:
    """A function and its guard; `function` is what to register at the server."""

    def __init__(
        self, unguarded: Callable[..., Any], spec: CallSpec, injected: Iterable[str], *, owner: object
    ) -> None:
        self._unguarded = unguarded
        self._judged = JudgedFunction(unguarded, spec, injected)
        self._owner = owner
        self.refused: Callable[[Denied], Exception] = ConfigurationProblem
        """Makes the error of a denial that the server's SDK knows, once there is a server."""
        self.spec = spec
        self.name: str = unguarded.__qualname__
        self.arguments = self._judged.signature.parameters.keys() - self._judged.injected
        self.function = self._async() if returns_coroutine(unguarded) else self._sync()
        setattr(self.function, _ATTRIBUTE, self)

    def read_defaults(self, defaults: Mapping[str, Any]) -> None:
        """Take these static defaults, as the server's SDK reads them: it may find one in `Field("")`."""
        self._judged.defaults = written(defaults)

    def _sync(self) -> Callable[..., Any]:
        @functools.wraps(self._unguarded)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._refusing() as current:
                bound, facts = self._stated(current, args, kwargs)
                allowed = current.judge_call(facts)
            with allowed_by(allowed):
                return demand_finished(self._unguarded, self._unguarded(*bound.runs.args, **bound.runs.kwargs))

        return call

    def _async(self) -> Callable[..., Any]:
        @functools.wraps(self._unguarded)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            with self._refusing() as current:
                bound, facts = self._stated(current, args, kwargs)
                allowed = await current.judge_call_async(facts)
            with allowed_by(allowed):
                return demand_finished(self._unguarded, await self._unguarded(*bound.runs.args, **bound.runs.kwargs))

        return call_async

    @contextmanager
    def _refusing(self) -> Generator[GuardedRequest]:
        try:
            yield self._served().current
        except Denied as denied:
            refused = self.refused(denied)
        else:
            return
        # Out of the block: what is raised does not carry the denial as its context.
        raise refused

    def _served(self) -> ServedRequest:
        block: ContextBlock[ServedRequest] | None = innermost(_served)
        if block is None or block.is_left or block.value.owner is not self._owner:
            raise ConfigurationProblem(
                f"{self.name} was called past its guard: protect its server, and call it for a request of a client"
            )
        return block.value

    def _stated(
        self, current: GuardedRequest, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[BoundCall, CallFacts]:
        sent = self._served().sent_to(self)
        try:
            bound = self._judged.bind(args, kwargs, sent)
        except InvalidRequest as error:
            problem = unjudgeable(str(error))
        else:
            # Before any fact is derived. If functions call each other, the guard has screened another action.
            self._screen(current, bound)
            return bound, bound.stated.facts(current.own_tenant)
        # Out of the block: the denial does not carry the error.
        return current.deny(self.spec.action, problem, sent=True)

    def _screen(self, current: GuardedRequest, bound: BoundCall) -> None:
        if (admitted := current.admitted) is None or admitted.permits(self.spec.action):
            return
        try:
            admitted.screen(self.spec.action, bound.stated.stated.arguments)
        except Denied as denied:
            current.keep(denied)
            raise


def guarded_function(registered: object) -> GuardedFunction | None:
    """Return the guarded function that a function is, or that its decorators carry; None if there is none."""
    found = getattr(registered, _ATTRIBUTE, None)
    return found if isinstance(found, GuardedFunction) else None
