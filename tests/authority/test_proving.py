"""An authority gives to a proof what people signed in the task, and discloses only what was decided."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from capx.errors import InvalidRequest, UnknownTask
from tests.labs.proving import ProofLab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ProofLab]:
    made = ProofLab(tmp_path)
    yield made
    made.close()


def test_what_people_signed_is_there(lab: ProofLab) -> None:
    task, planner = lab.started()
    signed = lab.authority.proof_parts(task.id)
    assert signed.intent is not None
    assert signed.intent.document["principal"] == "ana"
    assert (signed.requests, signed.approvals) == ((), ())
    lab.decide(lab.pending(planner, "billing.refund", {"amount": 40}).request)
    (answer,) = lab.authority.proof_parts(task.id).requests
    assert (answer.approver, answer.yes) == ("bob", True)
    with pytest.raises(UnknownTask):
        lab.authority.proof_parts("A" * 22)


def test_a_disclosure_is_of_what_was_decided(lab: ProofLab) -> None:
    _, planner = lab.started()
    decided = lab.call(planner, "crm.read", {"id": 1, "n": 0.5})
    assert lab.authority.disclosure(decided.id, {"n": 0.5, "id": 1}).args == {"id": 1, "n": 0.5}
    for args in ({"id": 1}, {"id": 1, "n": 0.25}, {"id": 1, "n": float("nan")}, {}):
        with pytest.raises(InvalidRequest):
            lab.authority.disclosure(decided.id, args)
    with pytest.raises(InvalidRequest, match="is not in the log"):
        lab.authority.disclosure("d.AGsGroDsiCyyJPwyOg2dnQ", {})


def test_a_decision_without_evidence_discloses_nothing(lab: ProofLab) -> None:
    _, planner = lab.started()
    decided = lab.call(planner, "crm.read", {"id": 1}, verifier=lab.authority.verifier("crm", evidence=False))
    with pytest.raises(InvalidRequest, match="commits to no arguments"):
        lab.authority.disclosure(decided.id, {"id": 1})


def test_an_extract_is_signed_with_a_key_of_checkpoints(lab: ProofLab) -> None:
    from capx.crypto.ed25519 import is_signed

    lab.started()
    message = bytes(range(32))
    signature = lab.authority.sign_extract(message)
    assert any(is_signed(key.public, message, signature) for key in lab.authority.checkpoints.public_keys())
    assert lab.authority.sign_checkpoint() == lab.authority.checkpoints.make()
