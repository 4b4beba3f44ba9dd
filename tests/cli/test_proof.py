"""A task is proven at the command line: exported, merged, verified elsewhere, shown, and refuted."""

import json
from pathlib import Path
from typing import Any

import pytest

from capx.authority.authority import Authority
from capx.crypto.agent_key import AgentKey
from capx.ledger.ledger_file import LedgerFile
from capx.ledger.note_keys import LedgerKey
from capx.resource.recorder import StoreRecorder
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx_caveats import Call
from tests.cli.conftest import Shell, first


class Proven:
    """A task of which there is a proof, and a trust file, elsewhere than its home."""

    def __init__(self, home: Shell, folder: Path) -> None:
        self.home = home
        self.token = home("task", "open", "--tenant", "Acme", "--allow", "crm.read", "--allow", "slides.write").token
        self.task = first(self.token).task or ""
        self.decided = home.decide(self.token, "crm.read", "Acme", id=7)
        home.decide(self.token, "crm.export", "Acme")
        self.file, self.trust = folder / "qbr.proof", folder / "trust.keys"
        self.trust.write_text(home("proof", "trust").out)
        self.elsewhere = Shell(folder / "elsewhere")

    def verify(self, *args: str, code: int = 0) -> Any:
        return self.elsewhere("proof", "verify", str(self.file), "--trust", str(self.trust), *args, code=code)


@pytest.fixture
def proven(home: Shell, tmp_path: Path) -> Proven:
    made = Proven(home, tmp_path)
    home("proof", "export", "last", "--out", str(made.file))
    return made


def test_a_proof_is_verified_elsewhere(proven: Proven) -> None:
    said = proven.verify()
    assert f"task {proven.task}: consistent, unaltered since it was signed" in said.out
    assert "nobody's intent is behind it" in said.out
    facts = proven.verify("--json").json
    assert facts["result"] == "consistent"
    assert [one["outcome"] for one in facts["decisions"]] == ["allowed", "denied"]
    assert proven.file.stat().st_mode & 0o077 == 0


def test_a_changed_proof_is_broken_at_a_place(proven: Proven) -> None:
    text = proven.file.read_text()
    proven.file.write_text(text.replace("crm.export", "crm.import"))
    said = proven.verify(code=1)
    assert said.out.startswith("BROKEN: event ")
    assert "is not in the log that was signed: it was changed, or its path" in said.out
    assert proven.verify("--json", code=1).json["result"] == "broken"
    proven.file.write_text(text[:-10])
    assert "is no proof: capx proof export writes one" in proven.verify(code=3).err
    proven.file.write_text("")
    proven.verify(code=3)


def test_a_trust_file_that_is_none_is_refused(proven: Proven) -> None:
    proven.trust.write_text("trust me\n")
    assert "line 1 of the trust file is none" in proven.verify(code=3).err
    proven.trust.write_text("")
    assert "names no authority, or no log" in proven.verify(code=3).err
    proven.trust.unlink()
    assert "cannot read the trust file" in proven.verify(code=3).err


def test_what_would_show_more_is_listed_and_is_no_error(proven: Proven) -> None:
    assert "Would show more:\n  an intent: an operator opened the task by hand" in proven.verify().out


def test_what_could_hide_has_an_exit_code_of_its_own(home: Shell, tmp_path: Path) -> None:
    key = AgentKey.generate("agent")
    with Authority.open_home(home.home) as authority:
        task = authority.open(allow=["crm.read"], agent_key=key.public)
        call = ToolCall("crm.read", {"id": 7})
        verifier = authority.verifier("crm", evidence=False)
        bundle = task.bundle.with_key(key)
        assert verifier.decide(bundle.present("crm", call).text, call, Call("crm.read", {"id": 7})).allowed
    proven = Proven(home, tmp_path)
    home("proof", "export", task.id, "--out", str(proven.file))
    said = proven.verify(code=4)
    assert "somebody else's could stand there" in said.out
    assert said.out.endswith(f"task {task.id}: incomplete, 1 gap; nothing contradicts\n")
    assert proven.verify("--json", code=4).json["result"] == "incomplete"
    page = tmp_path / "page.html"
    shown = ("proof", "show", str(proven.file), "--trust", str(proven.trust))
    assert "somebody else's could stand there" in proven.elsewhere(*shown, code=4).out
    proven.elsewhere(*shown, "--html", str(page), code=4)
    assert "Incomplete: nothing contradicts" in page.read_text()


def test_an_older_proof_is_not_replaced_by_mistake(proven: Proven) -> None:
    before = proven.file.read_text()
    said = proven.home("proof", "export", "last", "--out", str(proven.file), code=3)
    assert "exists: give --replace, or another name" in said.err
    assert proven.file.read_text() == before
    proven.home("proof", "export", proven.task, "--out", str(proven.file), "--replace")
    proven.verify()
    assert "--replace needs --out FILE" in proven.home("proof", "export", "last", "--replace", code=2).err
    assert json.loads(proven.home("proof", "export", "last").out)["task"] == proven.task


