"""A block's value is its own: set within it, gone after it, and never another's."""

import contextvars
import signal
from contextvars import ContextVar
from multiprocessing import get_context
from types import FrameType
from typing import Any

import pytest

from capx.agent import context_block
from capx.agent.context_block import ContextBlock, innermost
from capx.errors import InvalidRequest
from tests.labs.processes import in_a_child

VARIABLE: ContextVar[Any] = ContextVar("test", default=None)


def block(value: str) -> ContextBlock[str]:
    return ContextBlock(VARIABLE, value, what="block")


def current() -> str | None:
    found = innermost(VARIABLE)
    return None if found is None or found.is_left else found.value


def test_the_value_of_the_block_around_is_back() -> None:
    with block("outer") as outer:
        with block("inner") as inner:
            assert (outer, inner, current()) == ("outer", "inner", "inner")
        assert current() == "outer"
    assert current() is None


def test_a_copy_of_the_context_keeps_no_value_of_a_left_block() -> None:
    with block("outer"), block("inner"):
        copy = contextvars.copy_context()
        assert copy.run(current) == "inner"
    assert copy.run(current) is None


def test_a_block_left_elsewhere_is_not_in_the_way() -> None:
    left = block("left")
    with block("outer"):
        left.__enter__()
        with pytest.raises(InvalidRequest, match="in another task, thread or context than it was entered in"):
            contextvars.copy_context().run(left.__exit__, None, None, None)
        assert current() == "outer"
        with block("inner"):
            assert current() == "inner"
        assert current() == "outer"
    assert current() is None


def test_blocks_left_out_of_order_leave_nothing_set() -> None:
    outer, inner = block("outer"), block("inner")
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(InvalidRequest, match="while another one in it was still open: leave the inner one first"):
        outer.__exit__(None, None, None)
    assert current() == "inner"
    inner.__exit__(None, None, None)
    assert current() is None


def test_an_exception_of_a_block_gets_a_note() -> None:
    outer, inner, error = block("outer"), block("inner"), ValueError("of the block")
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(ValueError, error, None)
    assert "leave the inner one first" in error.__notes__[0]
    inner.__exit__(None, None, None)
    assert current() is None


def test_a_block_is_entered_once() -> None:
    once = block("once")
    with once, pytest.raises(InvalidRequest, match="entered before"):
        once.__enter__()
    with pytest.raises(InvalidRequest, match="entered before"):
        once.__enter__()
    assert current() is None


def test_a_block_that_was_not_entered_is_not_left() -> None:
    with block("outer"):
        with pytest.raises(InvalidRequest, match="than it was entered in"):
            block("other").__exit__(None, None, None)
        assert current() == "outer"


def test_a_child_forked_in_a_block_has_none_and_enters_its_own() -> None:
    def holds() -> bool:
        before = current()
        with block("child"):
            within = current()
        return (before, within, current()) == (None, "child", None)

    with block("parent"):
        assert in_a_child(holds)
        assert current() == "parent"


def test_a_child_leaves_the_block_in_which_it_was_forked() -> None:
    def holds() -> bool:
        parents.__exit__(None, None, None)
        with block("child"):
            return current() == "child"

    parents = block("parent")
    with parents:
        assert in_a_child(holds)


def test_a_worker_forked_in_a_block_serves_all_without_it() -> None:
    with block("first"):
        pool = get_context("fork").Pool(1)
    with pool, block("second"):
        assert pool.apply(current) is None


class Interrupting:
    """A context variable in whose `set` a signal arrives, which raises an exception."""

    def get(self) -> Any:
        return VARIABLE.get()

    def set(self, value: Any) -> Any:
        token = VARIABLE.set(value)
        signal.raise_signal(signal.SIGUSR1)
        return token


def test_an_exception_of_a_signal_while_entering_leaves_nothing() -> None:
    def interrupt(_: int, __: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGUSR1, interrupt)
    variable: Any = Interrupting()
    try:
        with block("outer"):
            with pytest.raises(TimeoutError):
                ContextBlock(variable, "inner", what="block").__enter__()
            assert current() == "outer"
        assert current() is None
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_block_is_left_whatever_happens_while_it_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object, **__: object) -> None:
        raise TimeoutError

    left = block("left")
    left.__enter__()
    with monkeypatch.context() as patched:
        patched.setattr(context_block, "_first_open", interrupted)
        with pytest.raises(TimeoutError):
            left.__exit__(None, None, None)
    assert current() is None
