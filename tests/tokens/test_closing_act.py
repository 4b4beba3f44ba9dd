"""What is done at the end of a block: once, and without hiding how the block ended."""

import asyncio
import threading
from typing import Any

import pytest

from capx.errors import StoreProblem, Unavailable
from capx.tokens import closing_act
from capx.tokens.closing_act import ClosingAct


def act_that_fails(error: BaseException | None = None) -> tuple[ClosingAct, list[str]]:
    done: list[str] = []

    def act() -> None:
        done.append(threading.current_thread().name)
        if error is not None:
            raise error

    return ClosingAct(act, lambda failed: f"not done: {failed}", name="capx-end"), done


def run(ending: ClosingAct, raised: BaseException | None, is_async: bool) -> None:
    asyncio.run(ending.do_async(raised)) if is_async else ending.do(raised)


both = pytest.mark.parametrize("is_async", [False, True])


@both
def test_it_is_done_once_async_in_a_thread_of_its_own(is_async: bool) -> None:
    ending, done = act_that_fails()
    run(ending, None, is_async)
    assert done == ["capx-end" if is_async else threading.current_thread().name]


@both
def test_its_error_is_raised_if_the_block_raised_none(is_async: bool) -> None:
    ending, _ = act_that_fails(StoreProblem("gone"))
    with pytest.raises(StoreProblem, match="gone"):
        run(ending, None, is_async)


@both
def test_its_error_is_a_note_on_what_the_block_raised(is_async: bool) -> None:
    ending, _ = act_that_fails(StoreProblem("gone"))
    raised = KeyError("x")
    run(ending, raised, is_async)
    assert raised.__notes__ == ["not done: gone"]


def test_an_interruption_goes_on_with_a_note() -> None:
    ending, _ = act_that_fails(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as interrupted:
        ending.do(None)
    assert interrupted.value.__notes__ == ["not done: it was interrupted"]


def test_an_act_that_hangs_is_waited_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing_act, "PATIENCE", 0.05)
    never = threading.Event()
    ending = ClosingAct(lambda: never.wait(10), str, name="capx-end")
    with pytest.raises(Unavailable, match=r"within 0\.05 s"):
        asyncio.run(ending.do_async(None))
    never.set()


async def test_a_cancellation_is_passed_on_after_the_act() -> None:
    begun, go_on = threading.Event(), threading.Event()
    done: list[Any] = []

    def act() -> None:
        begun.set()
        done.append(go_on.wait(10))

    ending = asyncio.ensure_future(ClosingAct(act, str, name="capx-end").do_async(None))
    await asyncio.to_thread(begun.wait, 10)
    ending.cancel()
    await asyncio.sleep(0.01)
    assert not ending.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert done == [True]
