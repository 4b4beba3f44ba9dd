"""The execution graph is what the chains say; who is named by a key is told from who claims a label."""

from capx.proof import export
from tests.labs.proving import NOW, PLANNER, READER, ProofLab, read
from tests.proof.conftest import Told


def test_each_node_has_its_agent_and_what_it_could_do(told: Told) -> None:
    root, reader = told.report.nodes
    assert (root.label, root.above, root.key) == ("task", None, PLANNER.public)
    assert (reader.label, reader.above, reader.key) == ("reader", root.id, READER.public)
    assert (reader.allowed, reader.denied) == (2, 1)
    assert reader.may[0] == "crm: crm.read"
    assert "billing: billing.refund where amount is 40" in root.may


def test_a_node_that_never_called_is_not_known(lab: ProofLab) -> None:
    task, planner = lab.started()
    quiet = planner.delegate(to="reader", to_key=READER, now=NOW).with_key(READER)
    quiet.delegate(to="writer", to_key=PLANNER.public, now=NOW)
    lab.call(quiet, "crm.read")
    lab.authority.flush()
    nodes = read(export(lab.authority, task.id, now=NOW), lab.trust()).nodes
    assert [one.label for one in nodes] == ["task", "reader"]


def test_labels_of_bearers_have_no_key(lab: ProofLab) -> None:
    task, bundle = lab.started(agent_key=None)
    deep = bundle
    for nth in range(5):
        deep = deep.delegate(to=f"agent-{nth}", now=NOW)
    lab.call(deep, "crm.read")
    lab.authority.flush()
    nodes = read(export(lab.authority, task.id, now=NOW), lab.trust()).nodes
    assert [one.label for one in nodes] == ["task", *(f"agent-{nth}" for nth in range(5))]
    assert [one.above for one in nodes[1:]] == [one.id for one in nodes[:-1]]
    assert {one.key for one in nodes} == {None}
