"""What runs in full under `make nightly` only: what repeats, and tests that are marked `nightly`.

What only repeats runs a tenth as often in `make test`: ten times at least, or fewer where a round takes a second.

A count is repeated where each further round says the same with more confidence: made-up examples, kills at random
instants, inputs of a fuzzer, cases of a long enumeration. What says something of its own each time is never cut.
"""

import os
from collections.abc import Iterable
from typing import TypeVar

import pytest

T = TypeVar("T")

NIGHTLY = os.environ.get("NIGHTLY") == "1"
"""Whether everything is repeated in full: `NIGHTLY=1`, as `make nightly` sets it."""
FEWEST = 10
nightly = pytest.mark.skipif(not NIGHTLY, reason="it takes long: make nightly runs it")
"""Marks a test that takes ten seconds or more, and whose kind `make test` shows by a smaller one."""


def repeated(full: int, fewest: int = FEWEST) -> int:
    """How many of so many rounds are run."""
    return full if NIGHTLY else min(full, max(fewest, full // 10))


def sampled(cases: Iterable[T]) -> list[T]:
    """The cases of a long enumeration that are run: all of them, or each tenth from the first on."""
    every = list(cases)
    return every if NIGHTLY else every[:: max(1, len(every) // repeated(len(every)))]
