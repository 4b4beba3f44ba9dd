"""The key files of ledgers and witnesses."""

from pathlib import Path

import pytest

from capx.crypto.agent_key import AgentKey
from capx.errors import KeyProblem
from capx.ledger.note import Note
from capx.ledger.note_keys import LedgerKey, WitnessKey

WITNESS = WitnessKey.generate("witness.example/w1")


def test_keys_of_ledgers_and_witnesses_are_no_others(tmp_path: Path) -> None:
    WITNESS.save(tmp_path / "w.key")
    assert WitnessKey.load(tmp_path / "w.key").note_key == WITNESS.note_key
    with pytest.raises(KeyProblem, match="key of a witness"):
        LedgerKey.load(tmp_path / "w.key")
    for name in ("two words", "one+two", ""):
        with pytest.raises(KeyProblem, match="cannot name"):
            WitnessKey.generate(name)


def test_a_key_of_another_kind_is_told(tmp_path: Path) -> None:
    LedgerKey.generate("capx-ledger/crm").save(tmp_path / "l.key")
    with pytest.raises(KeyProblem, match="key of a ledger"):
        AgentKey.load(tmp_path / "l.key")
    assert (tmp_path / "l.key").read_text().startswith("ledger capx-ledger%2Fcrm ")


def test_what_a_key_signs_is_signed_by_its_public_half() -> None:
    ledger = LedgerKey.generate("capx-ledger/crm")
    note = Note("text\n", ()).with_lines([ledger.signer.line("text\n"), WITNESS.cosigner.line("text\n", 5)])
    assert [key for key, _ in note.signed_by([ledger.note_key, WITNESS.note_key])] == [
        ledger.note_key,
        WITNESS.note_key,
    ]
    assert (ledger.note_key.kind, WITNESS.note_key.kind) == (1, 4)
