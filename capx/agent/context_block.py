"""A `with` block for which a context variable has a value.

Laws: the value is the block's. It is gone when the block has been left, also in the tasks and threads that were started
in the block and outlive it. Leaving a block out of order, or in another context than it was entered in, is an error,
and never sets an older value while a newer block is open.
"""

from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from capx.errors import InvalidRequest

if TYPE_CHECKING:
    from contextvars import ContextVar, Token

T = TypeVar("T")


class ContextBlock(Generic[T]):
    """One block, to be entered once. `what` names it in errors, such as "`acting` block"."""

    def __init__(self, variable: "ContextVar[Any]", value: T, *, what: str) -> None:
        self._variable = variable
        self._what = what
        self._token: Token[Any] | None = None
        self.value = value
        self.around: Self | None = None
        """The block in which it was entered."""
        self.is_left = False
        """Whether it has been left, wherever that was."""

    def __enter__(self) -> T:
        if self._token is not None:
            raise InvalidRequest(f"this {self._what} was entered before: make another one")
        self.around = innermost(self._variable)
        self._token = self._variable.set(self)
        return self.value

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        found = innermost(self._variable)
        self.is_left = True
        if found is self and self.reset():
            return
        # A generator that is closed raises GeneratorExit, which nobody would see with its note.
        if raised is None or isinstance(raised, GeneratorExit):
            raise InvalidRequest(self._problem(found))
        raised.add_note(self._problem(found))

    def reset(self) -> bool:
        """Set what was set before the block; return False where that cannot be done: in another context."""
        if self._token is None:
            return False
        try:
            self._variable.reset(self._token)
        except (ValueError, RuntimeError):  # RuntimeError: it was reset already, where the block was entered
            return False
        return True

    def _problem(self, found: "ContextBlock[Any] | None") -> str:
        inner = found
        while inner is not None and inner is not self:
            inner = inner.around
        if inner is None or found is self:
            return (
                f"this {self._what} was left in another task, thread or context than it was entered in: leave it "
                "where it was entered"
            )
        return f"this {self._what} was left while another one in it was still open: leave the inner one first"


def innermost(variable: "ContextVar[Any]") -> Any:
    """Return the innermost block of this context; None if there is none.

    It resets left blocks first. If the block that it returns has been left all the same, this context is a copy that
    was made in it: what was set around the block is not for the code that was started in it.
    """
    # A block that was left elsewhere, or while an inner one was open, is still set here.
    while (block := variable.get()) is not None and block.is_left and block.reset():
        pass
    return block
