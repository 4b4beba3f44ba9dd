"""The stopwatch, the same for capx and for its peers.

Law: collection of garbage goes on as it does in any program; only what was left over from preparing is collected
before the watch starts.
"""

import gc
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
Step = Callable[[], object]
"""What is done again and again."""


def repeated(step: Step, count: int) -> float:
    """The seconds that so many steps take."""
    gc.collect()
    turns = range(count)
    start = time.perf_counter()
    for _ in turns:
        step()
    return time.perf_counter() - start


def each(step: Callable[[T], object], items: Iterable[T]) -> float:
    """The seconds that one step for each item takes."""
    things = list(items)
    gc.collect()
    start = time.perf_counter()
    for thing in things:
        step(thing)
    return time.perf_counter() - start
