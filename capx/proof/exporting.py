"""Makes an execution proof: the log of an authority about one task, and what people have signed.

Law: this knows no authority. It takes whoever has the log, its key, and what people signed.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from capx.errors import InvalidRequest
from capx.ledger.archive import Archive
from capx.ledger.checkpoint import Checkpoint
from capx.ledger.note import BadNote, Note
from capx.proof.document import AnsweredRequest, Disclosed, IntentPart, Proof, ProofEvent, Source
from capx.proof.extract import extract_log
from capx.store.protocols import Store
from capx.store.records import CheckpointRecord
from capx.tokens.approval_request import ApprovalRequest


class SignedParts(Protocol):
    """What people have signed in a task."""

    @property
    def intent(self) -> IntentPart | None:
        """The intent that it was opened on."""
        ...

    @property
    def requests(self) -> tuple[AnsweredRequest, ...]:
        """The answers to requests of its agents."""
        ...

    @property
    def approvals(self) -> tuple[dict[str, Any], ...]:
        """What approvers of calls were shown."""
        ...


class LogOwner(Protocol):
    """Who has a log, and can sign for it: an `Authority`."""

    store: Store

    def sign_checkpoint(self) -> CheckpointRecord:
        """Sign the log as it is now."""
        ...

    def sign_extract(self, message: bytes) -> bytes:
        """Sign an extract of the log (a message of 32 bytes) with a key that signs checkpoints: 64 bytes."""
        ...

    def signed_parts(self, task: str) -> SignedParts:
        """What people have signed in a task; UnknownTask if there is none."""
        ...

    def disclosure(self, decision: str, args: Mapping[str, Any], *, archive: Archive | None = None) -> Disclosed:
        """The arguments of a decision with their salt; InvalidRequest if they are not those that were decided."""
        ...


def export(
    owner: LogOwner,
    task: str,
    *,
    parts: Iterable[Proof] = (),
    disclose: Mapping[str, Mapping[str, Any]] | None = None,
    archive: Archive | None = None,
    now: int | None = None,
) -> Proof:
    """The proof of a task, from the authority's log as it is now.

    `parts` are those of resources (`extract_ledger`). `disclose` has the arguments of decisions, by their ids: all who
    have the proof will read them. `archive` is needed if decisions of that time have left the store. UnknownTask if
    there is no such task.
    """
    signed = owner.signed_parts(task)
    record = owner.sign_checkpoint()
    at = int(time.time()) if now is None else now
    with owner.store.read() as reading:
        source = extract_log(reading, record, task, sign=owner.sign_extract, at=at, archive=archive)
    decisions = {_id_of(event) for event in source.events if event.kind == "decision"}
    proof = Proof(
        1,
        task,
        (source,),
        signed.intent,
        signed.requests,
        tuple([document for document in signed.approvals if _is_in(document, source)]),
        tuple([owner.disclosure(id_, args, archive=archive) for id_, args in (disclose or {}).items()]),
    )
    if unknown := [one.decision for one in proof.disclosed if one.decision not in decisions]:
        raise InvalidRequest(f"the task has no decision {unknown[0]!a:.80}: capx find --task shows its decisions")
    return merge(proof, *parts)


def merge(proof: Proof, *parts: Proof) -> Proof:
    """The proof with the parts of others: their sources, and what they disclose.

    InvalidRequest for a part of another task, or a log that is in it already.
    """
    for part in parts:
        if part.task != proof.task:
            raise InvalidRequest(f"this part is of task {part.task!a:.80}, and the proof of {proof.task!a:.80}")
        if part.intent is not None or part.requests or part.approvals:
            raise InvalidRequest("this is a whole proof: only the parts of resources can be added to one")
        known = set(map(_origin, proof.sources))
        if again := known.intersection(map(_origin, part.sources)):
            raise InvalidRequest(f"the proof has the log {again.pop()} already")
        proof = replace(proof, sources=(*proof.sources, *part.sources), disclosed=(*proof.disclosed, *part.disclosed))
    return proof


def _id_of(event: ProofEvent) -> str | None:
    try:
        return msgspec.json.decode(event.body, type=_Identified).id
    except (msgspec.MsgspecError, RecursionError):
        return None


class _Identified(Struct):
    id: str | None = None


def _is_in(document: dict[str, Any], source: Source) -> bool:
    """Whether a decision of a source has an approval whose approvers were shown this document."""
    shown = ApprovalRequest.parse(msgspec.json.encode(document)).shown
    return any(shown in event.body for event in source.events)


def _origin(source: Source) -> str:
    try:
        return Checkpoint.parse(Note.parse(source.note).text).origin
    except BadNote as problem:
        raise InvalidRequest(f"a source of this part has no checkpoint: {problem}") from None
