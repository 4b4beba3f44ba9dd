"""Burns the presentations of concurrent requests together, for code on an event loop.

Laws:

- What is presented in one turn of the event loop, or while a transaction runs, is burnt in one transaction.
- If the store can burn without waiting, that is done on the event loop: a thread would cost more. Else it is done in a
  thread, and now and then it always is: there a store may tidy up what the event loop must not wait for.
- Each caller gets the answer for its own presentation. If the store fails, all of the transaction get the failure.
- Whoever is cancelled gets no answer, and its presentation is burnt all the same.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from capx.background import asyncio_loop, in_pool
from capx.errors import Unavailable

if TYPE_CHECKING:
    import asyncio  # slow to import; whoever has an event loop has imported it

MOST: Final = 500
"""The most presentations in one transaction."""
_TIDY_EVERY: Final = 1_000
"""How many transactions on the event loop come before one in a thread."""


class Presented(NamedTuple):
    """A presentation's id (16 bytes), the last second of its window, and the verifier's time, both in Unix seconds."""

    presentation: bytes
    until: int
    now: int


Answer = bool | Unavailable
"""Whether a presentation was new, or why that is unknown."""
BurnAll = Callable[[Sequence[Presented], bool], Sequence[Answer] | None]
"""Burns in one transaction. If it may not wait and would have to, it burns nothing and returns None."""
_Waiting = tuple[Presented, "asyncio.Future[bool]"]


class BurnQueue:
    """The presentations that wait to be burnt; belongs to one event loop, which it does not keep alive."""

    def __init__(self, burn_all: BurnAll) -> None:
        self._burn_all = burn_all
        self._waiting: list[_Waiting] = []
        self._is_due = False
        self._untidied = 0
        self._burning: asyncio.Task[None] | None = None

    async def burn(self, presented: Presented) -> bool:
        """Burn an id, and return whether it was new; Unavailable if that is unknown."""
        answer: asyncio.Future[bool] = asyncio_loop().create_future()
        self._waiting.append((presented, answer))
        if not self._is_due:
            self._is_due = True
            asyncio_loop().call_soon(self._next)
        return await answer

    def _next(self) -> None:
        """Burn those that wait, on the event loop or in a thread."""
        batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        self._is_due = bool(batch)
        if not batch:
            return
        self._untidied += 1
        answers = self._answers(batch, wait=False) if self._untidied <= _TIDY_EVERY else None
        if answers is None:
            self._untidied = 0
            self._burning = asyncio_loop().create_task(self._in_thread(batch))
        else:
            _settle(batch, answers)
            asyncio_loop().call_soon(self._next)

    async def _in_thread(self, batch: list[_Waiting]) -> None:
        try:
            _settle(batch, await in_pool(lambda: self._answers(batch, wait=True) or ()))
        finally:
            self._next()

    def _answers(self, batch: list[_Waiting], *, wait: bool) -> Sequence[bool | Exception] | None:
        try:
            return self._burn_all([presented for presented, _ in batch], wait)
        except Exception as error:  # noqa: BLE001 # each caller gets it
            return [error] * len(batch)


def _settle(batch: list[_Waiting], answers: Sequence[bool | Exception]) -> None:
    for (_, future), answer in zip(batch, answers, strict=False):
        # Done if its caller was cancelled.
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
