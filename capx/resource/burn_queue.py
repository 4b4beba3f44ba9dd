"""Burns the presentations of concurrent requests together, for code on an event loop.

Laws:

- What is presented in one turn of the event loop, or while a transaction runs, is burnt in one transaction, at most
  `MOST` presentations.
- The memory decides whether it burns on the event loop, which costs less. If it declines, a thread burns.
- Each caller gets the answer for its own presentation. If the memory fails, all of the transaction get the failure.
  However a transaction ends, each caller gets an answer, and the next transaction begins.
- Whoever is cancelled gets no answer, and its presentation may be burnt all the same.
- The queue keeps no event loop alive, and nothing of the request that was first.
"""

from collections.abc import Callable, Sequence
from contextvars import Context
from itertools import chain, repeat
from typing import TYPE_CHECKING, Final, NamedTuple

from capx.background import asyncio_loop, in_pool
from capx.errors import Unavailable

if TYPE_CHECKING:
    import asyncio  # slow to import; whoever has an event loop has imported it

MOST: Final = 500
"""The most presentations in one transaction."""


class Presented(NamedTuple):
    """A presentation's id (16 bytes), the last second of its window, and the verifier's time, both in Unix seconds."""

    presentation: bytes
    until: int
    now: int


Answer = bool | Unavailable
"""Whether a presentation was new, or why that is unknown."""
BurnAll = Callable[[Sequence[Presented], bool], Sequence[Answer] | None]
"""Burns in one transaction. Where it may not wait, it may decline: then it burns nothing, and returns None."""
_Answers = Sequence[bool | Exception]


class BurnQueue:
    """The presentations that wait to be burnt; belongs to one event loop."""

    def __init__(self, burn_all: BurnAll) -> None:
        self._burn_all = burn_all
        self._waiting: list[tuple[Presented, asyncio.Future[bool]]] = []
        self._runs = False
        self._in_thread: asyncio.Task[_Answers | None] | None = None

    async def burn(self, presented: Presented) -> bool:
        """Burn an id, and return whether it was new; Unavailable if that is unknown."""
        answer: asyncio.Future[bool] = asyncio_loop().create_future()
        self._waiting.append((presented, answer))
        if not self._runs:
            self._go_on()
        return await answer

    def _go_on(self) -> None:
        """Begin the next transaction in the next turn of the event loop, if something waits."""
        self._runs = bool(self._waiting)
        if self._runs:
            asyncio_loop().call_soon(self._next, context=Context())

    def _next(self) -> None:
        batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        presented, futures = [one for one, _ in batch], [future for _, future in batch]
        answers: _Answers | None = ()
        # Whatever ends this, such as KeyboardInterrupt, each caller gets an answer.
        try:
            answers = self._answers(presented, wait=False)
        finally:
            if answers is None:
                self._begin_in_thread(presented, futures)
            else:
                self._end(futures, answers)

    def _begin_in_thread(self, presented: list[Presented], futures: "list[asyncio.Future[bool]]") -> None:
        def ended(task: "asyncio.Task[_Answers | None]") -> None:
            # The end of the task, not of its work: somebody may cancel it before it begins.
            self._in_thread = None
            if task.cancelled():
                self._end(futures, ())
            elif (error := task.exception()) is None:
                self._end(futures, task.result() or ())
            else:
                self._end(futures, [error] * len(futures) if isinstance(error, Exception) else ())

        work = in_pool(lambda: self._answers(presented, wait=True))
        self._in_thread = asyncio_loop().create_task(work)
        self._in_thread.add_done_callback(ended, context=Context())

    def _answers(self, presented: list[Presented], *, wait: bool) -> _Answers | None:
        try:
            return self._burn_all(presented, wait)
        except StopIteration as error:
            # No future takes this one.
            return [RuntimeError(repr(error))] * len(presented)
        except Exception as error:  # noqa: BLE001 # each caller gets it
            return [error] * len(presented)

    def _end(self, futures: "list[asyncio.Future[bool]]", answers: _Answers) -> None:
        interrupted = Unavailable("cannot tell whether this was used: the service was interrupted; present again")
        for future, answer in zip(futures, chain(answers, repeat(interrupted)), strict=False):
            # Done if its caller was cancelled.
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        self._go_on()
