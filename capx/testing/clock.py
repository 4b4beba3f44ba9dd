"""A clock that stands still until a test moves it, and the modules of the agent's side that go by it.

Law: the authority and its verifiers are given their clock, but whoever holds tokens reads `time`. So the clock takes
the place of `time` in each module of READ_BY_HOLDERS. Waits do not go by it: they are real.
"""

import time
from typing import Any, Final

from capx.crypto.instants import seconds

READ_BY_HOLDERS: Final = ("capx.agent.presented_call", "capx.api.problems", "capx.crypto.instants")
"""The modules in which whoever holds tokens reads what time it is."""


class Clock:
    """Stands still at a whole second, `now` (Unix seconds), which is the present one at first."""

    def __init__(self) -> None:
        self.now = int(time.time())

    def __call__(self) -> float:
        """Return Unix seconds, as `time.time` does."""
        return float(self.now)

    def move(self, by: float) -> None:
        """Move on by so many seconds: from now on it is later, for everything that goes by this clock."""
        self.now += int(seconds("by", by))


class StoppedTime:
    """Stands for the module `time` in another module: only `time.time` goes by the clock."""

    def __init__(self, clock: Clock) -> None:
        self.time = clock

    def __getattr__(self, name: str) -> Any:
        """Everything else is that of the real module."""
        return getattr(time, name)
