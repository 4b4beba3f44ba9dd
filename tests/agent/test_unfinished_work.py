"""Functions whose calls return before their work is done, and what they return."""

import asyncio
import csv
import dataclasses
import functools
import io
import itertools
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any, NamedTuple

import attrs
import msgspec
import pydantic
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
    named = "^(generator|async_generator|Generating|partial)"
    with pytest.raises(ConfigurationProblem, match=f"{named} is a generator, which runs after its call was judged"):
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
    work = unfinished()
    with pytest.raises(ConfigurationProblem, match=f"^plain returned a {type(work).__name__}, whose work is still to"):
        demand_finished(plain, work)


@dataclasses.dataclass
class Report:
    """A result of a function."""

    title: str
    parts: object = None


@dataclasses.dataclass(slots=True)
class Slotted:
    parts: object


class Struct(msgspec.Struct):
    parts: object


class Model(pydantic.BaseModel):
    parts: Any


@attrs.define
class Attrs:
    parts: object


class Named(NamedTuple):
    parts: object


class Own(list[Any]):
    """A list that reads otherwise than it is."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())


HOLDERS: list[Callable[[Any], object]] = [
    lambda work: [work], lambda work: (1, work), lambda work: {work}, lambda work: frozenset({work}),
    lambda work: deque([work]), lambda work: {"a": work}, lambda work: {work: "a"},
    lambda work: OrderedDict([("a", work)]),
    lambda work: Report("a", work), Slotted, Struct, lambda work: Model(parts=work), Attrs, Named,
    lambda work: Own([work]), lambda work: [[[{"a": (Report("a", [work]),)}]]], lambda work: [*range(5000), work],
]  # fmt: skip


@pytest.mark.parametrize("held_in", HOLDERS)
@pytest.mark.parametrize("made", [coroutine, generator, async_generator])
def test_work_inside_of_a_result_is_refused(held_in: Callable[[Any], object], made: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationProblem, match=r"^plain returned a \w+ in a \w+, whose work is still to be done"):
        demand_finished(plain, held_in(made()))


async def test_all_work_inside_of_a_result_ends() -> None:
    started: list[str] = []

    async def work() -> None:
        started.append("started")

    tasks, coroutines = [asyncio.create_task(work()) for _ in range(3)], [work() for _ in range(3)]
    with pytest.raises(ConfigurationProblem, match="returned a Task in a dict"):
        demand_finished(plain, {"tasks": tasks, "coroutines": coroutines})
    await asyncio.sleep(0)
    assert all(one.cancelled() for one in tasks)
    assert started == []


def test_a_result_that_holds_itself_or_much_is_passed_on() -> None:
    loop: list[Any] = []
    loop.append(loop)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for result in (loop, deep, [[0] * 1000] * 1000, Report("a"), Model(parts={"a": [1]}), Report, Model):
        assert demand_finished(plain, result) is result
