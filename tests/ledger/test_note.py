"""Signed notes: one spelling, and a signature counts only under a key that is known."""

import pytest

from capx.crypto.ed25519 import Signer
from capx.errors import KeyProblem
from capx.ledger.base64_text import b64
from capx.ledger.checkpoint import Checkpoint, opened, signed
from capx.ledger.note import (
    MAX_NOTE,
    MAX_SIGNATURES,
    BadNote,
    Cosigner,
    Note,
    NoteKey,
    NoteSigner,
    read_line,
)
from capx_caveats import SAFE_INTEGER

LOG = NoteSigner("capx/example.1", Signer(bytes(range(32))))
OTHER = NoteSigner("capx/example.1", Signer(bytes(range(1, 33))))
WITNESS = Cosigner("witness.example/w1", Signer(bytes(range(2, 34))))
TREE = Checkpoint("capx/example.1", 12, bytes(range(32)))
NOTE = signed(TREE, [LOG])

# The example of the C2SP specification of cosignatures, and its keys, as published there.
PUBLISHED = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 "
    "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)


def test_a_note_has_one_spelling() -> None:
    text = NOTE.dump()
    assert Note.parse(text) == NOTE
    assert Note.parse(text).dump() == text
    assert opened(text, [LOG.key]) == TREE


def test_the_published_note_is_read_and_written_back() -> None:
    note = Note.parse(PUBLISHED)
    assert note.dump() == PUBLISHED
    found = Checkpoint.parse(note.text)
    assert (found.origin, found.size) == ("example.com/behind-the-sofa", 20852163)
    assert found.text() == note.text
    log, witness = note.lines
    assert (log.name, len(log.signature)) == ("example.com/behind-the-sofa", 64)
    assert (witness.name, witness.time, len(witness.signature)) == ("witness.example.com/w1", 1679315147, 72)


def test_the_id_of_a_key_is_the_one_that_the_format_names() -> None:
    from hashlib import sha256

    for kind, key in ((1, LOG.key), (4, WITNESS.key)):
        named = key.name.encode() + b"\n" + bytes([kind]) + key.public
        assert key.id == sha256(named).digest()[:4]
        assert key.text() == f"{key.name}+{key.id.hex()}+{b64(bytes([kind]) + key.public)}"
        assert NoteKey.parse(key.text()) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000+",
        LOG.key.text()[:-1],
        LOG.key.text() + "\n",
        LOG.key.text().replace("capx/example.1+", "capx/example.2+"),
        LOG.key.text().replace("+", "+0", 1),
        "two words+" + LOG.key.text().split("+", 1)[1],
        f"name+00000000+{b64(bytes([2]) + LOG.key.public)}",
        f"name+00000000+{b64(bytes([1]) + bytes(32))}",
        "ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    ],
)
def test_another_text_is_no_key(text: str) -> None:
    with pytest.raises(KeyProblem):
        NoteKey.parse(text)


def test_who_has_signed_is_told_by_name_and_id() -> None:
    note = NOTE.with_lines([WITNESS.line(NOTE.text, 1_800_000_000)])
    (log, _), (witness, line) = note.signed_by([LOG.key, WITNESS.key])
    assert (log, witness, line.time) == (LOG.key, WITNESS.key, 1_800_000_000)
    # The other key has the same name and another id: its signature is not there, and what is there is not its own.
    assert note.signed_by([OTHER.key]) == []
    with pytest.raises(BadNote, match="no known key has signed"):
        opened(note.dump(), [OTHER.key])


@pytest.mark.parametrize("size", [11, 13])
def test_a_signature_of_another_checkpoint_makes_the_note_bad(size: int) -> None:
    moved = Note(Checkpoint(TREE.origin, size, TREE.root).text(), NOTE.lines)
    with pytest.raises(BadNote, match="is not good"):
        opened(moved.dump(), [LOG.key])


def test_a_bad_signature_of_one_known_key_spoils_the_note() -> None:
    note = NOTE.with_lines([WITNESS.line(Checkpoint(TREE.origin, 13, TREE.root).text(), 1_800_000_000)])
    with pytest.raises(BadNote, match=r"witness\.example/w1 is not good"):
        opened(note.dump(), [LOG.key, WITNESS.key])
    # To whoever does not know the witness, its line says nothing.
    assert opened(note.dump(), [LOG.key]) == TREE


def test_a_log_signature_is_no_cosignature_and_the_other_way() -> None:
    as_witness = NoteKey(LOG.key.name, LOG.key.public, 4)
    assert NOTE.signed_by([as_witness]) == []
    # Even with the id of the other kind put in front of it.
    forged = NOTE.dump().replace(
        b64(LOG.key.id + NOTE.lines[0].signature), b64(as_witness.id + NOTE.lines[0].signature)
    )
    with pytest.raises(BadNote):
        Note.parse(forged).signed_by([as_witness])
    cosigned = Note(NOTE.text, ()).with_lines([WITNESS.line(NOTE.text, 5)])
    assert cosigned.signed_by([NoteKey(WITNESS.key.name, WITNESS.key.public, 1)]) == []


def test_the_time_of_a_cosignature_is_signed() -> None:
    (line,) = Note(NOTE.text, ()).with_lines([WITNESS.line(NOTE.text, 5)]).lines
    later = line.signature[:7] + b"\6" + line.signature[8:]
    assert WITNESS.key.is_good(NOTE.text, line.signature)
    assert not WITNESS.key.is_good(NOTE.text, later)
    assert not WITNESS.key.is_good(NOTE.text, line.signature[8:])
    beyond = Cosigner("witness.example/w1", Signer(bytes(range(2, 34)))).line(NOTE.text, SAFE_INTEGER + 1)
    assert not WITNESS.key.is_good(NOTE.text, read_line(beyond.removesuffix("\n")).signature)


LINE = NOTE.dump().split("\n\n")[1]


@pytest.mark.parametrize(
    "note",
    [
        "",
        NOTE.text,
        NOTE.dump()[:-1],
        NOTE.dump() + "\n",
        NOTE.dump().replace("\n", "\r\n"),
        NOTE.dump().replace("\n\n", "\n"),
        NOTE.dump().replace("— ", "- "),
        NOTE.dump().replace("— ", "—  "),
        NOTE.dump().replace(LINE, LINE + "\x00"),
        NOTE.dump().replace("capx", "c\ud800px"),
        NOTE.dump().replace("==\n", "=\n") if "==\n" in NOTE.dump() else NOTE.dump().replace("=\n", "\n"),
        f"{NOTE.text}\n{LINE * (MAX_SIGNATURES + 1)}",
        f"{'x' * MAX_NOTE}\n\n{LINE}",
        f"\n\n{LINE}",
        f"{NOTE.text}\n— name AAAA\n",
        f"{NOTE.text}\n— name AAAAAA==\n",
    ],
)
def test_another_text_is_no_note(note: str) -> None:
    with pytest.raises(BadNote):
        opened(note, [LOG.key])


def test_a_later_line_of_one_key_replaces_its_earlier_one() -> None:
    note = NOTE.with_lines([WITNESS.line(NOTE.text, 5)]).with_lines([WITNESS.line(NOTE.text, 6)])
    assert [line.time for line in note.lines if line.is_by(WITNESS.key)] == [6]
    assert opened(note.dump(), [LOG.key, WITNESS.key]) == TREE
