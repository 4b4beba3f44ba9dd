"""Tells functions that return before their work is done: async functions and generators.

Law: whatever runs a function for somebody (as an agent, under a decision) runs it to its end, or refuses it. Unfinished
work would run later, as whoever acts then.
"""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, TypeVar

from capx.errors import ConfigurationProblem

R = TypeVar("R")

_LAZY: Final = frozenset({"builtins", "itertools"})
"""The modules whose iterators call functions only when somebody reads them. A file or a cursor is of another module."""


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
    """Return the result of a function; ConfigurationProblem if its work is still to be done.

    Known are awaitables, and the iterators of Python itself: generators, `map`, `zip`, `iter(…)`, `itertools`. Unknown
    is what holds one of them, such as a list of coroutines or an iterator of another module.
    """
    found: object = result
    # Out of the way: a coroutine that nobody awaits would warn, and a task would go on.
    if inspect.iscoroutine(found):
        found.close()
    elif isinstance(found, asyncio.Future):
        found.cancel()
    elif not (inspect.isawaitable(found) or _is_lazy(found)):
        return result
    raise ConfigurationProblem(
        f"{_name(function)} returned a {type(result).__name__}, whose work is still to be done, as whoever acts then: "
        "make it an `async def` that awaits, or return a list"
    )


def _is_lazy(found: object) -> bool:
    return any(kind.__module__ in _LAZY and issubclass(kind, (Iterator, AsyncIterator)) for kind in type(found).__mro__)


def _code_of(function: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The function that a call runs: behind partial functions; of an object, also its `__call__`."""
    while isinstance(function, functools.partial):
        function = function.func
    return function, type(function).__call__


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__name__)
