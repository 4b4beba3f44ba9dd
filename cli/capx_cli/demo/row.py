"""A row of the demo's result: what was expected, beside what happened.

Law: what happened is measured. A row that differs from what was expected makes the demo fail.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from capx_cli.demo.side import Probe


class Row(NamedTuple):
    """One measurement; `note` says more and is not compared."""

    side: str
    what: str
    expected: str
    happened: str
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether it happened as expected."""
        return self.expected == self.happened

    def body(self) -> dict[str, Any]:
        """The row as JSON values."""
        return {**self._asdict(), "ok": self.ok}


def served(probes: Iterable[Probe]) -> str:
    """Count the calls that were served."""
    calls = list(_calls(probes))
    return f"{sum(not codes for codes in calls)} of {len(calls)} served"


def refused(probes: Iterable[Probe], code: str) -> str:
    """Count the calls that were refused for this reason."""
    calls = list(_calls(probes))
    return f"{sum(code in codes for codes in calls)} of {len(calls)} refused: {code}"


def _calls(probes: Iterable[Probe]) -> Iterator[list[str]]:
    for probe in probes:
        yield from probe.refused.values()
