"""The actor: the bundle or agent for which the running code acts. Guarded tools and HTTP clients read it.

Laws: the actor belongs to an execution (a context variable), so concurrent tasks and threads never act for each other.
It belongs to one block, and nobody acts after the block has ended: no task or thread that was started in it, and no
call that waited for a person meanwhile. Code that a generator yields to never acts for the generator unawares.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NoReturn, ParamSpec, Protocol, TypeVar, cast

from capx.agent.context_block import ContextBlock, innermost
from capx.agent.unfinished_work import demand_finished, demand_no_generator, returns_coroutine
from capx.errors import InvalidRequest
from capx.tokens.bundle import Bundle

if TYPE_CHECKING:
    from capx.agent.next_asks import AskOutcome, NextAsks
    from capx.agent.unproven_grants import UnprovenGrants


class Seeker(Protocol):
    """An actor whose bundle grows, because it asks for more when a call is denied: `capx.Agent`."""

    @property
    def bundle(self) -> Bundle:
        """The bundle that it holds now."""
        ...

    @property
    def unproven(self) -> "UnprovenGrants":
        """The grants with which no call has passed yet: a guard or a client notes there how calls end."""
        ...

    def seek(self, wanted: "NextAsks", /) -> "AskOutcome | None":
        """Send the next asks, for a guard or a client, and hold what is granted.

        Return the outcome; None if there is no authority to ask. Raise Pending if a person has not answered in time.
        """
        ...

    async def seek_async(self, wanted: "NextAsks", /) -> "AskOutcome | None":
        """`seek`, for async code."""
        ...


Actor = Bundle | Seeker
"""A bundle that acts, or an agent, which can also ask for more."""
A = TypeVar("A", bound=Actor)
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_NOBODY: Final = (
    "nobody acts here. Run it inside `with capx.acting(bundle):`. Other threads and pools do not inherit that block: "
    "use `bundle.calling(tool)` there, or `asyncio.to_thread`, or `contextvars.copy_context().run`"
)
_ENDED: Final = (
    "the `capx.acting` block in which this code was started has ended. Act before it ends, or start the code outside "
    "it, or with a context of its own (`contextvars.Context()`)"
)

_current: ContextVar["_Block[Any] | None"] = ContextVar("capx_actor", default=None)


def acting(actor: A, *, across_yield: bool = False) -> AbstractContextManager[A]:
    """Act with this bundle, or as this agent, within the `with` block; after it, the previous actor acts again.

    Tasks that are started in the block act too, until it ends, and so does `asyncio.to_thread`. Other threads do not:
    use `bundle.calling(tool)` there, or `contextvars.copy_context().run`. Nor does a forked child. When the block has
    ended, for example because its task was cancelled, nobody acts any more in what was started in it: a call that is
    waiting for a person does not run, and no new block can be entered there.

    A generator cannot enter it (InvalidRequest), because the code that it yields to would act too, and generators that
    take turns would act for each other. This is seen where the `with` is in the generator itself, or behind
    `ExitStack.enter_context` or a method `__enter__` or `__aenter__`. It is not seen behind other functions. Nor is it
    seen in a coroutine that code drives by hand, with `send`: run each in a context of its own, as an event loop does.

    `across_yield=True` is for generators that are a context manager, a pytest fixture or an async FastAPI dependency.
    Whoever passes it promises that the code that it yields to shall act as this actor, and that the generator is
    resumed in the same context, after all blocks that were entered meanwhile have been left. A block that is left in
    any other way raises InvalidRequest (an exception of the block gets a note instead), and nobody acts until the
    blocks in it have been left.
    """
    return _Acting(actor, across_yield=across_yield)


class _Block(ContextBlock[T]):
    @property
    def is_open(self) -> bool:
        """Whether neither it nor a block around it has been left."""
        block: _Block[Any] | None = self
        while block is not None and not block.is_left:
            block = block.around
        return block is None


class _Acting(_Block[A]):
    def __init__(self, actor: A, *, across_yield: bool) -> None:
        super().__init__(_current, actor, what="`acting` block")
        self._across_yield = across_yield

    def __enter__(self) -> A:
        if not self._across_yield:
            _demand_no_generator_frame(inspect.currentframe())
        demand_open_block()
        return super().__enter__()

    def __call__(self, *_: object) -> NoReturn:
        raise InvalidRequest(
            "`acting` is not a decorator: write `with capx.acting(bundle):` in the function, or wrap it with "
            "`agent.tool` or, if it is guarded, `bundle.calling`"
        )


def caller_scope() -> AbstractContextManager[None]:
    """Tell what is started in the `with` block when the block has been left: then nobody acts in it any more.

    It is for adapters of frameworks, around one call of a tool. If the call is cancelled while its tool waits in a
    thread for a person, the tool does not run, whatever the person answers. It changes nobody who acts, and needs
    nobody to act. A generator cannot enter it (InvalidRequest), as with `acting`.
    """
    return _CallerScope(_current, None, what="block of a caller")


class _CallerScope(_Block["Actor | None"]):
    def __enter__(self) -> None:
        _demand_no_generator_frame(inspect.currentframe())
        # Also after the block around it has ended: code that needs nobody to act must still run.
        self.value = current_actor()
        super().__enter__()


def current_actor() -> Actor | None:
    """The bundle or agent of the innermost `acting` block around the running code; None if that block has ended."""
    block = innermost(_current)
    return block.value if block is not None and block.is_open else None


def acting_block() -> object | None:
    """The innermost `acting` block around the running code, for what shall last as long as it; None without one."""
    block: _Block[Any] | None = innermost(_current)
    while isinstance(block, _CallerScope):
        block = block.around
    return block


def demand_open_block() -> None:
    """Raise InvalidRequest if the `acting` block in which the running code was started has ended."""
    _demand_open(innermost(_current))


def _demand_open(block: "_Block[Any] | None") -> None:
    # In a forked child, nobody hears that the block of the parent has ended.
    if block is not None and not (block.is_open and block.is_of_this_process):
        raise InvalidRequest(_ENDED)


def why_nobody_acts() -> str:
    """Say why there is no current actor, and what to do."""
    block = innermost(_current)
    return _NOBODY if block is None or block.is_open else _ENDED


def bundle_of(actor: Actor) -> Bundle:
    """Return the bundle that an actor holds now."""
    return actor if isinstance(actor, Bundle) else actor.bundle


def run_as(actor: Actor, function: Callable[P, R]) -> Callable[P, R]:
    """Return the function, plain or async, run as this actor; ConfigurationProblem if its work outlives its call.

    If it is made in an `acting` block, a call raises InvalidRequest after that block has ended, wherever it is made.
    """
    demand_no_generator(function)
    made_in: _Block[Any] | None = innermost(_current)
    if returns_coroutine(function):
        # A coroutine runs after the call has returned, so its block must stay open until it has ended.

        @functools.wraps(function)
        async def act_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            _demand_open(made_in)
            with acting(actor):
                return demand_finished(function, await cast("Any", function(*args, **kwargs)))

        return cast("Callable[P, R]", act_async)

    @functools.wraps(function)
    def act(*args: P.args, **kwargs: P.kwargs) -> R:
        _demand_open(made_in)
        with acting(actor):
            return demand_finished(function, function(*args, **kwargs))

    return act


def _demand_no_generator_frame(frame: FrameType | None) -> None:
    """Raise InvalidRequest if the block of the frame belongs to a generator."""
    while frame is not None and _enters_for_its_caller(frame):
        frame = frame.f_back
    if frame is None or not frame.f_code.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        return
    raise InvalidRequest(
        f"{frame.f_code.co_qualname} is a generator, and whoever it yields to would act for it: call guarded tools "
        "with `bundle.calling(tool)`, or, if it is a context manager, a fixture, a dependency or a streaming body, "
        "pass `across_yield=True`"
    )


def _enters_for_its_caller(frame: FrameType) -> bool:
    """Whether the caller of this frame's function leaves the block: stacks of contextlib, and context managers."""
    return frame.f_code.co_name in ("__enter__", "__aenter__") or frame.f_globals is contextlib.__dict__
