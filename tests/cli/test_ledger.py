"""The ledger of a service without a store, from the command line."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from capx.ledger.ledger_file import LedgerFile
from capx.ledger.note_keys import LedgerKey
from tests.cli.conftest import Shell
from tests.labs.commands import COMMAND
from tests.labs.ledgers import decision, decisions
from tests.labs.waiting import until


@pytest.fixture
def key(capx: Shell, tmp_path: Path) -> str:
    said = capx("ledger", "new-key", "crm", "--key-file", str(tmp_path / "l.key"))
    assert "a secret, only for crm" in said.err
    return said.out.strip()


@pytest.fixture
def file(key: str, tmp_path: Path) -> Path:
    assert key.startswith("capx-ledger/crm+")
    ledger = LedgerFile(tmp_path / "crm.jsonl", LedgerKey.load(tmp_path / "l.key"))
    ledger.record(decisions(1_200))
    ledger.close()
    return tmp_path / "crm.jsonl"


def test_a_whole_ledger_is_told_to_be_whole(capx: Shell, key: str, file: Path) -> None:
    said = capx("ledger", "verify", str(file), "--key", key).out
    assert said.endswith(": entries 1 to 1200, whole, under 2 notes\n")
    (told,) = capx("ledger", "verify", str(file), "--key", key, "--json").json
    assert (told["whole"], told["last"], told["unsigned"], told["faults"]) == (True, 1200, 0, [])


def test_what_was_edited_is_located(capx: Shell, key: str, file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:700], lines[700].replace(b"allowed", b"denied"), *lines[701:]]))
    said = capx("ledger", "verify", str(file), "--key", key, code=1)
    assert f"{file}, line 701, entry 700: its hash does not fit" in said.out
    (told,) = capx("ledger", "verify", str(file), "--key", key, "--json", code=1).json
    assert (told["whole"], told["faults"][0]["line"], told["faults"][0]["entry"]) == (False, 701, 700)


def test_a_tail_without_a_note_is_told(capx: Shell, key: str, file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-100]))
    said = capx("ledger", "verify", str(file), "--key", key).out
    assert "the last 101 stand under no note" in said


def test_a_key_of_somebody_else_is_none(capx: Shell, key: str, file: Path, tmp_path: Path) -> None:
    other = capx("ledger", "new-key", "crm", "--key-file", str(tmp_path / "other.key")).out.strip()
    assert other != key
    said = capx("ledger", "verify", str(file), "--key", other, code=1).out
    assert "no known key of this ledger has signed the note" in said


def test_what_is_no_ledger_is_told(capx: Shell, key: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("{}\n")
    assert "is no ledger" in capx("ledger", "verify", str(tmp_path / "x"), "--key", key, code=3).err
    assert "is not an audience" in capx("ledger", "new-key", "C R M", "--key-file", str(tmp_path / "k"), code=2).err


def test_the_last_entries_are_shown(capx: Shell, key: str, tmp_path: Path) -> None:
    ledger = LedgerFile(tmp_path / "crm.jsonl", LedgerKey.load(tmp_path / "l.key"))
    made = [decision() for _ in range(3)]
    for one in made:
        ledger.record([type(decisions(1)[0])(one.id, one.at, json.dumps(one.body(), separators=(",", ":")).encode())])
    lines = capx("ledger", "tail", str(tmp_path / "crm.jsonl"), "--limit", "2").out.splitlines()
    assert [one.id in line for one, line in zip(made[1:], lines, strict=True)] == [True, True]
    told = capx("ledger", "tail", str(tmp_path / "crm.jsonl"), "--json").out.splitlines()
    assert [json.loads(line)["facts"]["id"] for line in told] == [one.id for one in made]
    ledger.close()


def test_a_ledger_is_followed_until_ctrl_c(capx: Shell, key: str, tmp_path: Path) -> None:
    ledger = LedgerFile(tmp_path / "crm.jsonl", LedgerKey.load(tmp_path / "l.key"))
    out = tmp_path / "out"
    with out.open("wb") as to:
        command = (*COMMAND, "ledger", "tail", str(tmp_path / "crm.jsonl"), "--follow", "--json")
        with subprocess.Popen(command, stdout=to, env=capx.unmeasured) as child:
            for nth in range(3):
                ledger.record(decisions(1, nth))
                until(lambda nth=nth: f'"d{nth}"' in out.read_text())  # type: ignore[misc]
            child.send_signal(signal.SIGINT)
            assert child.wait(30) == 0
    ledger.close()
