"""The rows that the demo ends with: what was to happen, beside what did.

Laws: what happened is measured. A row that differs from what was expected makes the demo fail.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from capx import log
from capx.graph import Tree
from capx.log import BrokenLog, Event, Mark
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


def export(event: Mapping[str, Any]) -> str:
    """Say what became of the export, and whose restriction refused it."""
    problem: dict[str, Any] = event.get("problem", {})
    if not problem:
        return f"{event.get('status')}, {event.get('records')} records"
    hops = [f"hop {reason['hop']} ({reason['hop_name']})" for reason in problem.get("reasons", ()) if reason["hop"]]
    return f"{event['status']} {problem.get('code')} at {', '.join(hops) or 'no hop'}"


def served(probes: Iterable[Probe]) -> str:
    """Count the calls that were served."""
    calls = list(_calls(probes))
    return f"{sum(not codes for codes in calls)} of {len(calls)} served"


def refused(probes: Iterable[Probe], code: str) -> str:
    """Count the calls that were refused for this reason."""
    calls = list(_calls(probes))
    return f"{sum(code in codes for codes in calls)} of {len(calls)} refused: {code}"


def deaths(tree: Tree) -> str:
    """Say how each node of a task died, by its label."""
    return ", ".join(f"{node.label or 'root'}: {node.dead or 'alive'}" for node in tree.node.walk())


def unbroken(events: Iterable[Event], head: Mark) -> str:
    """Say up to which entry the log is as it was written."""
    try:
        return f"{log.check(events, head=head).position} entries fit"
    except BrokenLog as broken:
        return f"broken at entry {broken.position}"


def _calls(probes: Iterable[Probe]) -> Iterator[list[str]]:
    for probe in probes:
        yield from probe.refused.values()
