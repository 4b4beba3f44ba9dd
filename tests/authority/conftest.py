"""An authority whose clock a test sets."""

from collections.abc import Iterator

import pytest

from capx.authority.authority import Authority
from tests.labs.timed_authority import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority(clock: Clock) -> Iterator[Authority]:
    with Authority.temporary(clock=clock) as made:
        yield made


@pytest.fixture
def lab() -> Iterator[Authority]:
    """An authority by the real clock, for what is presented."""
    with Authority.temporary() as made:
        yield made
