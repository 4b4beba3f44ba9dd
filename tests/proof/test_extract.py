"""An extract has all events of one log about a task, and no others."""

import shutil
from pathlib import Path

import msgspec
import pytest

from capx.crypto.agent_key import AgentKey
from capx.errors import InvalidRequest
from capx.ledger.ledger_file import LedgerFile, ledger_files
from capx.ledger.note_keys import LedgerKey
from capx.proof import export, extract_ledger
from tests.labs.ledgers import decisions
from tests.labs.proving import NOW, READER, ProofLab, full_trust, read


def test_an_extract_has_the_task_and_what_may_be_about_it(lab: ProofLab) -> None:
    before, _ = lab.started()
    lab.authority.revoke(key=READER.public)
    task, planner = lab.started()
    lab.call(planner, "crm.read")
    lab.authority.revoke(key=AgentKey.generate("x").public)
    other, _ = lab.started()
    lab.authority.complete(other.id)
    (source,) = export(lab.authority, task.id, now=NOW).sources
    kinds = [event.kind for event in source.events]
    assert kinds[0] == "task_opened"
    # The revocation before the task was opened is not about it; the one after it may be.
    assert kinds.count("revoked") == 1
    tasks = {msgspec.json.decode(event.body).get("task") for event in source.events}
    assert tasks == {task.id, None}
    assert before.id not in tasks


def test_a_ledger_gives_what_it_has_over_all_its_files(lab: ProofLab, tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl"
    task, body = lab.short()
    ledger = LedgerFile(path, lab.ledger_key, clock=lab.clock, rotate_at=4_000)
    records = decisions(60)
    for nth, record in enumerate(records):
        own = msgspec.structs.replace(record, body=msgspec.json.encode(body | {"id": f"d{nth}"}))
        ledger.record([own if nth % 3 == 0 else record])
    ledger.close()
    files = ledger_files(path)
    assert len(files) > 3
    part = extract_ledger(list(reversed(files)), lab.ledger_key, task.id, at=NOW)
    assert len(part.sources[0].events) == 20
    report = read(export(lab.authority, task.id, parts=[part], now=NOW), full_trust(lab))
    assert len(report.decisions) == 20
    with pytest.raises(InvalidRequest, match=r"the first file of this ledger is missing|does not fit"):
        extract_ledger(files[1:], lab.ledger_key, task.id, at=NOW)
    with pytest.raises(InvalidRequest, match="does not fit"):
        extract_ledger([files[0], *files[2:]], lab.ledger_key, task.id, at=NOW)


def test_a_ledger_that_does_not_fit_gives_nothing(lab: ProofLab, tmp_path: Path) -> None:
    task, _ = lab.short()
    (file,) = ledger_files(lab.folder / "slides.jsonl")
    copied = tmp_path / "slides-copy.jsonl"
    shutil.copy(file, copied)
    copied.write_text(copied.read_text().replace("slides.write", "slides.wrote"))
    with pytest.raises(InvalidRequest, match="does not fit"):
        extract_ledger([copied], lab.ledger_key, task.id, at=NOW)
    with pytest.raises(InvalidRequest, match="does not fit"):
        extract_ledger([file], LedgerKey.generate("capx-ledger/slides"), task.id, at=NOW)
    (tmp_path / "none").write_text("nothing\n")
    with pytest.raises(InvalidRequest, match="is no ledger"):
        extract_ledger([tmp_path / "none"], lab.ledger_key, task.id, at=NOW)


def test_a_ledger_without_the_task_says_so(lab: ProofLab) -> None:
    lab.short()
    task, _ = lab.started()
    part = lab.ledger_part(task.id)
    assert part.sources[0].events == ()
    report = read(export(lab.authority, task.id, parts=[part], now=NOW), full_trust(lab))
    assert report.contradictions == ()
    assert any("these 0 events are all that it has about the task" in one for one in report.signed)
