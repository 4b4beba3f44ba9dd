"""The rows about the work, the revocation, the completion, and what the authority remembers."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from capx import AgentKey, Bundle, MalformedToken
from capx.authority.graph.graph import Tree
from capx.crypto.sealed import is_sealed
from capx.errors import BrokenLog
from capx.store import log
from capx.store.log import Event, Place
from capx_cli.demo.data import ACCOUNTS, CREDIT, INFLATED, SERVICES, expected_deck
from capx_cli.demo.row import Row, refused, served
from capx_cli.demo.side import Probe, Side

SOON = 5.0
"""Seconds within which every service must deny calls of a completed task, even on a busy machine."""


def of_work(side: Side, export: Mapping[str, Any]) -> list[Row]:
    """Make the rows about the work and the attack on one side."""
    stolen = side.name == "session"
    slides, records = len(expected_deck()), len(ACCOUNTS)
    received = side.received()
    wanted = f"200, {records} records" if stolen else "403 action_not_allowed at hop 1"
    return [
        Row(side.name, "the review is finished", f"{slides} of {slides} slides, published", side.deck()),
        Row(side.name, "sub-agent exports the CRM", wanted, _exported(export)),
        Row(
            side.name,
            "records at the attacker's sink",
            f"{records if stolen else 0} of {records}; 1 request came",
            f"{received['records']} of {records}; {received['requests']} request came",
        ),
        Row(
            side.name,
            "hand-over in files that all may read",
            f"{2 if stolen else 0} of 2 show a token",
            f"{sum(map(shows_a_token, side.handed()))} of {len(side.handed())} show a token",
        ),
        Row(
            side.name,
            "credits in the CRM",
            _dollars([CREDIT, INFLATED, CREDIT] if stolen else [CREDIT]),
            _dollars(side.credits()),
        ),
    ]


def of_revocation(before: Mapping[str, Probe], after: Mapping[str, Probe]) -> list[Row]:
    """Make the rows about what each agent could do before and after presentation-agent was revoked."""
    each = len(SERVICES)
    dead, alive = f"{each} of {each} refused: revoked", f"{each} of {each} served"
    return [
        Row("execution", "all agents, before the revocation", "16 of 16 served", served(before.values())),
        Row("execution", "presentation-agent, revoked", dead, _of(after, "presentation-agent", "revoked")),
        Row("execution", "proofreader, below it", dead, _of(after, "proofreader", "revoked")),
        Row("execution", "notes-agent, beside it", alive, _of(after, "notes-agent", None)),
    ]


def of_completion(took: Mapping[str, float], ended: Mapping[str, Mapping[str, Probe]]) -> list[Row]:
    """Make the rows about the completion; `took` is the seconds until each service denied calls of the task."""
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
    """Make the rows about what the authority knows afterwards."""
    return [
        Row("execution", "the graph", "2 agents revoked, 2 agents task_completed", _deaths(tree)),
        Row(
            "execution",
            "the denial in the log",
            "denied crm.export by presentation-agent",
            f"{denial.get('outcome')} {denial.get('action')} by {' '.join(denial.get('hops', ())[-1:])}",
        ),
        Row(
            "execution", "the log, each entry bound to the last", f"{len(events)} entries fit", _unbroken(events, head)
        ),
    ]


def shows_a_token(text: str) -> bool:
    """Whether somebody with a key of their own finds a token in a text that was left for another agent."""
    try:
        return not is_sealed(text) or bool(Bundle.unseal(text, AgentKey.generate("thief")))
    except MalformedToken:
        return False


def _dollars(credits_: Iterable[int]) -> str:
    return ", ".join(f"${one}" for one in credits_)


def _of(probes: Mapping[str, Probe], name: str, code: str | None) -> str:
    mine = [probe for agent, probe in probes.items() if agent == name]
    return served(mine) if code is None else refused(mine, code)


def _exported(event: Mapping[str, Any]) -> str:
    """Return the outcome of the export, and the hops whose restriction denied it."""
    problem: dict[str, Any] = event.get("problem", {})
    if not problem:
        return f"{event.get('status')}, {event.get('records')} records"
    # Hop 0 is the authority's grant, and not a delegation.
    hops = [f"hop {reason['hop']}" for reason in problem.get("reasons", ()) if reason["hop"]]
    return f"{event['status']} {problem.get('code')} at {', '.join(hops) or 'no hop'}"


def _deaths(tree: Tree) -> str:
    """Count the nodes of a task by the reason for which they are dead."""
    deaths = sorted(Counter(node.dead or "alive" for node in tree.node.walk()).items())
    return ", ".join(f"{count} agents {dead}" for dead, count in deaths)


def _unbroken(events: Iterable[Event], head: Place) -> str:
    """Say up to which entry the log is intact."""
    try:
        return f"{log.check(events, head=head).position} entries fit"
    except BrokenLog as broken:
        return f"broken at entry {broken.position}"
