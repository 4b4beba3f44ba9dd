"""The stage of one row: an authority with a policy, two people, agents, and an adapter that lets a model call tools.

Laws: nothing but people and the model is replaced. The stage raises NotConformant for what the model must not see,
whatever the row: a part of a token, or nothing at all because a refusal has ended the run.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from typing import Any, Final, Self, TypeVar, cast

from capx.agent.actor import Actor, acting, bundle_of
from capx.agent.agent import Agent
from capx.authority.authority import Authority
from capx.errors import CapxError
from capx.policy.file import read_policy
from capx.testing.person import Person
from capx.testing.tools import TENANT, Ran, Tool, noting_tools
from capx.tokens.wording import sentence
from capx.verify.decision import Denied

ModelCall = tuple[str, Mapping[str, Any]]
"""One call of the model: the name of a tool, and the arguments as the model wrote them."""
Turn = Sequence[ModelCall]
"""The calls that the model makes at once."""
Adapter = Callable[[Sequence[Tool], Sequence[Turn]], Awaitable[list[str]]]
"""An adapter, as its test runs it: a model that makes these calls, turn by turn, with these tools, in one run.

It returns what the model read of each call, in the order of the calls. Behind these texts it may return others that the
model saw, such as a prompt or the descriptions of tools: no part of a token may be in them either.
"""

T = TypeVar("T")

_SIGNATURE: Final = 43
"""The characters at the end of a token that nobody can compute: with them its blocks are a token again."""
_PREFIX: Final = "capx1_"
_PATIENCE: Final = 20.0
"""Seconds for which a row waits for what another thread or task does."""
_LOOK: Final = 0.01
"""Seconds between two looks."""


class NotConformant(AssertionError):
    """An adapter does not do what a row demands: says what it did."""


def demand(holds: object, problem: str) -> None:
    """Raise NotConformant with this sentence unless it holds."""
    if not holds:
        raise NotConformant(problem)


class Stage:
    """An authority, people, tools and the adapter, for one row; `ran` has each run of a tool, in order."""

    def __init__(self, adapter: Adapter, *, is_async: bool) -> None:
        ana, ben = Person("ana"), Person("ben")
        self._kept = ExitStack()
        self.authority = self._kept.enter_context(Authority.temporary(policy=read_policy(_policy(ana, ben))))
        self._ana = ana.at(self.authority)
        self.ben = ben.at(self.authority)
        """Of finance: who can consent to refunds."""
        self.ran: list[Ran] = []
        self.tools = noting_tools(self.authority, self.ran, is_async=is_async)
        self._adapter = adapter
        self._is_async = is_async

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()

    def agent(self, *, wait: float = 0.0) -> Agent:
        """Return the agent of a new task, which asks the authority, and waits for a person so many seconds."""
        task = self.authority.open(self._ana.wants("support", TENANT))
        return self._kept.enter_context(Agent(task.bundle, authority=self.authority, wait=wait))

    async def read(self, actor: Actor, *turns: Turn) -> list[str]:
        """Return what the model reads of each call of these turns, in a run in which this actor acts."""
        try:
            texts = await self.run(actor, *turns)
        except Exception as error:
            refusal = refusal_in(error)
            if refusal is None:
                raise
            raise NotConformant(f"the run ended with {error!r}, and the model reads nothing of {refusal!r}") from error
        return texts

    async def run(self, actor: Actor | None, *turns: Turn) -> list[str]:
        """Run the adapter as it is; with None nobody acts."""
        with nullcontext() if actor is None else acting(actor):
            texts = await self._adapter(self.tools, turns)
        calls = sum(map(len, turns))
        if len(texts) < calls or not all(isinstance(one, str) for one in texts):  # pyright: ignore[reportUnnecessaryIsInstance] # an adapter need not be typed
            raise NotConformant(
                f"the adapter must return a text for each of {calls} calls, and returned {texts!r:.400}"
            )
        for secret in () if actor is None else _secrets(actor):
            leaks = [text for text in texts if secret in text]
            demand(not leaks, f"the model saw a part of a token: {leaks!r:.400}")
        return texts[:calls]

    async def denial(self, actor: Actor, name: str, **args: Any) -> Denied:
        """Return the denial of a call that is made without the adapter."""
        (tool,) = (one for one in self.tools if one.name == name)
        try:
            with acting(actor):
                if self._is_async:
                    await tool.guarded(**args)
                else:
                    await asyncio.to_thread(tool.guarded, **args)
        except Denied as denied:
            return denied
        raise RuntimeError(f"{name} was to be denied, so that its denial can be compared")

    def demand_ran(self, *names: str) -> None:
        """Raise NotConformant unless exactly these tools have run, in any order."""
        ran = sorted(one.name for one in self.ran)
        demand(ran == sorted(names), f"{_listed(ran)} ran, and {_listed(sorted(names))} was to run")


def demand_told(text: str, *parts: str) -> None:
    """Raise NotConformant unless the model reads all of these parts in a text, which may be JSON."""
    plain = text.replace('\\"', '"')
    for part in parts:
        demand(part in plain, f"the model must read {part!r}, and read {text!r:.1000}")


def reasons_of(denied: Denied) -> Iterator[str]:
    """The sentences of a denial that a model must read: the reasons, and what came of asking."""
    yield from map(sentence, denied.refusals)
    yield from denied.notes


def refusal_in(error: BaseException) -> CapxError | None:
    """Return the error of capx that another error is, was caused by, or holds in a group; None if there is none."""
    return next((one for one in causes(error) if isinstance(one, CapxError)), None)


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was caused by, and what a group holds: frameworks wrap what a tool raises."""
    waiting: list[BaseException | None] = [error]
    seen = set[int]()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += cast("BaseExceptionGroup[BaseException]", one).exceptions


async def until(what: Callable[[], T], problem: str) -> T:
    """Return the first result that is true; NotConformant with this sentence if none comes in time."""
    ends = time.monotonic() + _PATIENCE
    while not (found := what()):
        demand(time.monotonic() < ends, problem)
        await asyncio.sleep(_LOOK)
    return found


def _secrets(actor: Actor) -> Iterator[str]:
    yield _PREFIX
    for capability in bundle_of(actor):
        yield capability.text[-_SIGNATURE:]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"


def _policy(ana: Person, ben: Person) -> str:
    return f"""
{ana.in_policy(purposes=["support"], tenants=[TENANT])}
{ben.in_policy(groups=["finance"])}
[purpose.support]
ttl = "1h"

[[purpose.support.grant]]
how = "at_open"
allow."desk.search" = {{ query = {{ anything = true }}, limit = {{ range = [1, 100] }} }}
allow."desk.read" = {{ account = {{ anything = true }} }}
allow."desk.fail" = {{ reason = {{ anything = true }} }}
allow."desk.finish" = {{ summary = {{ anything = true }} }}

[[purpose.support.grant]]
how = "on_request"
allow = ["desk.note"]

[[purpose.support.grant]]
how = "ask"
approvers = ["finance"]
within = "30m"
allow."desk.refund" = {{ amount = {{ range = [1, 500] }} }}
"""
