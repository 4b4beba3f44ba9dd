"""Functions whose calls return before their work is done, and what they return."""

import csv
import functools
import io
import itertools
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest

from capx.agent.unfinished_work import demand_finished, demand_no_generator, returns_coroutine
from capx.errors import ConfigurationProblem


def plain() -> str:
    return "done"


async def coroutine() -> str:
    return "done"


def generator() -> Generator[str]:
    yield "done"


async def async_generator() -> AsyncGenerator[str]:
    yield "done"


class Async:
    async def __call__(self) -> None: ...

    async def method(self) -> None: ...

    def plain(self) -> None: ...


class Generating:
    def __call__(self) -> Generator[str]:
        yield "done"


class Plain:
    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    "function",
    [coroutine, Async(), Async().method, functools.partial(coroutine), functools.partial(functools.partial(Async()))],
)
def test_a_function_that_returns_a_coroutine(function: Callable[..., Any]) -> None:
    assert returns_coroutine(function)
    demand_no_generator(function)


@pytest.mark.parametrize("function", [plain, Plain(), Async, Async().plain, functools.partial(plain), len])
def test_a_function_that_returns_what_it_has_done(function: Callable[..., Any]) -> None:
    assert not returns_coroutine(function)
    demand_no_generator(function)


@pytest.mark.parametrize("function", [generator, async_generator, Generating(), functools.partial(generator)])
def test_a_generator_is_found_behind_partials_and_objects(function: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationProblem, match="is a generator, which runs after its call was judged"):
        demand_no_generator(function)


@pytest.mark.parametrize(
    "result", [None, "done", ["done"], {"done": 1}, range(3), plain, io.StringIO("done"), csv.reader([])]
)
def test_a_result_that_is_done_is_passed_on(result: object) -> None:
    assert demand_finished(plain, result) is result


class Mapped(map):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize(
    "unfinished",
    [
        coroutine,
        generator,
        async_generator,
        lambda: filter(None, [1]),
        lambda: Mapped(str, ()),
        lambda: zip(generator(), strict=True),
        lambda: enumerate(generator()),
        lambda: iter(plain, "never"),
        lambda: reversed([1]),
        lambda: itertools.starmap(plain, [()]),
        lambda: itertools.chain(generator()),
        lambda: itertools.tee(generator())[0],
    ],
)
def test_a_result_with_work_to_be_done_is_refused(unfinished: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationProblem, match=r"^plain returned a .*, whose work is still to be done"):
        demand_finished(plain, unfinished())
