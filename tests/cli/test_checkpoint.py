"""The log is signed, held to what was signed, and cosigned, from the command line."""

from pathlib import Path

import pytest

from capx.ledger.checkpoint import Checkpoint, opened
from capx.ledger.note import Note, NoteKey
from tests.cli.conftest import Shell


@pytest.fixture
def witness(capx: Shell, tmp_path: Path) -> tuple[str, ...]:
    """The options of a witness, and its public key in a file."""
    key, state = str(tmp_path / "w.key"), str(tmp_path / "w.state")
    said = capx("witness", "new", "witness.example", "--key-file", key, "--state", state)
    assert "a secret" in said.err
    assert said.out == capx("witness", "key", "--key-file", key).out
    (tmp_path / "w.vkey").write_text(said.out)
    return "--key-file", key, "--state", state


def test_a_checkpoint_is_a_note_on_standard_output(home: Shell) -> None:
    home("task", "open", "--allow", "crm.read")
    note = home("checkpoint", "make").out
    key = home("checkpoint", "key").out.strip()
    assert opened(note, [NoteKey.parse(key)]).size == 3
    said = home("checkpoint", "make", "--json").json
    assert said["note"] == note
    assert (said["size"], said["origin"]) == (3, key.split("+")[0])
    assert home("checkpoint", "key", "--json").json == {"keys": [key]}
    assert (home.home / "checkpoint.note").read_text() == note


def test_the_log_is_held_to_kept_notes_and_pages(home: Shell, tmp_path: Path) -> None:
    note = tmp_path / "monday.note"
    note.write_text(home("checkpoint", "make").out)
    home("task", "open", "--allow", "crm.read")
    said = home("checkpoint", "check", "--note", str(note))
    assert said.out == "the log of 3 events is the one of 1 checkpoint and 1 note\n"
    assert home("checkpoint", "check", "--json").json == {"size": 3, "checkpoints": 1, "notes": 0, "pages": 0}
    note.write_text(note.read_text().replace("\n0\n", "\n1\n"))
    assert "is not good" in home("checkpoint", "check", "--note", str(note), code=3).err
    note.write_bytes(b"\xff")
    assert "cannot be read" in home("checkpoint", "check", "--note", str(note), code=3).err


def test_a_store_put_back_by_hand_is_told(home: Shell) -> None:
    before = (home.home / "capx.db").read_bytes()
    home("task", "open", "--allow", "crm.read")
    home("checkpoint", "make")
    (home.home / "capx.db").write_bytes(before)
    for command in (("make",), ("check",)):
        assert "an older copy was put in its place by hand" in home("checkpoint", *command, code=3).err


def test_a_witness_without_a_network_cosigns_what_goes_on(
    home: Shell, witness: tuple[str, ...], tmp_path: Path
) -> None:
    log, vkey = home("checkpoint", "key").out.strip(), (tmp_path / "w.vkey").read_text()
    home("task", "open", "--allow", "crm.read")
    home("checkpoint", "make")
    for old in (0, 3):
        request = home("checkpoint", "request", "--old", str(old)).out
        line = home("witness", "cosign", *witness, "--log", log, token=request).out
        note = home("checkpoint", "add", "--witness", vkey, token=line).out
        signed = Note.parse(note).signed_by([NoteKey.parse(vkey.strip()), NoteKey.parse(log)])
        assert [key.name for key, _ in signed] == ["witness.example", log.split("+")[0]]
        if old == 0:
            home("task", "open", "--allow", "crm.read")
            home("checkpoint", "make")
    behind = home("checkpoint", "request").out
    said = home("witness", "cosign", *witness, "--log", log, token=behind, code=1)
    assert (said.out, "has 6 entries" in said.err) == ("", True)
    told = home("witness", "cosign", *witness, "--log", log, "--json", token=behind, code=1).json
    assert (told["cosigned"], told["status"], told["size"]) == (False, 409, 6)
    assert "give its last size" in home("checkpoint", "request", "--old", "9", code=2).err
    assert "none of these witnesses" in home("checkpoint", "add", "--witness", vkey, token="", code=3).err


def test_a_second_history_is_shown_and_not_cosigned(home: Shell, witness: tuple[str, ...], tmp_path: Path) -> None:
    log = home("checkpoint", "key").out.strip()
    before = (home.home / "capx.db").read_bytes()
    request = ""
    for at in ("one", "two"):
        home("task", "open", "--allow", f"crm.{at}")
        home("checkpoint", "make")
        request = home("checkpoint", "request").out
        if at == "one":
            home("witness", "cosign", *witness, "--log", log, token=request)
            (home.home / "capx.db").write_bytes(before)
            (home.home / "checkpoint.note").unlink()
    said = home("witness", "cosign", *witness, "--log", log, "--json", token=request, code=1)
    assert {Checkpoint.parse(Note.parse(said.json[name]).text).size for name in ("before", "shown")} == {3}
    assert said.json["before"] != said.json["shown"]
    for name in ("before", "shown"):
        assert all(line in said.err for line in said.json[name].splitlines())


def test_what_needs_the_home_refuses_another_authority(home: Shell) -> None:
    for command in ("make", "key", "check", "request"):
        said = home("checkpoint", command, code=2, CAPX_AUTHORITY="unix:/nowhere/authority.sock")
        assert "needs the root keys, which stay with their authority" in said.err
