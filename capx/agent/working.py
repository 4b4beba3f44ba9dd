"""A block of code in which an agent works on its task: it acts in the block, and completes the task at the end.

Laws:

- Nobody acts when the task is completed: the `acting` block is left first.
- The task is completed however the block ends: a return, an exception, a cancellation. If that fails, the block raises
  the error, or its own exception with a note.
- A task that has ended meanwhile needs no completion.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from capx.agent.actor import Actor, acting
from capx.errors import InvalidRequest
from capx.tokens.closing_act import ClosingAct
from capx.verify.decision import Denied

if TYPE_CHECKING:
    from types import TracebackType

A = TypeVar("A", bound=Actor)

_HAS_ENDED: Final = frozenset({"task_completed", "task_withdrawn", "task_expired"})
"""Codes with which the authority denies the completion of a task that has ended already."""


class Working(Generic[A]):
    """The block, `with` or `async with`, to be entered once; it gives the actor. `complete` completes the task."""

    def __init__(self, actor: A, complete: Callable[[], None] | None) -> None:
        self._acting = acting(actor)
        self._completion = None if complete is None else _completion(complete)

    def __enter__(self) -> A:
        return self._acting.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        try:
            self._acting.__exit__(kind, raised, trace)
        except InvalidRequest as error:
            # It was left out of order. The task ends all the same.
            raised = raised or error
            raise
        finally:
            if self._completion is not None:
                self._completion.do(raised)

    async def __aenter__(self) -> A:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        try:
            self._acting.__exit__(kind, raised, trace)
        except InvalidRequest as error:
            raised = raised or error
            raise
        finally:
            if self._completion is not None:
                await self._completion.do_async(raised)


def _completion(complete: Callable[[], None]) -> ClosingAct:
    def act() -> None:
        try:
            complete()
        except Denied as denied:
            if denied.code not in _HAS_ENDED:
                raise

    return ClosingAct(act, _not_completed, name="capx-complete")


def _not_completed(error: BaseException) -> str:
    return f"the task could not be completed ({error}): its tokens live until it expires, or somebody completes it"
