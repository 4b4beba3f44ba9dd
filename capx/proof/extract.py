"""The source of a proof: all events of one log about a task, each with its path, signed by that log."""

from collections.abc import Callable, Iterable, Sequence
from heapq import merge
from pathlib import Path

from capx.crypto.base64url import b64u, unb64u
from capx.errors import InvalidRequest
from capx.ledger.archive import Archive
from capx.ledger.checkpoint import Checkpoint, signed
from capx.ledger.ledger_check import LedgerReader, follow
from capx.ledger.ledger_lines import MAX_LINE, Entry, Header, read_line
from capx.ledger.note import Note
from capx.ledger.note_keys import LedgerKey
from capx.ledger.stored_tree import StoredTree
from capx.ledger.tree import RunsInMemory, inclusion_path
from capx.proof.document import Proof, ProofEvent, Source, extract_message
from capx.proof.extent import OF_ANY_TASK, task_of
from capx.store.events import TaskOpened, archived_until
from capx.store.log import GENESIS, Event
from capx.store.protocols import Reading
from capx.store.records import CheckpointRecord

Sign = Callable[[bytes], bytes]
"""Signs a message of 32 bytes with the key of the log: 64 bytes."""


def extract_log(
    reading: Reading,
    checkpoint: CheckpointRecord,
    task: str,
    *,
    sign: Sign,
    at: int,
    archive: Archive | None = None,
) -> Source:
    """The source of an authority's log, up to a checkpoint; InvalidRequest if it does not know the task.

    If decisions of that time have left the store, it needs the `archive`: who signs a source says that it is complete.
    """
    size = checkpoint.size
    own = [event for event in reading.events(task=task) if event.position <= size and task_of(event) == task]
    opened = next((event.position for event in own if event.kind == TaskOpened.kind), None)
    if opened is None:
        raise InvalidRequest(f"the log has not opened the task {task!a:.80}: capx task list shows all tasks")
    if opened <= archived_until(reading):
        if archive is None:
            raise InvalidRequest("decisions of this task may be in the archive: name its folder, --archive DIR")
        there = {event.position for event in own}
        found = archive.decisions(reading, naming=task, matches=lambda event: task_of(event) == task)
        own = sorted([*own, *(event for event in found if event.position not in there)], key=_position)
    others = (
        event
        for kind in OF_ANY_TASK
        for event in reading.events(kind=kind, after=opened)
        if event.position <= size and task_of(event) is None
    )
    events = list(merge(own, sorted(others, key=_position), key=_position))
    tree = StoredTree(reading)
    shown = [shown_event(reading, event, tree.inclusion_path(event.position, size)) for event in events]
    return _signed(shown, [event.hash for event in events], task=task, at=at, note=checkpoint.note, sign=sign)


def extract_ledger(files: Sequence[Path], key: LedgerKey, task: str, *, at: int) -> Proof:
    """The part of a proof that a resource gives: what its ledger has about a task.

    If the last entries have no checkpoint yet, this signs one.

    InvalidRequest if the files are not those of one ledger of this key, begin in the middle of it, or do not fit.
    """
    reader = LedgerReader([key.note_key])
    hashes: list[bytes] = []
    found: list[tuple[Entry, bytes]] = []
    for nth, path in enumerate(sorted(files, key=_first_entry)):
        with path.open("rb") as opened:
            for fault in follow(reader, opened, str(path), is_last=nth == len(files) - 1):
                raise InvalidRequest(f"this ledger does not fit: {fault.sentence()}")
            opened.seek(0)
            for line in opened:
                entry = read_line(line[:-1])
                if isinstance(entry, Entry):
                    if task_of(Event(entry.number, entry.at, entry.kind, entry.body, b"")) == task:
                        _demand_text(entry)
                        found.append((entry, hashes[-1] if hashes else GENESIS))
                    hashes.append(unb64u(entry.hash))
    if reader.first != 1:
        raise InvalidRequest("the first file of this ledger is missing: give all its files")
    note = reader.notes[-1] if reader.signed == reader.place.position and reader.notes else _note_of(reader, key)
    size = Checkpoint.parse(Note.parse(note).text).size
    runs = RunsInMemory(hashes)
    shown = [
        ProofEvent(
            entry.number,
            entry.at,
            entry.kind,
            entry.body.decode(),
            b64u(before),
            tuple(map(b64u, inclusion_path(entry.number - 1, size, runs.run))),
        )
        for entry, before in found
    ]
    own = [hashes[entry.number - 1] for entry, _ in found]
    return Proof(1, task, (_signed(shown, own, task=task, at=at, note=note, sign=key.sign),))


def _demand_text(entry: Entry) -> None:
    try:
        entry.body.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"entry {entry.number} of this ledger is no text, so no proof can show it") from None


def _signed(shown: list[ProofEvent], hashes: list[bytes], *, task: str, at: int, note: str, sign: Sign) -> Source:
    message = extract_message(task, at, Note.parse(note).text, hashes)
    return Source(task, at, note, tuple(shown), b64u(sign(message)))


def shown_event(reading: Reading, event: Event, path: Iterable[bytes]) -> ProofEvent:
    """An event of a stored log as a proof shows it, with its path."""
    before = reading.event_hashes(after=event.position - 2, limit=1)[0] if event.position > 1 else GENESIS
    hashes = tuple(map(b64u, path))
    return ProofEvent(event.position, event.at, event.kind, event.body.decode(), b64u(before), hashes)


def _position(event: Event) -> int:
    return event.position


def _first_entry(path: Path) -> int:
    with path.open("rb") as opened:
        header = read_line(opened.readline(MAX_LINE + 1).removesuffix(b"\n"))
    if not isinstance(header, Header):
        raise InvalidRequest(f"{path} is no ledger: it does not begin with the first line of one")
    return header.first


def _note_of(reader: LedgerReader, key: LedgerKey) -> str:
    """A note of all entries: whoever writes the ledger has not signed the last ones yet."""
    checkpoint = Checkpoint(reader.origin, reader.place.position, reader.tree.root)
    return signed(checkpoint, [key.signer]).dump()
