"""A trust file names public keys, one a line, and nothing else."""

from pathlib import Path

import pytest

from capx.crypto.ed25519 import parse_public
from capx.errors import KeyProblem
from capx.ledger.note import NoteKey
from capx.proof import Trust
from tests.labs.granting_lab import ANA
from tests.labs.ledgers import KEY
from tests.proof.conftest import Told

LOG = f"log {KEY.note_key.text()}"


def test_a_trust_file_is_written_as_it_is_read(told: Told, tmp_path: Path) -> None:
    path = tmp_path / "trust.keys"
    path.write_text(f"# whom we trust\n\n{told.trust.text()}")
    assert Trust.load(path) == told.trust


def test_a_name_with_a_space_has_one_word() -> None:
    trust = Trust(frozenset({"capx/A"}), (KEY.note_key,), principals=(("Ana Lee", parse_public(ANA.public)),))
    assert "principal Ana%20Lee ed25519:" in trust.text()
    assert Trust.parse(trust.text()) == trust


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("authority", "line 1"),
        ("authority a b", "line 1"),
        (f"{LOG}\nlog", "line 2"),
        (f"witness {KEY.note_key.text()}", "has the key of a log, which belongs on another line"),
        ("quorum 1", "wants 1 cosignatures, and names 0 witnesses"),
        ("quorum -1", "line 1"),
        ("quorum \u0661", "line 1"),
        ("quorum 0\nquorum 0", "line 2"),
        ("principal ana", "line 1"),
        ("principal ana AAAA", "ed25519"),
        ("log a+b+c", "NAME"),
        ("trust everybody", "line 1"),
        ("", "names no authority, or no log"),
        (LOG, "names no authority, or no log"),
        ("authority capx/A", "names no authority, or no log"),
        ("# a\x0cauthority capx/evil", "names no authority"),
        ("# a\u2028authority capx/evil", "names no authority"),
        ("principal %ff ANA", "line 1"),
        (f"authority capx/A\n{LOG}\nprincipal ana ANA\nprincipal eve ANA", "gives one key to"),
    ],
)
def test_a_line_that_is_none_is_refused(text: str, says: str) -> None:
    # The key is another one each time, and not in the name of the test.
    with pytest.raises(KeyProblem, match=says):
        Trust.parse(text.replace("ANA", ANA.public))


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeyProblem, match="cannot read the trust file"):
        Trust.load(tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(KeyProblem, match="cannot read the trust file"):
        Trust.load(tmp_path / "bytes")


def test_keys_belong_to_their_log_and_person() -> None:
    trust = Trust.parse(f"authority capx/A\n{LOG}\nprincipal ana {ANA.public}")
    assert trust.keys_of("capx-ledger/crm/R") == [KEY.note_key]
    assert trust.keys_of("capx-ledger/crm") == [KEY.note_key]
    assert trust.keys_of("capx-ledger/crm2/R") == []
    (public,) = trust.keys_of_person("ana")
    assert trust.person_with(public) == "ana"
    assert trust.person_with(bytes(32)) is None


def test_a_shorter_name_is_no_key_of_an_authority() -> None:
    short = NoteKey("capx", KEY.note_key.public)
    trust = Trust(frozenset({"capx/A.1"}), (short, NoteKey("capx/A.1", KEY.note_key.public)))
    assert [key.name for key in trust.keys_of("capx/A.1")] == ["capx/A.1"]
    assert [key.name for key in trust.keys_of("capx/B.1")] == ["capx"]


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"#" * (2 << 20))
    with pytest.raises(KeyProblem, match="more than 1024 KiB"):
        Trust.load(tmp_path / "large")
