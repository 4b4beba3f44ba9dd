"""What is done at the end of a block of code, however the block ends: a revocation, or the end of a task.

Laws:

- An exception of the block is never replaced. If the act fails too, a note on the exception says so.
- A cancellation during the act is passed on after the act, or after PATIENCE.
"""

from collections.abc import Callable
from typing import Final

from capx.background import outlast, run_in_thread
from capx.errors import StoreProblem, Unavailable

PATIENCE: Final = 30.0
"""Seconds for which an async block waits at its end until the act is done."""


class ClosingAct:
    """One act at the end of a block.

    If it fails, `failed` says what that means, for a note on the exception of the block. `name` is that of its thread.
    """

    def __init__(self, act: Callable[[], object], failed: Callable[[BaseException], str], *, name: str) -> None:
        self._act = act
        self._failed = failed
        self._name = name

    def do(self, raised: BaseException | None) -> None:
        """Do it at the end of a block that raised this, or nothing; raises its error only if the block raised none."""
        try:
            self._act()
        except Exception as error:
            if raised is None:
                raise
            raised.add_note(self._failed(error))
        except BaseException as interruption:
            interruption.add_note(self._failed(StoreProblem("it was interrupted")))
            raise

    async def do_async(self, raised: BaseException | None) -> None:
        """`do`, for async code: in a thread."""
        # In a thread of its own: tools of the block may occupy all threads of the pool.
        acting = run_in_thread(self._act, name=self._name)
        cancelled = await outlast(acting, PATIENCE)
        failed: BaseException | None = Unavailable(f"the authority did not answer within {PATIENCE:g} s")
        if acting.done():
            failed = acting.exception()
        if failed is not None:
            told = cancelled or raised
            if told is None:
                raise failed
            told.add_note(self._failed(failed))
        if cancelled is not None:
            raise cancelled
