"""When so many calls of one task were denied within a minute that somebody should know.

Laws:

- A task makes at most one notice a minute. The memory is bounded, however many tasks are denied.
- Times are those of the events, and a service writes those of its decisions. So a time ahead of the others hides no
  later denial, and the count is what services say.
"""

from collections import deque
from typing import Final

MINUTE: Final = 60
"""Seconds within which denials count together."""
MOST_TASKS: Final = 10_000
"""The most tasks whose denials are counted at once."""


class Denials:
    """Counts the denials of each task; `many` of them within a minute are worth a notice."""

    def __init__(self, many: int) -> None:
        self._many = many
        self._times: dict[str, deque[int]] = {}
        self._told: dict[str, int] = {}

    def count(self, task: str, at: int) -> bool:
        """Count one denial at `at` (Unix seconds), and say whether this one makes a notice."""
        # Taken out and put back: the first task in the order is the one that was denied longest ago.
        times = self._times.pop(task, None) or deque[int](maxlen=self._many)
        times.append(at)
        self._times[task] = times
        if len(self._times) > MOST_TASKS:
            forgotten = next(iter(self._times))
            del self._times[forgotten]
            self._told.pop(forgotten, None)
        if len(times) < self._many or any(abs(at - one) >= MINUTE for one in (min(times), max(times))):
            return False
        told = self._told.get(task)
        if told is not None and abs(at - told) < MINUTE:
            return False
        self._told[task] = at
        return True
