"""Tells functions that return before their work is done: async functions and generators.

Law: whatever runs a function for somebody (as an agent, under a decision) runs it to its end, or refuses it. Unfinished
work would run later, as whoever acts then.
"""

import asyncio
import functools
import inspect
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import lru_cache
from itertools import chain, islice
from typing import Any, Final, TypeVar, cast

from capx.errors import ConfigurationProblem

R = TypeVar("R")

_LAZY: Final = frozenset({"builtins", "itertools"})
"""The modules whose iterators call functions only when somebody reads them. A file or a cursor is of another module."""
_SCALARS: Final = frozenset({str, int, float, bool, bytes, type(None)})
_DICT: Final[Any] = dict
_CONTAINERS: Final[tuple[Any, ...]] = (list, tuple, set, frozenset, deque)
_DECLARING: Final = ("__dataclass_fields__", "__struct_fields__", "__pydantic_fields__", "__attrs_attrs__")
"""Where classes declare their fields: of `dataclasses`, msgspec, pydantic and attrs."""
_MOST: Final = 2**16
"""The most values of a result that are looked at."""


def returns_coroutine(function: Callable[..., Any]) -> bool:
    """Whether a call of the function returns a coroutine; also for partial functions, and objects with `__call__`."""
    return any(map(inspect.iscoroutinefunction, _code_of(function)))


def demand_no_generator(function: Callable[..., Any]) -> None:
    """Raise ConfigurationProblem for a generator function or an async one."""
    if any(inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one) for one in _code_of(function)):
        raise ConfigurationProblem(
            f"{_name(function)} is a generator, which runs after its call was judged and has returned: return a list"
        )


def demand_finished(function: Callable[..., Any], result: R) -> R:
    """Return the result of a function; ConfigurationProblem if its work, or part of it, is still to be done.

    Known are awaitables, and the iterators of Python itself: generators, `map`, `zip`, `iter(…)`, `itertools`; also
    inside of dicts, lists, tuples, sets, deques, and objects that declare their fields, at any depth, among the first
    65 536 values. Unknown is what other objects hold, and an iterator of another module.
    """
    if type(result) in _SCALARS or not (unfinished := _unfinished(result)):
        return result
    for one in unfinished:
        # Out of the way: a coroutine that nobody awaits would warn, and a task would go on.
        if inspect.iscoroutine(one):
            one.close()
        elif isinstance(one, asyncio.Future):
            one.cancel()
    where = "" if unfinished[0] is result else f" in a {type(result).__name__}"
    raise ConfigurationProblem(
        f"{_name(function)} returned a {type(unfinished[0]).__name__}{where}, whose work is still to be done, as "
        "whoever acts then: make it an `async def` that awaits, or return a list"
    )


def _unfinished(result: object) -> list[Any]:
    seen: list[object] = [result]
    found: list[Any] = []
    # It grows meanwhile: near values are looked at before deep ones.
    for value in seen:
        kind: Any = type(value)
        if kind in _SCALARS:
            continue
        if (held := _reader(kind)) is None:
            found.append(value)
        else:
            seen += islice(held(value), _MOST - len(seen))
    return found


@lru_cache(maxsize=1024)
def _reader(kind: type[object]) -> Callable[[Any], Iterable[Any]] | None:
    """Return what reads the values that an object of this type holds; None if its work is still to be done."""
    if issubclass(kind, Awaitable) or _is_lazy(kind):
        return None
    # By the methods of the base types, because a subclass may have its own.
    if issubclass(kind, dict):
        return lambda value: chain(_DICT.keys(value), _DICT.values(value))
    for container in _CONTAINERS:
        if issubclass(kind, container):
            return cast("Callable[[Any], Iterable[Any]]", container.__iter__)
    declared: Iterable[Any] = next((names for mark in _DECLARING if (names := getattr(kind, mark, None))), ())
    # Only attrs declares objects that have a name, and not names.
    fields = [getattr(one, "name", one) for one in declared]
    return lambda value: [getattr(value, name, None) for name in fields]


def _is_lazy(kind: type[object]) -> bool:
    return any(base.__module__ in _LAZY and issubclass(base, (Iterator, AsyncIterator)) for base in kind.__mro__)


def _code_of(function: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The function that a call runs: behind partial functions; of an object, also its `__call__`."""
    while isinstance(function, functools.partial):
        function = function.func
    return function, type(function).__call__


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__name__)
