"""A block's value is its own: set within it, gone after it, and never another's."""

import contextvars
from contextvars import ContextVar
from typing import Any

import pytest

from capx.agent.context_block import ContextBlock, innermost
from capx.errors import InvalidRequest

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
