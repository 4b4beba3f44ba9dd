"""A receipt: one event of a log, with its path to a root that the log has signed (C2SP tlog-proof).

    c2sp.org/tlog-proof@v1
    extra BASE64        the event: {"position","at","kind","body","before","path":[]}, as in a proof
    index N             its position - 1
    HASH                the path, a line each
                        an empty line
    NOTE                the checkpoint

The leaf is the hash of the event. Whoever keeps the receipt of an event can refute a proof that leaves it out.

Law: a receipt has exactly one spelling, at most 2 MiB.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from capx.crypto import private_file, strict_json
from capx.crypto.base64url import b64u, unb64u
from capx.errors import InvalidRequest
from capx.intents.epoch import authority_of, began, is_epoch
from capx.ledger.base64_text import b64, unb64
from capx.proof.document import ProofEvent
from capx.proof.extent import belongs
from capx.proof.sources import CheckedNote, CheckedSource, check_note, placed, two_roots
from capx.proof.trust import Trust
from capx.store.log import Event, digest

FIRST_LINE: Final = "c2sp.org/tlog-proof@v1"
LARGEST: Final = 2 << 20
"""The most bytes of a receipt."""


class Receipt(Struct, frozen=True):
    """One event with its path, and the note that it leads to."""

    event: ProofEvent
    note: str

    @classmethod
    def parse(cls, data: bytes) -> "Receipt":
        """Read a receipt; InvalidRequest for anything else."""
        if len(data) > LARGEST:
            raise InvalidRequest(f"a receipt has at most {LARGEST >> 20} MiB")
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
    """An event that is in a log, as one of its keys has signed; `before` is the hash of the event before it."""

    note: CheckedNote
    event: Event
    before: bytes


class SaidOfReceipt(Struct, frozen=True):
    """What a receipt says about a proof: a sentence; and the contradiction, if they cannot both be true."""

    sentence: str
    contradiction: str | None = None


def check_receipt(one: Receipt, trust: Trust) -> CheckedReceipt:
    """Check the path and the signatures of a receipt; ProofBroken says what does not hold."""
    note = check_note(one.note, trust, "the receipt")
    return CheckedReceipt(note, placed(one.event, note.checkpoint), unb64u(one.event.before))


def said_of(kept: CheckedReceipt, sources: Sequence[CheckedSource], task: str, opened: int) -> SaidOfReceipt:
    """Hold a receipt against the sources in the proof of a task, which the authority opened at position `opened`."""
    checkpoint, event = kept.note.checkpoint, kept.event
    where = f"event {event.position} of {checkpoint.origin}"
    source = next((one for one in sources if one.origin == checkpoint.origin), None)
    if source is None and any(one.is_authority and _is_before(checkpoint.origin, one.origin) for one in sources):
        if any(one.hash == event.hash for source in sources for one in source.events):
            return SaidOfReceipt(f"{where}: it is in the proof")
        return SaidOfReceipt(f"{where}: the authority has begun another log since: its store was restored")
    if source is None:
        lacks = f"a receipt is of the log {checkpoint.origin}, and the proof has no source of it"
        return SaidOfReceipt(f"{where}: {lacks}", lacks)
    if forked := two_roots(source, checkpoint.size, checkpoint.root) or _forked(kept, source):
        return SaidOfReceipt(f"{where}: {forked}", forked)
    if not belongs(event, task, opened if source.is_authority else None):
        return SaidOfReceipt(f"{where}: it is of another task, and says nothing about this proof")
    if event.position > source.size:
        return SaidOfReceipt(f"{where}: it is newer than this proof, and says nothing about it: ask for a newer proof")
    if all(one.hash != event.hash for one in source.events):
        left_out = f"{where}, of which there is a receipt, was left out"
        return SaidOfReceipt(left_out, left_out)
    return SaidOfReceipt(f"{where}: it is in the proof")


def _is_before(origin: str, later: str) -> bool:
    """Whether one origin is that of an earlier log of the same authority: capx/AUTHORITY.SECONDS."""
    epochs = [one.removeprefix("capx/") for one in (origin, later)]
    first, second = epochs
    return all(map(is_epoch, epochs)) and authority_of(first) == authority_of(second) and began(first) < began(second)


def _forked(kept: CheckedReceipt, source: CheckedSource) -> str | None:
    """Say that a log has two histories, as a receipt and the events of a proof show; None if they show none."""
    at, by_position = kept.event.position, {one.position: one for one in source.events}
    same, before, behind = (by_position.get(position) for position in (at, at - 1, at + 1))
    differs = (
        (same is not None and same.hash != kept.event.hash)
        or (before is not None and before.hash != kept.before)
        or (behind is not None and behind.hash != digest(kept.event.hash, at + 1, behind.at, behind.kind, behind.body))
    )
    if not differs:
        return None
    return f"{source.origin} has two histories: a receipt of event {at} and the proof cannot be of one log; keep both"


_NONE: Final = "this is no receipt: capx why ID --receipt writes one"
