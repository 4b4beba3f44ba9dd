"""What a resource cannot do by what it reports: decide what dies, or whether a revocation runs."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from capx.api.messages.resources import Reported
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.crypto.base64url import b64u, unb64u
from capx.store.records import DecisionRecord
from capx.tokens.bundle import Bundle
from capx.tokens.chain import node_below, root_node
from capx_caveats import budget

INVENTED = "AgICAgICAgI"
"""The nonce of a hop that nobody made."""


@pytest.fixture
def authority() -> Iterator[Authority]:
    with Authority.temporary() as made:
        yield made


def body(task: OpenedTask, path: list[str], labels: list[str], **facts: Any) -> dict[str, Any]:
    """A decision that a resource reports with a path and no nonces, which nobody can check."""
    return {
        "id": "A" * 21 + "Q",
        "at": 1,
        "outcome": "denied",
        "audience": "crm",
        "action": "crm.read",
        "task": task.id,
        "tenant": None,
        "intent": None,
        "root": task.root,
        "path": path,
        "hops": labels,
        "ids": [],
        "presentation": None,
        "spent": [],
        "reasons": [],
        **facts,
    }


def report(authority: Authority, decision: dict[str, Any]) -> None:
    """Record what a server would take."""
    msgspec.convert(decision, Reported)
    authority.store.record([DecisionRecord(decision["id"], decision["at"], msgspec.json.encode(decision))])


def node_of(bundle: Bundle) -> str:
    assert bundle.node is not None
    return b64u(bundle.node)


def root_of(task: OpenedTask) -> str:
    return b64u(root_node(task.root))


def killed(authority: Authority, **where: str) -> set[str]:
    return {one.key for one in authority.revoke(where=where).killed}


def test_a_decision_named_as_a_node_or_task_keeps_it_revocable(authority: Authority) -> None:
    task = authority.open(allow=["crm.*"])
    agent = task.bundle.delegate(to="agent")
    for id_ in (node_of(agent), task.id, root_of(task)):
        report(authority, body(task, [root_of(task)], [], id=id_))
    assert [one.key for one in authority.revoke(node_of(agent)).killed] == [node_of(agent)]
    assert [one.key for one in authority.revoke(task.id).killed] == [root_of(task)]


@pytest.mark.parametrize("claims", [True, False])
def test_a_rogue_does_not_hide_below_a_dead_sibling(authority: Authority, *, claims: bool) -> None:
    task = authority.open(allow=["crm.*"])
    rogue, sibling = task.bundle.delegate(to="rogue"), task.bundle.delegate(to="sibling")
    authority.revoke(node_of(sibling))
    hidden = [root_of(task), node_of(sibling), node_of(rogue)]
    facts = {} if claims else {"nonces": [INVENTED, INVENTED]}
    forged = body(task, hidden, ["sibling", "rogue"], **facts)
    if claims:
        report(authority, forged)
    else:
        with pytest.raises(msgspec.ValidationError, match="its path follows from its root and its nonces"):
            report(authority, forged)
        # As a process that shares the store could write it.
        authority.store.record([DecisionRecord(forged["id"], 1, msgspec.json.encode(forged))])
        report(authority, body(task, [root_of(task), node_of(rogue)], ["rogue"], id="d." + "B" * 21 + "Q"))
    drawn = {node.id: node.dead for node in authority.graph().nodes()}
    assert drawn[node_of(rogue)] is None
    # What is computed from the invented nonces dies too, and is nobody.
    assert len(killed(authority, agent="rogue") - {node_of(rogue)}) == (0 if claims else 1)
    with authority.store.read() as reading:
        assert reading.death(unb64u(node_of(rogue))) is not None


def test_what_is_dead_by_a_node_above_is_killed_by_itself(authority: Authority) -> None:
    task = authority.open(allow=["crm.*"])
    parent = task.bundle.delegate(to="parent")
    child = parent.delegate(to="child")
    path = [root_of(task), node_of(parent), node_of(child)]
    report(authority, body(task, path, ["parent", "child"]))
    authority.revoke(node_of(parent))
    assert killed(authority, agent="child") == {node_of(child)}
    assert killed(authority, agent="child") == set()


def test_a_label_on_a_root_widens_no_revocation(authority: Authority) -> None:
    victim, task = authority.open(allow=["crm.*"]), authority.open(allow=["crm.*"])
    agent = task.bundle.delegate(to="agent")
    for path in (
        [root_of(victim), root_of(victim)],
        [root_of(victim), b64u(node_below(root_node(victim.root), INVENTED)), root_of(victim)],
    ):
        report(authority, body(victim, path, ["agent"] * (len(path) - 1), id=f"d.{'C' * 20}{len(path)}Q"))
    report(authority, body(task, [root_of(task), node_of(agent)], ["agent"]))
    assert root_of(victim) not in killed(authority, agent="agent")


def test_a_report_makes_no_budget_of_the_authority_look_used_up(authority: Authority) -> None:
    task = authority.open(allow=["crm.*"], caveats=[budget("calls", 3)])
    spent = [{"counter": task.id, "unit": "calls", "cost": "1", "spent": "1", "limit": "0"}]
    report(authority, body(task, [root_of(task)], [], spent=spent))
    (shown,) = authority.graph(task.id).trees[0].budgets
    assert (shown.limit, shown.left) == ("3", "3")
