"""Makes an execution proof: the log of an authority about one task, and what people have signed.

Law: this knows no authority. It takes whoever has the log, its key, and what people signed.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from capx.errors import InvalidRequest
from capx.ledger.archive import Archive, recorded_decision
from capx.ledger.checkpoint import Checkpoint
from capx.ledger.note import BadNote, Note
from capx.ledger.stored_tree import StoredTree
from capx.proof.approvals import documents_in, shown_in
from capx.proof.document import LARGEST, Disclosed, PartsOfTask, Proof, Source
from capx.proof.extract import extract_log, shown_event
from capx.proof.receipts import LARGEST as LARGEST_RECEIPT
from capx.proof.receipts import Receipt
from capx.proof.recorded import DECISION, Recorded
from capx.store.protocols import Store
from capx.store.records import CheckpointRecord


class LogOwner(Protocol):
    """Who has a log, and can sign for it: an `Authority`."""

    store: Store

    def sign_checkpoint(self) -> CheckpointRecord:
        """Sign the log as it is now."""
        ...

    def sign_extract(self, message: bytes) -> bytes:
        """Sign an extract of the log (a message of 32 bytes) with a key that signs checkpoints: 64 bytes."""
        ...

    def proof_parts(self, task: str) -> PartsOfTask:
        """What people have signed in a task, and what agents have asked for; UnknownTask if there is none."""
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
    beside = owner.proof_parts(task)
    record = owner.sign_checkpoint()
    at = int(time.time()) if now is None else now
    with owner.store.read() as reading:
        source = extract_log(reading, record, task, sign=owner.sign_extract, at=at, archive=archive)
    disclosed = tuple([owner.disclosure(id_, args, archive=archive) for id_, args in (disclose or {}).items()])
    own = Proof(1, task, (source,), beside.intent, beside.requests, asked=beside.asked, disclosed=disclosed)
    proof = merge(own, *parts)
    recorded = list(_recorded(proof.sources))
    known = {one.id for one in recorded}
    if unknown := [one.decision for one in proof.disclosed if one.decision not in known]:
        raise InvalidRequest(f"the task has no decision {unknown[0]!a:.80}: capx find --task shows its decisions")
    shown = shown_in(recorded)
    documents = [document for document in beside.approvals if not shown.isdisjoint(documents_in([document]))]
    proof = replace(proof, approvals=tuple(documents))
    if (size := len(proof.dump())) > LARGEST:
        raise InvalidRequest(
            f"this proof would have {size >> 20} MiB, and nobody reads more than {LARGEST >> 20}: write receipts of "
            "single calls, with capx why ID --receipt"
        )
    return proof


def receipt(owner: LogOwner, decision: str, *, archive: Archive | None = None) -> Receipt:
    """The receipt of a recorded decision; InvalidRequest if neither the log nor the archive has one with this id."""
    record = owner.sign_checkpoint()
    size = Checkpoint.parse(Note.parse(record.note).text).size
    with owner.store.read() as reading:
        event = recorded_decision(reading, decision, archive)
        if event is None or event.position > size:
            raise InvalidRequest(f"decision {decision!a:.80} is not in the log: capx find shows those that are")
        path = StoredTree(reading).inclusion_path(event.position, size)
        made = Receipt(shown_event(reading, event, path), record.note)
    if len(made.dump()) > LARGEST_RECEIPT:
        raise InvalidRequest(f"this receipt would have more than {LARGEST_RECEIPT >> 20} MiB, which nobody reads")
    return made


def merge(proof: Proof, *parts: Proof) -> Proof:
    """The proof with the parts of others: their sources, and what they disclose.

    InvalidRequest for a part of another task, or a log that is in it already.
    """
    for part in parts:
        if part.task != proof.task:
            raise InvalidRequest(f"this part is of task {part.task!a:.80}, and the proof of {proof.task!a:.80}")
        if part.intent is not None or part.requests or part.approvals or part.asked:
            raise InvalidRequest("this is a whole proof: only the parts of resources can be added to one")
        known = set(map(_origin, proof.sources))
        if again := known.intersection(map(_origin, part.sources)):
            raise InvalidRequest(f"the proof has the log {again.pop()} already")
        proof = replace(proof, sources=(*proof.sources, *part.sources), disclosed=(*proof.disclosed, *part.disclosed))
    return proof


def _recorded(sources: Iterable[Source]) -> Iterator[Recorded]:
    """The decisions in sources, as far as they can be read."""
    for source in sources:
        for event in source.events:
            if event.kind == DECISION:
                with suppress(msgspec.MsgspecError, RecursionError):
                    yield msgspec.json.decode(event.body, type=Recorded)


def _origin(source: Source) -> str:
    try:
        return Checkpoint.parse(Note.parse(source.note).text).origin
    except BadNote as problem:
        raise InvalidRequest(f"a source of this part has no checkpoint: {problem}") from None
