"""Signed notes: a text, and the signatures of logs and witnesses below it.

    note     TEXT LF LINE+                   TEXT ends in a line end
    line     "— " NAME " " BASE64( id || signature ) LF
    vkey     NAME "+" HEX( id ) "+" BASE64( kind || public key )
    id       SHA-256( NAME LF kind || public key )[:4]

    kind 01  a log signs the text: 64 bytes
    kind 04  a witness cosigns a checkpoint: its time (8 bytes, Unix seconds), and the signature over
             "cosignature/v1" LF "time " TIME LF TEXT

Laws:

- A note has exactly one spelling, at most 2**16 characters and 32 signatures.
- A signature of a known key that is not good makes the whole note bad. Signatures of unknown keys are ignored.
- A key is known by its name and its id together. The id alone is short enough to be forged.

Source: C2SP signed-note and tlog-cosignature, version 1; Ed25519 is RFC 8032.
"""

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, Literal

from msgspec import Struct

from capx.crypto.ed25519 import PUBLIC, SIGNATURE, Signs, is_signed, weakness
from capx.errors import CapxError, InvalidRequest, KeyProblem
from capx.ledger.base64_text import b64, unb64
from capx_caveats import SAFE_INTEGER

LOG: Final = 1
WITNESS: Final = 4
MAX_NOTE: Final = 2**16
"""The most characters of a note."""
MAX_SIGNATURES: Final = 32
"""The most signatures below a note: each one costs a check."""

_ID: Final = 4
_TIME: Final = 8
_DASH: Final = "— "
_NAME: Final = re.compile(r"[^\s+\x00-\x1f\x7f]{1,255}")


class BadNote(CapxError):
    """A text is no signed note, or a known key has not signed it; says which."""


class NoteKey(Struct, frozen=True):
    """The public key of a log (kind 1) or a witness (kind 4), and its name."""

    name: str
    public: bytes
    kind: Literal[1, 4] = LOG

    def __post_init__(self) -> None:
        if not is_key_name(self.name):
            raise KeyProblem(f"{self.name!r:.80} cannot name a key: use no spaces and no plus")
        if problem := weakness(self.public):
            raise KeyProblem(problem)

    @property
    def id(self) -> bytes:
        """Its id in signature lines: 4 bytes."""
        return sha256(self.name.encode() + b"\n" + self._encoded).digest()[:_ID]

    def text(self) -> str:
        """The key as people and tools write it: a vkey."""
        return f"{self.name}+{self.id.hex()}+{b64(self._encoded)}"

    @classmethod
    def parse(cls, text: str) -> "NoteKey":
        """Read a vkey; KeyProblem for any other text, and for a weak key."""
        name, _, rest = text.partition("+")
        id_, _, encoded = rest.partition("+")
        try:
            data = unb64(encoded)
        except InvalidRequest:
            data = b""
        if len(data) != 1 + PUBLIC or data[0] not in {LOG, WITNESS}:
            raise KeyProblem(
                "this is not the public key of a log or a witness, which is NAME+ID+KEY: capx ledger new-key, capx "
                "witness new and capx checkpoint key print one; copy it whole"
            )
        key = cls(name, data[1:], LOG if data[0] == LOG else WITNESS)
        if key.id.hex() != id_:
            raise KeyProblem(f"the id {id_!a:.20} is not that of this key: copy the key whole")
        return key

    @property
    def _encoded(self) -> bytes:
        return bytes([self.kind]) + self.public

    def is_good(self, text: str, signature: bytes) -> bool:
        """Whether it has signed this text; `signature` is what stands behind the id in the line."""
        if self.kind == LOG:
            return is_signed(self.public, text.encode(), signature)
        if len(signature) != _TIME + SIGNATURE:
            return False
        at = int.from_bytes(signature[:_TIME])
        return at <= SAFE_INTEGER and is_signed(self.public, _cosigned(text, at), signature[_TIME:])


class NoteSigner:
    """Signs notes for a log."""

    def __init__(self, name: str, signer: Signs) -> None:
        self.key = NoteKey(name, signer.public)
        self._signer = signer

    def line(self, text: str) -> str:
        """Return the signature line of a text."""
        return _line(self.key, self._signer.sign(text.encode()))


