"""Public keys of logs and witnesses, as they are typed."""

from pathlib import Path

import pytest

from capx.errors import KeyProblem
from capx.ledger.note_keys import WitnessKey
from capx_cli.note_keys import parsed
from tests.cli.conftest import Shell


def test_one_text_may_have_several_keys() -> None:
    keys = [WitnessKey.generate(name).note_key for name in ("one", "two")]
    assert parsed(["\n".join(key.text() for key in keys) + "\n"]) == keys
    assert parsed([key.text() for key in keys]) == keys
    with pytest.raises(KeyProblem):
        parsed(["one two"])


def test_a_key_that_is_none_is_told(capx: Shell, tmp_path: Path) -> None:
    files = "--key-file", str(tmp_path / "w.key"), "--state", str(tmp_path / "w.state")
    capx("witness", "new", "witness.example", *files)
    for wrong in ("x", "a+b+c", "ed25519:AAAA"):
        said = capx("witness", "cosign", *files, "--log", wrong, token="", code=3)
        assert "not the public key of a log or a witness" in said.err
    said = capx("witness", "new", "two words", "--key-file", "k", "--state", "s", code=3)
    assert ("use no spaces" in said.err, said.out) == (True, "")
