"""Checks the sources of a proof: notes, cosignatures, signatures, and the path of each event.

Law: an event counts only if its hash is a leaf of the tree that its log has signed.
"""

from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct

from capx.crypto.base64url import unb64u
from capx.crypto.ed25519 import is_signed
from capx.ledger.checkpoint import Checkpoint
from capx.ledger.note import BadNote, Note, NoteKey
from capx.ledger.tree import is_included
from capx.proof.document import Frame, Proof, ProofBroken, ProofEvent, Source, extract_message
from capx.proof.trust import Trust
from capx.store.log import Event, digest


class Witnessed(Struct, frozen=True):
    """A witness that has cosigned the note of a source, and when (Unix seconds)."""

    name: str
    at: int


class CheckedSource(Struct, frozen=True):
    """A source whose events are all in the tree that its log signed."""

    origin: str
    is_authority: bool
    size: int
    root: bytes
    at: int
    signed_by: tuple[str, ...]
    witnesses: tuple[Witnessed, ...]
    events: tuple[Event, ...]


def check_sources(proof: Proof | Frame, trust: Trust) -> list[CheckedSource]:
    """Check all sources, that of the authority first; ProofBroken says what does not hold."""
    checked = [_checked(proof, source, trust, nth) for nth, source in enumerate(proof.sources, 1)]
    origins = [one.origin for one in checked]
    if len(set(origins)) < len(origins):
        raise ProofBroken(_twice(checked))
    authorities = [one for one in checked if one.is_authority]
    if len(authorities) != 1:
        found = "no log" if not authorities else f"{len(authorities)} logs"
        raise ProofBroken(
            f"the proof has {found} of an authority that the trust file names: it needs one; the logs in it are "
            f"{', '.join(origins) or 'none'}"
        )
    return sorted(checked, key=lambda one: not one.is_authority)


class CheckedNote(Struct, frozen=True):
    """The checkpoint in a note that its log has signed, the keys that signed it, and who cosigned it."""

    checkpoint: Checkpoint
    text: str
    signers: tuple[NoteKey, ...]
    witnesses: tuple[Witnessed, ...]


def check_note(note: str, trust: Trust, where: str) -> CheckedNote:
    """Check who has signed a note; ProofBroken if no key of its log has, or too few witnesses."""
    try:
        parsed = Note.parse(note)
        checkpoint = Checkpoint.parse(parsed.text)
        where = f"{where}, {checkpoint.origin}"
        signers = [key for key, _ in parsed.signed_by(trust.keys_of(checkpoint.origin))]
        cosigned = parsed.signed_by(trust.witnesses)
    except BadNote as problem:
        raise ProofBroken(f"{where}: {problem}") from None
    if not signers:
        raise ProofBroken(f"{where}: no key that the trust file names for this log has signed its note")
    if len(cosigned) < trust.quorum:
        raise ProofBroken(f"{where}: {len(cosigned)} witnesses have cosigned its note, and {trust.quorum} must")
    witnesses = [Witnessed(key.name, line.time) for key, line in cosigned]
    return CheckedNote(checkpoint, parsed.text, tuple(signers), tuple(witnesses))


def placed(each: ProofEvent, checkpoint: Checkpoint) -> Event:
    """The event, whose path leads to the root of the checkpoint; ProofBroken if it does not."""
    where = f"event {each.position} of {checkpoint.origin}"
    try:
        body = each.body.encode()
        hash_ = digest(unb64u(each.before), each.position, each.at, each.kind, body)
    except UnicodeEncodeError:
        raise ProofBroken(f"{where} is not text") from None
    path = list(map(unb64u, each.path))
    if not is_included(hash_, each.position - 1, checkpoint.size, checkpoint.root, path):
        raise ProofBroken(f"{where} is not in the log that was signed: it was changed, or its path")
    return Event(each.position, each.at, each.kind, body, hash_)


def _checked(proof: Proof | Frame, source: Source, trust: Trust, nth: int) -> CheckedSource:
    note = check_note(source.note, trust, f"source {nth}")
    where = f"source {nth}, {note.checkpoint.origin}"
    if source.of != proof.task:
        raise ProofBroken(f"{where}: it is of task {source.of!a:.80}, and the proof is of {proof.task!a:.80}")
    events = [placed(each, note.checkpoint) for each in source.events]
    for before, event in pairwise(events):
        if event.position <= before.position:
            raise ProofBroken(f"{where}: event {event.position} stands behind event {before.position}")
    message = extract_message(source.of, source.at, note.text, [event.hash for event in events])
    if not any(is_signed(key.public, message, unb64u(source.sig)) for key in note.signers):
        raise ProofBroken(
            f"{where}: the signature over all its events is not good: one was left out or added, or it is of another "
            "task"
        )
    return CheckedSource(
        origin=note.checkpoint.origin,
        is_authority=note.checkpoint.origin in trust.authorities,
        size=note.checkpoint.size,
        root=note.checkpoint.root,
        at=source.at,
        signed_by=tuple([key.text() for key in note.signers]),
        witnesses=note.witnesses,
        events=tuple(events),
    )


def _twice(checked: Sequence[CheckedSource]) -> str:
    seen: dict[str, CheckedSource] = {}
    for one in checked:
        before = seen.setdefault(one.origin, one)
        if before is not one:
            return two_roots(before, one.size, one.root) or f"two sources are of {one.origin}: give one"
    raise ValueError("no source stands twice")


def two_roots(source: CheckedSource, size: int, root: bytes) -> str | None:
    """Say that a log has signed two roots for one size; None if it has not."""
    if source.size != size or source.root == root:
        return None
    return f"{source.origin} has signed two roots for {size} events: keep both notes, they are evidence"
