"""Only a guarded function itself is called as a guarded one."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from capx.agent.agent import Agent
from capx.authority.authority import Authority
from capx.errors import InvalidRequest
from capx.guard.tool import on_loop
from capx.tokens.bundle import Bundle
from capx.tokens.guarded_function import injected_parameters


@pytest.fixture(scope="module")
def lab() -> Iterator[Authority]:
    with Authority.temporary() as authority:
        yield authority


@pytest.fixture(scope="module")
def bundle(lab: Authority) -> Bundle:
    return lab.open(allow=["slides.write"]).bundle


def unguarded() -> str:
    return "ran"


class Methods:
    def write(self) -> str:
        return "ran"


def test_what_is_no_guarded_tool_is_not_called(lab: Authority, bundle: Bundle) -> None:
    guarded = lab.tool("slides.write")(unguarded)

    @functools.wraps(guarded)
    def decorated() -> str:
        pytest.fail("what is around a guarded tool was left out")

    others: list[Callable[[], Any]] = [
        unguarded, decorated, functools.partial(guarded), Methods().write, bundle.calling(guarded), Agent(bundle).close,
        Agent(bundle).tool(guarded), dict,
    ]  # fmt: skip
    for take in (bundle.calling, Agent(bundle).calling, on_loop):
        for other in others:
            with pytest.raises(InvalidRequest, match="is not a guarded tool"):
                take(other)


def test_a_guarded_tool_is_called_with_the_bundle(lab: Authority, bundle: Bundle) -> None:
    guarded = lab.tool("slides.write")(unguarded)
    assert bundle.calling(guarded)() == "ran"
    assert Agent(bundle).calling(guarded)() == "ran"
    assert bundle.calling(guarded).__name__ == "unguarded"


def test_injected_parameters_are_known_behind_decorators(lab: Authority, bundle: Bundle) -> None:
    @lab.tool("slides.write", injected=("page",))
    def write(page: int) -> None: ...

    @functools.wraps(write)
    def decorated(page: int) -> None: ...

    for function in (write, decorated, on_loop(write), Agent(bundle).tool(write), bundle.calling(write)):
        assert injected_parameters(function) == {"page"}
    assert injected_parameters(unguarded) == injected_parameters(None) == frozenset()
