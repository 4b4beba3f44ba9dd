"""When a service has denied so many calls of one task within a minute that somebody should know.

Laws:

- A task makes at most one notice a minute of the clock here, whatever services say. The memory is bounded, however many
  tasks are denied.
- Times are those of the events, and a service writes those of its decisions. A time that is not within a minute of the
  clock here does not count. What one service says neither adds to the denials of another nor hides them.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

MINUTE: Final = 60
"""Seconds within which denials count together."""
MOST_TASKS: Final = 10_000
"""The most pairs of a task and a service whose denials are counted at once."""


class Denials:
    """Counts the denials of each task by each service; `many` of them within a minute are worth a notice."""

    def __init__(self, many: int, clock: Callable[[], float] = time.time) -> None:
        self._many = many
        self._clock = clock
        self._times: dict[tuple[str, str | None], deque[int]] = {}
        self._told: dict[str, float] = {}

    def count(self, task: str, audience: str | None, at: int) -> bool:
        """Count one denial at `at` (Unix seconds), and say whether this one makes a notice."""
        now = self._clock()
        if abs(now - at) >= MINUTE:
            return False
        # Taken out and put back: the first pair in the order is the one that was denied longest ago.
        pair = task, audience
        times = self._times.pop(pair, None) or deque[int](maxlen=self._many)
        times.append(at)
        self._times[pair] = times
        if len(self._times) > MOST_TASKS:
            del self._times[next(iter(self._times))]
        if len(times) < self._many or any(abs(at - one) >= MINUTE for one in (min(times), max(times))):
            return False
        return self._tells(task, now)

    def _tells(self, task: str, now: float) -> bool:
        told = self._told.get(task)
        if told is not None and abs(now - told) < MINUTE:
            return False
        self._told.pop(task, None)
        self._told[task] = now
        if len(self._told) > MOST_TASKS:
            del self._told[next(iter(self._told))]
        return True
