"""What a peer is, and how it is timed."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.bench.timing import Step, repeated

Asked = Mapping[str, Any]
"""A question from the bench: what is to be prepared, or run."""
Runs = dict[tuple[str, str], Callable[[Asked], float]]
"""By operation and contender: does it as often as asked, and gives the seconds."""

ARGUMENTS: Final = {"id": 42, "limit": 5}
REFUSED: Final = {"id": 42, "limit": 51}
ENVIRONMENT: Final = {"env": "prod"}


class Peer:
    """What one library does with a chain of one length, and the characters of what it sends to a resource."""

    def __init__(self, runs: Runs, sizes: Mapping[str, int]) -> None:
        self.runs = runs
        self.sizes = sizes


def steps(named: Mapping[tuple[str, str], Step]) -> Runs:
    """Runs that repeat a step."""

    def counted(step: Step) -> Callable[[Asked], float]:
        return lambda asked: repeated(step, asked["count"])

    return {name: counted(step) for name, step in named.items()}


def refused(step: Step, errors: type[Exception] | tuple[type[Exception], ...]) -> Callable[[], None]:
    """A step that must be refused, by one of these errors."""

    def one() -> None:
        try:
            step()
        except errors:
            return
        raise AssertionError("allowed what should be refused")

    return one
