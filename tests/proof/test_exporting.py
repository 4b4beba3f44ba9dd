"""A proof is made of one task, by whoever has its log."""

import pytest

from capx.errors import InvalidRequest, UnknownTask
from capx.proof import export, merge
from tests.labs.proving import NOW, ProofLab, full_trust, read


def test_a_task_that_nobody_opened_has_no_proof(lab: ProofLab) -> None:
    with pytest.raises(UnknownTask):
        export(lab.authority, "A" * 22)


def test_a_part_belongs_to_its_task(lab: ProofLab) -> None:
    task, _ = lab.short()
    other, _ = lab.started()
    part = lab.ledger_part(other.id)
    whole = export(lab.authority, task.id, now=NOW)
    with pytest.raises(InvalidRequest, match="this part is of task"):
        merge(whole, part)
    with pytest.raises(InvalidRequest, match="only the parts of resources"):
        merge(whole, export(lab.authority, task.id, now=NOW))
    assert merge(whole) == whole
    assert len(merge(whole, lab.ledger_part(task.id)).sources) == 2


def test_only_decisions_of_the_task_are_disclosed(lab: ProofLab) -> None:
    task, planner = lab.started()
    _, other = lab.started()
    one, two = lab.call(planner, "crm.read", {"id": 1}), lab.call(other, "crm.read", {"id": 1})
    assert export(lab.authority, task.id, disclose={one.id: {"id": 1}}, now=NOW).disclosed[0].args == {"id": 1}
    with pytest.raises(InvalidRequest, match="the task has no decision"):
        export(lab.authority, task.id, disclose={two.id: {"id": 1}}, now=NOW)
    with pytest.raises(InvalidRequest, match="is not in the log, or commits to no arguments"):
        export(lab.authority, task.id, disclose={"d.x": {"id": 1}}, now=NOW)


def test_a_proof_goes_on_while_the_task_does(lab: ProofLab) -> None:
    task, planner = lab.started()
    counts: list[int] = []
    for _ in range(3):
        lab.call(planner, "crm.read")
        lab.authority.flush()
        counts.append(len(read(export(lab.authority, task.id, now=NOW), lab.trust()).decisions))
    assert counts == [1, 2, 3]
    assert read(export(lab.authority, task.id, now=NOW), lab.trust()).ended[-1].what == "the task expires at the latest"


def test_a_proof_holds_on_after_the_root_key_was_rotated(lab: ProofLab) -> None:
    task, _ = lab.short()
    made = export(lab.authority, task.id, parts=[lab.ledger_part(task.id)], now=NOW)
    assert read(made, full_trust(lab)).contradictions == ()
