"""What adapters of agent frameworks share: the text of a refusal for a model, and agents that work for other agents.

Laws:

- A model reads why a call was refused. The fault of the program (nobody acts, a presentation that does not fit) and
  errors that are not of capx go to the program.
- Code says who acts, never a model, a message or a state of the framework. An agent that a roster does not name may do
  nothing.
- A sub-agent has less than whoever called it, and its authority ends when its function returns.
"""

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ParamSpec, TypeVar, Unpack, cast
from weakref import WeakKeyDictionary

from capx.agent.actor import acting, acting_block, caller_scope, current_actor, run_as, why_nobody_acts
from capx.agent.agent import Agent
from capx.agent.unfinished_work import demand_no_generator, returns_coroutine
from capx.errors import ConfigurationProblem, InvalidRequest, Unavailable
from capx.tokens.bundle import Bundle, Narrowing, frozen_narrowing
from capx.verify.ask import Pending
from capx.verify.decision import Denied
from capx_caveats import is_label

__all__ = ["Roster", "caller_scope", "delegated_to", "model_text"]

P = ParamSpec("P")
R = TypeVar("R")


def model_text(error: BaseException) -> str | None:
    """Return what a model should read of an error of a tool; None if the error is not for a model.

    For Denied with status 403 or 503, Pending and Unavailable it is a sentence, with the notes of what came of asking.
    It is None for Denied with status 401, which is the program's fault, and for every other error.
    """
    if isinstance(error, Denied):
        return None if error.status == 401 else str(error)
    if isinstance(error, Pending):
        return str(error)
    if isinstance(error, Unavailable):
        # Only then is the text the guard's. Elsewhere it may name a file or a host.
        about_call = isinstance(error.__cause__, Denied)
        return str(error) if about_call else "an authority or a store gives no answer now: try the very same call later"
    return None


def delegated_to(*, to: str, **narrowing: Unpack[Narrowing]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function that runs another agent: it acts as a child, which is revoked when the function returns.

    The keywords are those of `Bundle.delegate`. The child is delegated, at each call, by the agent that acts then, and
    asks at the same authority. The function may be plain or async. ConfigurationProblem for a generator, and for work
    that is still to be done when the function has returned. InvalidRequest if no agent acts, or one without an
    authority, because nobody could revoke the child.
    """
    terms = frozen_narrowing(**narrowing)

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        demand_no_generator(function)
        if returns_coroutine(function):

            @functools.wraps(function)
            async def act_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                async with _delegator().delegated(to=to, **terms) as child:
                    return await cast("Any", run_as(child, function)(*args, **kwargs))

            return cast("Callable[P, R]", act_async)

        @functools.wraps(function)
        def act(*args: P.args, **kwargs: P.kwargs) -> R:
            with _delegator().delegated(to=to, **terms) as child:
                return run_as(child, function)(*args, **kwargs)

        return act

    return decorated


class Roster:
    """The agents of one run, by the names that the framework gives them.

    `first` is the agent that begins: it is whoever acts around the run. `shares` says what each of the others gets of
    that, in the keywords of `Bundle.delegate`, such as `{"writer": {"allow": ["slides.write"]}}`. The others are
    delegated when they first act, once for each `acting` block, and end with the task. ConfigurationProblem for a name
    that is no label of a hop, and for a share of the first agent.
    """

    def __init__(self, shares: Mapping[str, Narrowing], *, first: str) -> None:
        for name in (first, *shares):
            if not is_label(name):
                raise ConfigurationProblem(f"{name!r:.80} cannot name an agent: write 1 to 128 characters")
        if first in shares:
            raise ConfigurationProblem(f"{first!r} begins, so it has all that the run has: give it no share")
        self._shares = {name: frozen_narrowing(**share) for name, share in shares.items()}
        self._first = first
        # By block, so that two runs share no agent, and what is granted to an agent lasts for the run.
        self._agents: WeakKeyDictionary[object, dict[str, Agent | Bundle]] = WeakKeyDictionary()

    def acting_as(self, name: str | None) -> AbstractContextManager[Agent | Bundle | None]:
        """Act as the agent of this name for a `with` block; InvalidRequest if there is none, or if nobody acts."""
        if name == self._first:
            return nullcontext()
        if name is None or name not in self._shares:
            known = ", ".join(map(repr, (self._first, *self._shares)))
            raise InvalidRequest(f"{name!r:.80} is no agent of this run, so it may do nothing: it has {known}")
        actor = _acting()
        agents = self._agents.setdefault(acting_block(), {})
        # Of two threads that are here at once, both take what the first one has put there.
        return acting(agents.get(name) or agents.setdefault(name, actor.delegate(to=name, **self._shares[name])))


def _delegator() -> Agent:
    actor = _acting()
    if isinstance(actor, Bundle):
        raise InvalidRequest(
            "a bundle acts, which has no authority to revoke a sub-agent: act as capx.Agent(bundle, authority=…)"
        )
    return actor


def _acting() -> Agent | Bundle:
    actor = current_actor()
    if not isinstance(actor, Agent | Bundle):
        raise InvalidRequest(why_nobody_acts())
    return actor