class Cosigner:
    """Cosigns checkpoints for a witness."""

    def __init__(self, name: str, signer: Signs) -> None:
        self.key = NoteKey(name, signer.public, WITNESS)
        self._signer = signer

    def line(self, text: str, at: int) -> str:
        """Return the line of a cosignature made at that time (Unix seconds)."""
        return _line(self.key, at.to_bytes(_TIME) + self._signer.sign(_cosigned(text, at)))


class SignatureLine(Struct, frozen=True):
    """One line below a note, not checked: the name and id of a key, and its signature."""

    name: str
    id: bytes
    signature: bytes

    def is_by(self, key: NoteKey) -> bool:
        """Whether it says that this key has signed."""
        return self.name == key.name and self.id == key.id

    @property
    def time(self) -> int:
        """The time of a cosignature (Unix seconds)."""
        return int.from_bytes(self.signature[:_TIME])

    def text(self) -> str:
        """The line, with its end."""
        return f"{_DASH}{self.name} {b64(self.id + self.signature)}\n"


class Note(Struct, frozen=True):
    """A text, and the signatures below it. Nothing in it is checked: `signed_by` does that."""

    text: str
    lines: tuple[SignatureLine, ...]

    @classmethod
    def parse(cls, note: str) -> "Note":
        """Take a note apart; BadNote for a text in any other form."""
        if len(note) > MAX_NOTE:
            raise BadNote(f"the note has more than {MAX_NOTE} characters")
        if any((ord(each) < 0x20 and each != "\n") or 0xD800 <= ord(each) < 0xE000 for each in note):
            raise BadNote("the note has a control character in it: copy it as it is, with line ends of one character")
        text, blank, below = note.rpartition("\n\n")
        if not blank or not text or not below.endswith("\n"):
            raise BadNote("this is no signed note: text, an empty line and signatures, each with a line end")
        lines = below.removesuffix("\n").split("\n")
        if len(lines) > MAX_SIGNATURES:
            raise BadNote(f"the note has more than {MAX_SIGNATURES} signatures")
        return cls(f"{text}\n", tuple(map(read_line, lines)))

    def with_lines(self, lines: Iterable[str]) -> "Note":
        """The note with more signature lines; one of a key that has signed already replaces the older one."""
        added = [read_line(line.removesuffix("\n")) for line in lines]
        replaced = {(one.name, one.id) for one in added}
        kept = [one for one in self.lines if (one.name, one.id) not in replaced]
        return Note(self.text, (*kept, *added))

    def dump(self) -> str:
        """Return the text of the note."""
        return f"{self.text}\n{''.join(line.text() for line in self.lines)}"

    def signed_by(self, keys: Iterable[NoteKey]) -> list[tuple[NoteKey, SignatureLine]]:
        """Return which of these keys have signed, each once; BadNote if a signature of one of them is not good."""
        found: list[tuple[NoteKey, SignatureLine]] = []
        for key in dict.fromkeys(keys):
            of_key = [line for line in self.lines if line.is_by(key)]
            if not all(key.is_good(self.text, line.signature) for line in of_key):
                raise BadNote(f"the signature of {key.name} is not good: the note was changed, or another key signed")
            if of_key:
                found.append((key, of_key[0]))
        return found


def is_key_name(text: str) -> bool:
    """Whether this can be the name of a key: 1 to 255 characters, without spaces and plus."""
    return _NAME.fullmatch(text) is not None


def read_line(line: str) -> SignatureLine:
    """Take one signature line apart, without its line end; BadNote for any other text."""
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    try:
        data = unb64(encoded)
    except InvalidRequest:
        data = b""
    if not line.startswith(_DASH) or not is_key_name(name) or len(data) <= _ID:
        raise BadNote("a line below the note is no signature: a dash, a name, and base64")
    return SignatureLine(name, data[:_ID], data[_ID:])


def _line(key: NoteKey, signature: bytes) -> str:
    return SignatureLine(key.name, key.id, signature).text()


def _cosigned(text: str, at: int) -> bytes:
    return f"cosignature/v1\ntime {at}\n{text}".encode()