def test_arguments_are_disclosed_for_one_decision(proven: Proven, tmp_path: Path) -> None:
    args = tmp_path / "args.json"
    args.write_text('{"id": 7}')
    disclose = ("--disclose", f"{proven.decided.id}={args}")
    proven.home("proof", "export", "last", *disclose, "--out", str(proven.file), "--replace")
    assert [one["args"] for one in proven.verify("--json").json["decisions"]] == [{"id": 7}, None]
    said = proven.elsewhere("proof", "show", str(proven.file), "--trust", str(proven.trust))
    assert 'arguments: {"id": 7}' in said.out
    args.write_text('{"id": 8}')
    assert "these are not the arguments" in proven.home("proof", "export", "last", *disclose, code=2).err
    assert "is not ID=FILE" in proven.home("proof", "export", "last", "--disclose", "x", code=2).err
    args.unlink()
    assert "cannot read" in proven.home("proof", "export", "last", *disclose, code=3).err


def test_a_resource_adds_its_own_part(proven: Proven, tmp_path: Path) -> None:
    key_file, ledger = tmp_path / "slides.key", tmp_path / "slides.jsonl"
    vkey = proven.elsewhere("ledger", "new-key", "slides", "--key-file", str(key_file)).out
    written = LedgerFile(ledger, LedgerKey.load(key_file))
    recorder = StoreRecorder(written)
    with Authority.open_home(proven.home.home) as authority:
        verifier = authority.verifier("slides", recorder=recorder)
        received = ToolCall("slides.write", {})
        text = Bundle.parse(proven.token).present("slides", received).text
        assert verifier.decide(text, received, Call("slides.write", {}, tenant="Acme")).allowed
    recorder.close()
    written.close()
    proven.trust.write_text(proven.trust.read_text() + f"log {vkey}")
    assert "has no source of it" in proven.verify(code=1).out
    part, whole = tmp_path / "slides.part", tmp_path / "whole.proof"
    options = ("--key-file", str(key_file), "--out", str(part))
    assert "entries about this task: 1" in proven.elsewhere("proof", "extract", proven.task, str(ledger), *options).out
    said = proven.elsewhere("proof", "merge", str(proven.file), str(part), "--out", str(whole))
    assert "2 logs" in said.out
    proven.file = whole
    assert len(proven.verify("--json").json["sources"]) == 2
    again = proven.elsewhere("proof", "merge", str(whole), str(part), code=2)
    assert "already" in again.err
    other = proven.elsewhere("proof", "extract", "A" * 22, str(ledger), "--key-file", str(key_file))
    assert "has no entry about this task" in other.err
    assert json.loads(other.out)["sources"][0]["events"] == []
    direct = proven.home("proof", "export", "last", "--part", str(part))
    assert len(json.loads(direct.out)["sources"]) == 2


def test_a_receipt_refutes_a_proof_that_is_older(proven: Proven, tmp_path: Path) -> None:
    kept = tmp_path / "denial.tlog-proof"
    kept.write_text(proven.home("why", "last", "--receipt").out)
    said = proven.elsewhere("proof", "verify", str(kept), "--trust", str(proven.trust))
    assert "is in the log that was signed" in said.out
    facts = proven.elsewhere("proof", "verify", str(kept), "--trust", str(proven.trust), "--json").json
    assert facts["event"]["kind"] == "decision"
    assert "crm.export" in facts["event"]["body"]
    assert ": it is in the proof" in proven.verify("--receipt", str(kept)).out
    assert (
        "is a receipt: capx proof verify reads it"
        in proven.elsewhere("proof", "show", str(kept), "--trust", str(proven.trust), code=3).err
    )
    proven.home.decide(proven.token, "crm.export", "Acme")
    newer = tmp_path / "newer.tlog-proof"
    newer.write_text(proven.home("why", "last", "--receipt").out)
    assert "it is newer than this proof" in proven.verify("--receipt", str(newer)).out
    kept.write_text(kept.read_text().replace("index ", "index 1"))
    assert "is no receipt: capx why ID --receipt writes one" in proven.verify("--receipt", str(kept), code=3).err
    assert "leave out --json" in proven.home("why", "last", "--receipt", "--json", code=2).err
    assert "is not in the log" in proven.home("why", "d.AGsGroDsiCyyJPwyOg2dnQ", "--receipt", code=2).err


def test_the_page_is_written_once(proven: Proven, tmp_path: Path) -> None:
    out = tmp_path / "qbr.html"
    show = ("proof", "show", str(proven.file), "--trust", str(proven.trust), "--html", str(out))
    assert f"wrote {out}" in proven.elsewhere(*show).out
    assert out.read_text().startswith("<!DOCTYPE html>")
    proven.elsewhere(*show, code=3)
    proven.elsewhere(*show, "--replace")
    proven.file.write_text(proven.file.read_text().replace("crm.export", "crm.import"))
    out.unlink()
    assert proven.elsewhere(*show, code=1).out.startswith("BROKEN")
    assert not out.exists()


def test_the_home_of_an_authority_is_needed_to_export(proven: Proven) -> None:
    assert "capx init" in proven.elsewhere("proof", "export", "last", code=3).err
    assert "no task" in proven.home("proof", "export", "A" * 22, code=2).err


def test_an_id_that_begins_with_a_dash_is_an_id(proven: Proven) -> None:
    id_ = "-D" + "a" * 20
    assert "No such option" not in proven.home("proof", "export", id_, code=2).err
    typed = ("proof", "extract", id_, str(proven.file), "--key-file", str(proven.trust))
    assert "No such option" not in proven.home(*typed, code=3).err
