"""A receipt is one event with its path: a C2SP tlog-proof with one spelling."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from capx.errors import InvalidRequest
from capx.ledger.base64_text import b64
from capx.proof import ProofBroken, Receipt, Trust, receipt
from capx.proof.receipts import LARGEST, check_receipt, said_of
from tests.labs.proving import ProofLab
from tests.proof.conftest import Told


@pytest.fixture
def kept(told: Told) -> Receipt:
    return receipt(told.lab.authority, told.lab.decisions[0].id)


def test_a_receipt_is_read_as_it_was_written(told: Told, kept: Receipt, tmp_path: Path) -> None:
    lines = kept.dump().decode().split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert lines[1].startswith("extra ")
    assert lines[2] == f"index {kept.event.position - 1}"
    kept.save(tmp_path / "r.tlog-proof")
    assert Receipt.load(tmp_path / "r.tlog-proof") == kept
    found = check_receipt(kept, told.trust)
    assert found.event.kind == "decision"
    assert told.lab.decisions[0].id.encode() in found.event.body


def test_any_other_byte_is_refused(told: Told, kept: Receipt) -> None:
    data = kept.dump()
    # Behind the note's own signatures, a witness may be an unknown one: it counts for nothing.
    signed = data.rindex(b"\n\n") + data[data.rindex(b"\n\n") + 2 :].index(b"\n") + 2
    for at in range(signed):
        made = bytearray(data)
        made[at] ^= 1
        with pytest.raises((InvalidRequest, ProofBroken)):
            check_receipt(Receipt.parse(bytes(made)), told.trust)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"c2sp.org/tlog-proof@v1\nindex 1\n\nnote",
        b"c2sp.org/tlog-proof@v1\nextra !\nindex 1\n\nnote",
        b"c2sp.org/tlog-proof@v1\nextra " + b64(b"{}").encode() + b"\nindex 1\n\nnote",
        b"x" * (LARGEST + 1),
    ],
)
def test_what_is_no_receipt_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        Receipt.parse(data)


def test_a_receipt_is_of_a_log_that_somebody_trusts(kept: Receipt) -> None:
    with pytest.raises(ProofBroken, match="no key that the trust file names"):
        check_receipt(kept, Trust())


def test_a_decision_that_is_not_there_has_no_receipt(lab: ProofLab) -> None:
    lab.started()
    with pytest.raises(InvalidRequest, match="is not in the log"):
        receipt(lab.authority, "d.AGsGroDsiCyyJPwyOg2dnQ")


def test_a_receipt_from_before_a_restoration_says_so(told: Told, kept: Receipt) -> None:
    found = check_receipt(kept, told.trust)
    origin, seconds = found.note.checkpoint.origin.split(".")
    older = replace(found.note.checkpoint, origin=f"{origin}.{int(seconds) - 1}")
    before = replace(found, note=replace(found.note, checkpoint=older))
    task = told.task.id
    assert said_of(before, told.report.sources, task, 1).sentence.endswith("it is in the proof")
    lost = replace(before, event=replace(found.event, hash=bytes(32)))
    said = said_of(lost, told.report.sources, task, 1)
    assert "its store was restored" in said.sentence
    assert said.contradiction is None
    strange = replace(found, note=replace(found.note, checkpoint=replace(older, origin="capx/other.1")))
    assert said_of(strange, told.report.sources, task, 1).contradiction is not None
