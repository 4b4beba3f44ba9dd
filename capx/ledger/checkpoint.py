"""A checkpoint: the size and root of the tree of one log, as the text of a signed note.

    ORIGIN LF SIZE LF BASE64( root ) LF

Laws:

- The origin names one log. Two checkpoints with one origin and size and different roots contradict each other.
- There are no other lines.

Source: C2SP tlog-checkpoint.
"""

import re
from collections.abc import Iterable
from typing import Final, Self

from msgspec import Struct

from capx.errors import InvalidRequest
from capx.ledger.base64_text import b64, unb64
from capx.ledger.note import BadNote, Note, NoteKey, NoteSigner, is_key_name
from capx_caveats import SAFE_INTEGER

_SIZE: Final = re.compile("0|[1-9][0-9]{0,15}")


class Checkpoint(Struct, frozen=True):
    """The tree of a log: its origin, how many entries it has, and its root (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the text that is signed."""
        return f"{self.origin}\n{self.size}\n{b64(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a note; BadNote if it is no checkpoint."""
        lines = text.removesuffix("\n").split("\n")
        if len(lines) != 3 or not is_key_name(lines[0]) or not _SIZE.fullmatch(lines[1]):
            raise BadNote("this note is no checkpoint: it must have an origin, a size and a root, a line each")
        try:
            root = unb64(lines[2])
        except InvalidRequest:
            root = b""
        if len(root) != 32 or int(lines[1]) > SAFE_INTEGER:
            raise BadNote("this note is no checkpoint: its root or its size cannot be one")
        return cls(lines[0], int(lines[1]), root)


def signed(checkpoint: Checkpoint, signers: Iterable[NoteSigner]) -> Note:
    """Return the note of a checkpoint, signed by all of these."""
    text = checkpoint.text()
    return Note(text, ()).with_lines(signer.line(text) for signer in signers)


def opened(note: str, keys: Iterable[NoteKey]) -> Checkpoint:
    """Return the checkpoint in a note that at least one of these keys of its log has signed; BadNote otherwise."""
    found = Note.parse(note)
    checkpoint = Checkpoint.parse(found.text)
    if not found.signed_by(keys):
        raise BadNote(f"no known key has signed this checkpoint of {checkpoint.origin!a:.80}")
    return checkpoint
