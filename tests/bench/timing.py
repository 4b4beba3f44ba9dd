"""The stopwatch, the same for capx and for its peers.

Laws: what counts is the time of the processor, so that other programs on the machine do not show; where a disk may be
waited for, it is the clock on the wall. Collection of garbage goes on as it does in any program; only what was left
over from preparing is collected before the watch starts.
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
    start = time.process_time()
    for _ in turns:
        step()
    return time.process_time() - start


def each(step: Callable[[T], object], items: Iterable[T], watch: Callable[[], float] = time.process_time) -> float:
    """The seconds that one step for each item takes."""
    things = list(items)
    gc.collect()
    start = watch()
    for thing in things:
        step(thing)
    return watch() - start
