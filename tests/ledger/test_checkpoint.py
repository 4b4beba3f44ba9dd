"""A checkpoint is three lines, and whoever knows no key of its log takes none."""

import pytest

from capx.crypto.ed25519 import Signer
from capx.ledger.base64_text import b64
from capx.ledger.checkpoint import Checkpoint, opened, signed
from capx.ledger.note import BadNote, Note, NoteSigner
from capx_caveats import SAFE_INTEGER

LOG = NoteSigner("capx/example.1", Signer(bytes(range(32))))
OTHER = NoteSigner("capx/example.1", Signer(bytes(range(1, 33))))
TREE = Checkpoint("capx/example.1", 12, bytes(range(32)))
NOTE = signed(TREE, [LOG])


def test_a_checkpoint_is_read_back() -> None:
    assert NOTE.text == f"capx/example.1\n12\n{b64(TREE.root)}\n"
    assert Checkpoint.parse(NOTE.text) == TREE
    assert opened(NOTE.dump(), [OTHER.key, LOG.key]) == TREE
    empty = Checkpoint("capx/example.1", 0, bytes(32))
    assert Checkpoint.parse(empty.text()) == empty


@pytest.mark.parametrize(
    "text",
    [
        "capx/example.1\n12\n",
        NOTE.text + "more\n",
        NOTE.text + "\n",
        NOTE.text.replace("\n12\n", "\n012\n"),
        NOTE.text.replace("\n12\n", "\n-1\n"),
        NOTE.text.replace("\n12\n", "\n\u0661\u0662\n"),
        NOTE.text.replace("\n12\n", f"\n{SAFE_INTEGER + 1}\n"),
        NOTE.text.replace("capx/example.1", "two words"),
        NOTE.text.replace("capx/example.1", ""),
        NOTE.text.replace(b64(TREE.root), b64(TREE.root[:31])),
        NOTE.text.replace("=", ""),
        NOTE.text.replace("8=", "9="),
    ],
)
def test_another_text_is_no_checkpoint_though_it_is_signed(text: str) -> None:
    note = Note(text, ()).with_lines([LOG.line(text)])
    with pytest.raises(BadNote):
        opened(note.dump(), [LOG.key])
