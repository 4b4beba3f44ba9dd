"""Checks the sources of a proof: notes, cosignatures, signatures, and the path of each event.

Law: an event counts only if its hash is a leaf of the tree that its log has signed.
"""

from collections.abc import Sequence

from msgspec import Struct

from capx.crypto.base64url import unb64u
from capx.crypto.ed25519 import is_signed
from capx.errors import CapxError
from capx.ledger.checkpoint import Checkpoint
from capx.ledger.note import BadNote, Note, NoteKey
from capx.ledger.tree import is_included
from capx.proof.document import Proof, ProofBroken, Source, extract_message
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
    at: int
    signed_by: tuple[str, ...]
    witnesses: tuple[Witnessed, ...]
    events: tuple[Event, ...]


def check_sources(proof: Proof, trust: Trust) -> list[CheckedSource]:
    """Check all sources, that of the authority first; ProofBroken says what does not hold."""
    checked = [_checked(proof, source, trust, nth) for nth, source in enumerate(proof.sources, 1)]
    origins = [one.origin for one in checked]
    if len(set(origins)) < len(origins):
        raise ProofBroken(_twice(proof, checked))
    authorities = [one for one in checked if one.is_authority]
    if len(authorities) != 1:
        found = "no log" if not authorities else f"{len(authorities)} logs"
        raise ProofBroken(
            f"the proof has {found} of an authority that the trust file names: it needs one; the logs in it are "
            f"{', '.join(origins) or 'none'}"
        )
    return sorted(checked, key=lambda one: not one.is_authority)


def _checked(proof: Proof, source: Source, trust: Trust, nth: int) -> CheckedSource:
    where = f"source {nth}"
    try:
        note = Note.parse(source.note)
        checkpoint = Checkpoint.parse(note.text)
        where = f"source {nth}, {checkpoint.origin}"
        signers = [key for key, _ in note.signed_by(trust.keys_of(checkpoint.origin))]
        cosigned = note.signed_by(trust.witnesses)
    except BadNote as problem:
        raise ProofBroken(f"{where}: {problem}") from None
    if not signers:
        raise ProofBroken(f"{where}: no key that the trust file names for this log has signed its note")
    if len(cosigned) < trust.quorum:
        raise ProofBroken(f"{where}: {len(cosigned)} witnesses have cosigned its note, and {trust.quorum} must")
    if source.of != proof.task:
        raise ProofBroken(f"{where}: it is of task {source.of!a:.80}, and the proof is of {proof.task!a:.80}")
    events = _events(source, checkpoint, where)
    _demand_signed(source, note.text, events, signers, where)
    return CheckedSource(
        origin=checkpoint.origin,
        is_authority=checkpoint.origin in trust.authorities,
        size=checkpoint.size,
        at=source.at,
        signed_by=tuple([key.text() for key in signers]),
        witnesses=tuple([Witnessed(key.name, line.time) for key, line in cosigned]),
        events=events,
    )


def _events(source: Source, checkpoint: Checkpoint, where: str) -> tuple[Event, ...]:
    events: list[Event] = []
    for each in source.events:
        if events and each.position <= events[-1].position:
            raise ProofBroken(f"{where}: event {each.position} stands behind event {events[-1].position}")
        try:
            body = each.body.encode()
            hash_ = digest(unb64u(each.before), each.position, each.at, each.kind, body)
        except UnicodeEncodeError:
            raise ProofBroken(f"{where}: event {each.position} is not text") from None
        path = list(map(unb64u, each.path))
        if not is_included(hash_, each.position - 1, checkpoint.size, checkpoint.root, path):
            raise ProofBroken(
                f"{where}: event {each.position} is not in the log that was signed: it was changed, or its path"
            )
        events.append(Event(each.position, each.at, each.kind, body, hash_))
    return tuple(events)


def _demand_signed(
    source: Source, note_text: str, events: Sequence[Event], signers: Sequence[NoteKey], where: str
) -> None:
    message = extract_message(source.of, source.at, note_text, [event.hash for event in events])
    if not any(is_signed(key.public, message, unb64u(source.sig)) for key in signers):
        raise ProofBroken(
            f"{where}: the signature over all its events is not good: one was left out or added, or it is of another "
            "task"
        )


def _twice(proof: Proof, checked: Sequence[CheckedSource]) -> str:
    seen: dict[str, tuple[CheckedSource, str]] = {}
    for one, source in zip(checked, proof.sources, strict=True):
        if one.origin in seen:
            before, note = seen[one.origin]
            text, other = Note.parse(note).text, Note.parse(source.note).text
            if before.size == one.size and text != other:
                return f"{one.origin} has signed two roots for {one.size} events: keep both notes, they are evidence"
            return f"two sources are of {one.origin}: give one"
        seen[one.origin] = one, source.note
    raise CapxError("no source stands twice")
