"""A `with` block for which a context variable has a value.

Laws: the value is the block's. It is gone when the block has been left, also in the tasks and threads that were started
in the block and outlive it. A child that was forked in it has no block at all: it may serve others for as long as it
lives. Leaving a block out of order, or in another context than it was entered in, is an error, and never sets an older
value while a newer block is open. An exception at any moment, such as one of a signal, leaves no value set.
"""

from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from capx.background import begin_in_each_process
from capx.errors import InvalidRequest

if TYPE_CHECKING:
    from contextvars import ContextVar, Token

T = TypeVar("T")


class _Process:
    """The running process: `mark` is another object in each, also where the numbers of processes are used again."""

    def __init__(self) -> None:
        begin_in_each_process(self._begin)

    def _begin(self) -> None:
        self.mark = object()


_process = _Process()


class ContextBlock(Generic[T]):
    """One block, to be entered once. `what` names it in errors, such as "`acting` block"."""

    def __init__(self, variable: "ContextVar[Any]", value: T, *, what: str) -> None:
        self._variable = variable
        self._what = what
        self._token: Token[Any] | None = None
        self._mark: object = None
        self.value = value
        self.around: Self | None = None
        """The block in which it was entered."""
        self.is_left = False
        """Whether it has been left, wherever that was."""

    def __enter__(self) -> T:
        if self._mark is not None:
            raise InvalidRequest(f"this {self._what} was entered before: make another one")
        self._mark = _process.mark
        self.around = innermost(self._variable)
        before = self._variable.get()
        try:
            self._token = self._variable.set(self)
        except BaseException:
            # Of a signal. Nobody will leave this block.
            self.is_left = True
            self._variable.set(before)
            raise
        return self.value

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        # First of all: a signal may raise an exception after each line.
        self.is_left = True
        found = _first_open(self._variable, or_this=self)
        if found is self and self.reset():
            return
        # A generator that is closed raises GeneratorExit, which nobody would see with its note.
        if raised is None or isinstance(raised, GeneratorExit):
            raise InvalidRequest(self._problem(found))
        raised.add_note(self._problem(found))

    @property
    def is_of_this_process(self) -> bool:
        """Whether it was entered in this process, and not in one from which this one was forked."""
        return self._mark is _process.mark

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
    """Return the innermost block of this context; None if there is none that was entered in this process.

    It resets left blocks first. If the block that it returns has been left all the same, this context is a copy that
    was made in it: what was set around the block is not for the code that was started in it.
    """
    block = _first_open(variable)
    return block if block is not None and block.is_of_this_process else None


def _first_open(variable: "ContextVar[Any]", *, or_this: ContextBlock[Any] | None = None) -> Any:
    # A block that was left elsewhere, or while an inner one was open, is still set here.
    while (block := variable.get()) is not None and block is not or_this and block.is_left and block.reset():
        pass
    return block
