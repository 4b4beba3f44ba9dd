"""The file of an execution proof: one JSON object, which anybody may read, and what is signed in it.

    {"capx_proof":1, "task":T,
     "sources":[{"of":T,"at":AT,"note":NOTE,"events":[{"position","at","kind","body","before","path"},…],"sig":SIG},…],
     "intent":{"document":{…},"signature":SIG} or {"document":{…},"attested":NAME},
     "requests":[{"shown":{…},"approver","yes","at","signature"},…], "approvals":[{…},…],
     "asked":[{"position","salt","args"},…], "disclosed":[{"decision","salt","args"},…]}

`body` is the very text that the log has, `before` the hash of the event before, and `path` the hashes from the event up
to the root in the note. All hashes and signatures are base64url.

    SIG of a source = Ed25519 by a key that signed the note, over
                      H("capx/1/extract", T, AT, text of the note, hash of each event …)

Who signs a source says: these are all events of my log that name this task, up to the size in the note, and all
revocations and restorations since the task was opened that name none.

Law: nothing is stated that can be computed. What the events say of nodes, authority and verdicts, the reader works out.
"""

from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from capx.crypto import private_file, strict_json
from capx.crypto.canonical_json import canonical
from capx.crypto.hashing import digest
from capx.errors import CapxError, InvalidRequest
from capx.tokens.discharge import MAX_DISCHARGES
from capx_caveats import SAFE_INTEGER, InvalidCaveat

LARGEST: Final = 64 << 20
"""The most bytes of a proof."""
_LARGEST_PART: Final = 512 << 10
"""The most bytes of one part beside the logs. An inquiry is the longest: it has a block of a token, and arguments."""

Count = Annotated[int, Meta(ge=0, le=SAFE_INTEGER)]
Hash = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$(?!\n)")]
Signature = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{85}[AQgw]$(?!\n)")]


class ProofBroken(CapxError):
    """A proof does not hold: a signature, a hash or a path in it is not good, or a part is missing or too many."""


class ProofEvent(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One event of a log, with the path to the root."""

    position: Annotated[int, Meta(ge=1, le=SAFE_INTEGER)]
    at: Count
    kind: str
    body: str
    before: Hash
    path: tuple[Hash, ...]


class Source(Struct, frozen=True, forbid_unknown_fields=True):
    """All events of one log about the task, signed by this log."""

    of: str
    at: Count
    note: str
    events: tuple[ProofEvent, ...]
    sig: Signature


class IntentPart(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The intent that the task was opened on: with the signature of its principal, or with who attested it."""

    document: dict[str, Any]
    signature: Signature | None = None
    attested: str | None = None


class AnsweredRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A request of an agent, as a person was shown it, and the answer that the person signed."""

    shown: dict[str, Any]
    approver: str
    yes: bool
    at: Count
    signature: Signature


class AskedPart(Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of a call that asked, and the salt of the commitment to them in the event at this position."""

    position: Annotated[int, Meta(ge=1, le=SAFE_INTEGER)]
    salt: Hash
    args: dict[str, Any]


class PartsOfTask(Struct, frozen=True):
    """What is beside the log of a task: its intent, answers, what approvers of calls were shown, and asks."""

    intent: IntentPart | None
    requests: tuple[AnsweredRequest, ...]
    approvals: tuple[dict[str, Any], ...]
    asked: tuple[AskedPart, ...] = ()


class Disclosed(Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of one decision, and the salt of its commitment to them."""

    decision: str
    salt: Hash
    args: dict[str, Any]


class Proof(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An execution proof, or the part of one that a single log can give."""

    capx_proof: int
    task: str
    sources: tuple[Source, ...]
    intent: IntentPart | None = None
    requests: tuple[AnsweredRequest, ...] = ()
    approvals: tuple[dict[str, Any], ...] = ()
    asked: tuple[AskedPart, ...] = ()
    disclosed: tuple[Disclosed, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> "Proof":
        """Read a proof; InvalidRequest for anything else."""
        Frame.parse(data)
        proof = strict_json.read(data, cls)
        try:
            canonical(
                msgspec.to_builtins([proof.intent, proof.requests, proof.approvals, proof.asked, proof.disclosed])
            )
        except InvalidCaveat as error:
            raise InvalidRequest(f"this proof holds a value that JSON between systems cannot hold: {error}") from None
        return proof

    @classmethod
    def load(cls, path: Path) -> "Proof":
        """Read the proof in a file; InvalidRequest for anything else."""
        return cls.parse(contents(path))

    def dump(self) -> bytes:
        """The text of a file."""
        return msgspec.json.encode(self) + b"\n"

    def save(self, path: Path | str, *, over: bool = False) -> None:
        """Write a file that only its owner can read; without `over`, InvalidRequest if there is one."""
        private_file.save(Path(path), self.dump, InvalidRequest, over=over)


class Frame(Struct, frozen=True, forbid_unknown_fields=True):
    """A proof whose parts beside the logs are not read yet.

    They are as large as whoever made the file up likes, and no log has signed them: so sources are checked first.
    """

    capx_proof: int
    task: str
    sources: tuple[Source, ...]
    intent: msgspec.Raw = msgspec.Raw()
    requests: tuple[msgspec.Raw, ...] = ()
    approvals: tuple[msgspec.Raw, ...] = ()
    asked: tuple[msgspec.Raw, ...] = ()
    disclosed: tuple[msgspec.Raw, ...] = ()

    @property
    def of_events(self) -> tuple[tuple[msgspec.Raw, ...], ...]:
        """The parts of which each belongs to an event of its own."""
        return self.requests, self.asked, self.disclosed

    @classmethod
    def parse(cls, data: bytes) -> "Frame":
        """Read all but these parts; InvalidRequest for too many or too large ones."""
        if len(data) > LARGEST:
            raise InvalidRequest(f"a proof has at most {LARGEST >> 20} MiB")
        try:
            frame = msgspec.json.decode(data, type=cls)
        except strict_json.UNREADABLE as error:
            raise InvalidRequest(f"this is not the JSON that belongs here: {error}") from None
        if frame.capx_proof != 1:
            raise InvalidRequest(f"this proof has version {frame.capx_proof!a:.20}, and this capx reads 1: upgrade it")
        events = sum(len(source.events) for source in frame.sources)
        if len(frame.approvals) > MAX_DISCHARGES * events or max(map(len, frame.of_events)) > events:
            raise InvalidRequest("this proof has more parts beside its events than belong to these")
        parts = chain((frame.intent,), frame.approvals, *frame.of_events)
        if any(len(memoryview(one)) > _LARGEST_PART for one in parts):
            raise InvalidRequest(f"a part of this proof has more than {_LARGEST_PART >> 10} KiB")
        return frame


def contents(path: Path) -> bytes:
    """What is in the file of a proof, as far as one may be long; InvalidRequest for a file that cannot be read."""
    try:
        with path.open("rb") as opened:
            return opened.read(LARGEST + 1)
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}") from None


def proof_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a proof. A reader demands more: see docs/spec/proof.md."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Proof)}


def extract_message(task: str, at: int, note_text: str, hashes: list[bytes]) -> bytes:
    """What whoever signs a source signs: 32 bytes."""
    return digest(b"capx/1/extract", task.encode(), str(at).encode(), note_text.encode(), *hashes)
