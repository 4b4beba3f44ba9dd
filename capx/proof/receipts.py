"""A receipt: one event of a log, with its path to a root that the log has signed (C2SP tlog-proof).

    c2sp.org/tlog-proof@v1
    extra BASE64        the event: {"position","at","kind","body","before"}, as in a proof
    index N             its position - 1
    HASH                the path, a line each
                        an empty line
    NOTE                the checkpoint

The leaf is the hash of the event. Whoever keeps the receipt of an event can refute a proof that leaves it out.

Law: a receipt has exactly one spelling, at most 256 KiB.
"""

from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from capx.crypto import private_file, strict_json
from capx.crypto.base64url import b64u, unb64u
from capx.errors import InvalidRequest
from capx.ledger.archive import Archive
from capx.ledger.base64_text import b64, unb64
from capx.ledger.checkpoint import Checkpoint
from capx.ledger.note import Note
from capx.ledger.stored_tree import StoredTree
from capx.proof.document import ProofEvent
from capx.proof.exporting import LogOwner
from capx.proof.extract import shown_event
from capx.proof.sources import CheckedNote, check_note, placed
from capx.proof.trust import Trust
from capx.store.log import Event

FIRST_LINE: Final = "c2sp.org/tlog-proof@v1"
LARGEST: Final = 256 << 10
"""The most bytes of a receipt."""


class Receipt(Struct, frozen=True):
    """One event with its path, and the note that it leads to."""

    event: ProofEvent
    note: str

    @classmethod
    def parse(cls, data: bytes) -> "Receipt":
        """Read a receipt; InvalidRequest for anything else."""
        if len(data) > LARGEST:
            raise InvalidRequest(f"a receipt has at most {LARGEST >> 10} KiB")
        try:
            head, note = data.decode().split("\n\n", 1)
        except (UnicodeDecodeError, ValueError):
            raise InvalidRequest(_NONE) from None
        lines = head.split("\n")
        if len(lines) < 3 or not lines[1].startswith("extra "):
            raise InvalidRequest(_NONE)
        event = strict_json.read(unb64(lines[1].removeprefix("extra ")), ProofEvent)
        receipt = cls(replace(event, path=tuple([b64u(unb64(line)) for line in lines[3:]])), note)
        if receipt.dump() != data:
            raise InvalidRequest(_NONE)
        return receipt

    @classmethod
    def load(cls, path: Path) -> "Receipt":
        """Read the receipt in a file; InvalidRequest for anything else."""
        try:
            with path.open("rb") as opened:
                return cls.parse(opened.read(LARGEST + 1))
        except OSError as error:
            raise InvalidRequest(f"cannot read {path}: {error.strerror}") from None

    def dump(self) -> bytes:
        """The text of a file."""
        extra = b64(msgspec.json.encode(replace(self.event, path=())))
        path = [b64(unb64u(each)) for each in self.event.path]
        lines = [FIRST_LINE, f"extra {extra}", f"index {self.event.position - 1}", *path, "", self.note]
        return "\n".join(lines).encode()

    def save(self, path: Path | str, *, over: bool = False) -> None:
        """Write a file that only its owner can read; without `over`, InvalidRequest if there is one."""
        private_file.save(Path(path), self.dump, InvalidRequest, over=over)


class CheckedReceipt(Struct, frozen=True):
    """An event that is in a log, as one of its keys has signed."""

    note: CheckedNote
    event: Event


def receipt(owner: LogOwner, decision: str, *, archive: Archive | None = None) -> Receipt:
    """The receipt of a recorded decision; InvalidRequest if neither the log nor the archive has one with this id."""
    record = owner.sign_checkpoint()
    size = Checkpoint.parse(Note.parse(record.note).text).size
    with owner.store.read() as reading:
        event = reading.decision(decision)
        if event is None and archive is not None:
            event = archive.decision(reading, decision)
        if event is None or event.position > size:
            raise InvalidRequest(f"decision {decision!a:.80} is not in the log: capx find shows those that are")
        path = StoredTree(reading).inclusion_path(event.position, size)
        return Receipt(shown_event(reading, event, path), record.note)


def check_receipt(one: Receipt, trust: Trust) -> CheckedReceipt:
    """Check the path and the signatures of a receipt; ProofBroken says what does not hold."""
    note = check_note(one.note, trust, "the receipt")
    return CheckedReceipt(note, placed(one.event, note.checkpoint))


_NONE: Final = "this is no receipt: capx why ID --receipt writes one"
