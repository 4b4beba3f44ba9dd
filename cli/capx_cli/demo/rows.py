"""The rows that the demo ends with: what was to happen, beside what did.

Laws: what happened is measured. A row that differs from what was expected makes the demo fail.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from capx import log
from capx.graph import Tree
from capx.log import BrokenLog, Event, Place
from capx_cli.demo.data import ACCOUNTS, SERVICES, expected_deck
from capx_cli.demo.side import Probe, Side

SOON = 5.0
"""Seconds within which every service is to refuse a task that was completed, however busy the machine."""


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


def of_work(side: Side, export: Mapping[str, Any]) -> list[Row]:
    """What came of the work, and of the attack, on one side."""
    stolen = side.name == "session"
    slides, records = len(expected_deck()), len(ACCOUNTS)
    received = side.received()
    wanted = f"200, {records} records" if stolen else "403 action_not_allowed at hop 1 (presentation-agent)"
    return [
        Row(side.name, "the review is finished", f"{slides} of {slides} slides", side.deck()),
        Row(side.name, "the sub-agent exports the CRM", wanted, _exported(export)),
        Row(
            side.name,
            "records at the attacker's sink",
            f"{records if stolen else 0} of {records}, in 1 request",
            f"{received['records']} of {records}, in {received['requests']} request",
        ),
    ]


def of_revocation(before: Mapping[str, Probe], after: Mapping[str, Probe]) -> list[Row]:
    """What each agent could still do after presentation-agent was revoked."""
    each = len(SERVICES)
    dead, alive = f"{each} of {each} refused: revoked", f"{each} of {each} served"
    return [
        Row("execution", "all agents, before the revocation", "16 of 16 served", served(before.values())),
        Row("execution", "presentation-agent, revoked", dead, _of(after, "presentation-agent", "revoked")),
        Row("execution", "proofreader, below it", dead, _of(after, "proofreader", "revoked")),
        Row("execution", "notes-agent, beside it", alive, _of(after, "notes-agent", None)),
    ]


def of_completion(took: Mapping[str, float], ended: Mapping[str, Mapping[str, Probe]]) -> list[Row]:
    """How soon, in seconds by service, and what the completion of the task refused."""
    services = len(SERVICES)
    soon = sum(seconds <= SOON for seconds in took.values())
    return [
        Row(
            "execution",
            "services refuse the completed task",
            f"within {SOON:g} s at {services} of {services}",
            f"within {SOON:g} s at {soon} of {len(took)}",
            f"slowest {max(took.values()) * 1000:.0f} ms",
        ),
        Row(
            "execution",
            "all agents, after the completion",
            "16 of 16 refused: task_completed",
            refused(ended["execution"].values(), "task_completed"),
        ),
        Row(
            "session",
            "all agents, after the work",
            "16 of 16 served",
            served(ended["session"].values()),
            "until someone remembers to revoke it",
        ),
    ]


def of_memory(tree: Tree, events: list[Event], head: Place, denial: Mapping[str, Any]) -> list[Row]:
    """What the authority knows afterwards."""
    return [
        Row(
            "execution",
            "the graph",
            "root: task_completed, presentation-agent: revoked, proofreader: revoked, notes-agent: task_completed",
            _deaths(tree),
        ),
        Row(
            "execution",
            "the denial in the log",
            "denied crm.export by presentation-agent",
            f"{denial.get('outcome')} {denial.get('action')} by {' '.join(denial.get('hops', ())[-1:])}",
        ),
        Row(
            "execution",
            "the log, each entry bound to the last",
            f"{len(events)} entries fit",
            _unbroken(events, head),
        ),
    ]


def _of(probes: Mapping[str, Probe], name: str, code: str | None) -> str:
    mine = [probe for agent, probe in probes.items() if agent == name]
    return served(mine) if code is None else refused(mine, code)


def _exported(event: Mapping[str, Any]) -> str:
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


def _deaths(tree: Tree) -> str:
    """Say how each node of a task died, by its label."""
    return ", ".join(f"{node.label or 'root'}: {node.dead or 'alive'}" for node in tree.node.walk())


def _unbroken(events: Iterable[Event], head: Place) -> str:
    """Say up to which entry the log is as it was written."""
    try:
        return f"{log.check(events, head=head).position} entries fit"
    except BrokenLog as broken:
        return f"broken at entry {broken.position}"


def _calls(probes: Iterable[Probe]) -> Iterator[list[str]]:
    for probe in probes:
        yield from probe.refused.values()
