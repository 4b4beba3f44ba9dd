"""Checkpoints of the authority's log: it signs the size and the root of the tree beside the log.

    capx/EPOCH      the origin of the log, and the name of its keys

Laws:

- A log is signed for only if it goes on from the last checkpoint, which stands in the store and in a file beside the
  root keys. So a database that was put back by hand makes no second history.
- A restored store has another epoch. So it is another log, and contradicts nothing that was signed before.
- What is signed for is on the disk.
- All live root keys sign, so a reader may know the old one or the new one.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from capx.crypto import private_file
from capx.crypto.keys import KeyRing
from capx.errors import BrokenLog, ConfigurationProblem, InvalidRequest, StoreProblem
from capx.intents.epoch import authority_of, began
from capx.ledger.checkpoint import Checkpoint, opened, signed
from capx.ledger.note import MAX_NOTE, BadNote, Note, NoteKey, NoteSigner
from capx.ledger.stored_tree import NewRuns, StoredTree, check_tree, new_runs
from capx.ledger.witness import AddCheckpoint
from capx.resource.feed.page import read_page
from capx.store.check import check_store
from capx.store.protocols import Reading, Store, Writing
from capx.store.records import CheckpointRecord

_ORIGIN: Final = "capx/"


class Held(Struct, frozen=True):
    """What the log was held to: its size, and the number of checkpoints, notes and pages."""

    size: int
    checkpoints: int
    notes: int
    pages: int


def log_signers(keyring: KeyRing, epoch: str) -> list[NoteSigner]:
    """What signs for the log in this epoch: one for each live root key, that of the active one first."""
    return [NoteSigner(origin_of(epoch), signer) for signer in keyring.log_signers()]


def origin_of(epoch: str) -> str:
    """The origin of the log of a store in this epoch."""
    return f"{_ORIGIN}{epoch}"


class Checkpoints:
    """Makes and checks the checkpoints of one log. `file` holds the last one, beside the root keys.

    `keyring` gives the root keys as they are now, and `clock` the time (Unix seconds).
    """

    def __init__(
        self, store: Store, keyring: Callable[[], KeyRing], *, file: Path | None, clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._file = None if file is None else _CheckpointFile(file)
        self._clock = clock

    def public_keys(self) -> list[NoteKey]:
        """The public keys that sign this log, one for each live root key."""
        with self._store.read() as reading:
            return self._keys(reading)

    def make(self) -> CheckpointRecord:
        """Sign the log as it is now, and return the checkpoint; if nothing was added, it is that of the last time.

        StoreProblem if the log does not go on from the last checkpoint: then nothing is signed.
        """
        known = None if self._file is None else self._file.read()
        with self._store.read() as reading:
            head = reading.head()
            last = reading.checkpoint()
            runs = new_runs(reading, head.position)
            tree = StoredTree(reading, runs)
            checkpoint = Checkpoint(origin_of(head.epoch), head.position, tree.root(head.position))
            for before in (None if last is None else _parsed(last), known):
                if before is not None:
                    _demand_continues(tree, before, checkpoint)
        note = signed(checkpoint, log_signers(self._keyring(), head.epoch)).dump()
        # Durable: an event that a crash could still take away must not stand under a signature.
        with self._store.write() as transaction:
            record = _kept(transaction, CheckpointRecord(checkpoint.size, self._clock(), note), runs)
        if self._file is not None:
            self._file.keep(record.note)
        return record

    def last(self) -> CheckpointRecord:
        """The last checkpoint; InvalidRequest if none was made, or if only keys that are gone have signed it."""
        with self._store.read() as reading:
            return self._last(reading)

    def check(self, *, notes: Sequence[str] = (), pages: Sequence[str] = ()) -> Held:
        """Compute the tree again, and hold the log to all checkpoints, and to notes and feed pages that others kept.

        StoreProblem or BadNote says what does not fit.
        """
        keyring = self._keyring()
        feed = {key.kid: key.public for key in keyring.feed_signers()}
        with self._store.read() as reading:
            head = reading.head()
            check_store(reading)
            check_tree(reading)
            tree, keys = StoredTree(reading, new_runs(reading, head.position)), self._keys(reading)
            own = Checkpoint(origin_of(head.epoch), head.position, tree.root(head.position))
            known = None if self._file is None else self._file.read()
            for before in (known, *(opened(note, keys) for note in notes)):
                if before is not None:
                    _demand_continues(tree, before, own)
            for text in pages:
                place = read_page(text, feed, now=self._clock()).head
                if place.epoch != head.epoch:
                    raise InvalidRequest(f"the page is of the log {place.epoch}, and this one is {head.epoch}")
                there = reading.event_hashes(after=place.position - 1, limit=1) if place.position else [place.hash]
                if there != [place.hash]:
                    raise BrokenLog(place.position, "a page of the feed names another event there")
            return Held(head.position, sum(1 for _ in reading.checkpoints()), len(notes), len(pages))

    def request(self, old: int) -> AddCheckpoint:
        """The request to a witness to cosign the last checkpoint; `old` is the size that it has cosigned."""
        with self._store.read() as reading:
            record = self._last(reading)
            if old > record.size:
                raise InvalidRequest(
                    f"the last checkpoint has {record.size} events, and the witness names {old}: give its last size"
                )
            return AddCheckpoint(old, tuple(StoredTree(reading).consistency_path(old, record.size)), record.note)

    def add(self, lines: Iterable[str], witnesses: Iterable[NoteKey]) -> CheckpointRecord:
        """Keep the lines of these witnesses below the last checkpoint, and return it.

        BadNote if a line of one of them is not good, or if none of them has signed.
        """
        note = Note.parse(self.last().note)
        # Alone: a line of an unknown key must not come into the note.
        added = Note(note.text, ()).with_lines(lines)
        good = [line.text() for _, line in added.signed_by(witnesses)]
        if not good:
            raise BadNote("none of these witnesses has signed this checkpoint")
        with self._store.write() as transaction:
            record = transaction.checkpoint(Checkpoint.parse(note.text).size)
            if record is None or Note.parse(record.note).text != note.text:
                raise StoreProblem("this checkpoint is not in the store any more: send the last one")
            cosigned = CheckpointRecord(record.size, record.at, Note.parse(record.note).with_lines(good).dump())
            transaction.keep_checkpoint(cosigned)
        return cosigned

    def send(self, url: str, witnesses: Sequence[NoteKey]) -> CheckpointRecord:
        """Let the witness at this URL cosign the last checkpoint, and return it with its line; StoreProblem if not."""
        from capx.ledger.witness_client import cosignatures  # needs httpx

        return self.add(cosignatures(url, self.request), witnesses)

    def _last(self, reading: Reading) -> CheckpointRecord:
        record, origin = reading.checkpoint(), origin_of(reading.head().epoch)
        if record is None or _parsed(record).origin != origin:
            raise InvalidRequest("nobody has signed this log yet: run capx checkpoint make")
        if not Note.parse(record.note).signed_by(self._keys(reading)):
            raise InvalidRequest("only root keys that are gone have signed the last checkpoint: make another one")
        return record

    def _keys(self, reading: Reading) -> list[NoteKey]:
        return [signer.key for signer in log_signers(self._keyring(), reading.head().epoch)]


class _CheckpointFile:
    """The file beside the root keys that holds the last checkpoint."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Checkpoint | None:
        """The checkpoint that it holds; None if there is no file. ConfigurationProblem for another file."""
        with private_file.explained(ConfigurationProblem, f"cannot read {self._path}"):
            if not self._path.exists():
                return None
            held = private_file.read_secret(self._path, ConfigurationProblem, "checkpoint", 4 * MAX_NOTE)
        try:
            return Checkpoint.parse(Note.parse(held.decode()).text)
        except (BadNote, UnicodeDecodeError) as problem:
            raise ConfigurationProblem(
                f"{self._path} does not hold the last checkpoint, so nothing is signed for this log: put it back from "
                f"your backup ({problem})"
            ) from None

    def keep(self, note: str) -> None:
        """Write this note, unless the file holds a checkpoint that is as far."""
        new = Checkpoint.parse(Note.parse(note).text)
        with private_file.changing(self._path, ConfigurationProblem) as file:
            held = self.read()
            if held is None or held.origin != new.origin or held.size < new.size:
                private_file.replace(file, note.encode, ConfigurationProblem)


def _parsed(record: CheckpointRecord) -> Checkpoint:
    try:
        return Checkpoint.parse(Note.parse(record.note).text)
    except BadNote:
        raise StoreProblem(
            f"the checkpoint of {record.size} events in the store is damaged: run capx store check"
        ) from None


def _demand_continues(tree: StoredTree, before: Checkpoint, now: Checkpoint) -> None:
    """Raise StoreProblem unless the log goes on from an earlier checkpoint, or is one that was restored later."""
    if before.origin != now.origin:
        earlier, later = before.origin.removeprefix(_ORIGIN), now.origin.removeprefix(_ORIGIN)
        if authority_of(earlier) != authority_of(later) or began(earlier) >= began(later):
            raise StoreProblem(
                f"a checkpoint was signed for {before.origin}, and this store is {now.origin}, which is not later: an "
                "older copy was put in its place; nothing is signed for it"
            )
        return
    if before.size > now.size:
        raise StoreProblem(
            f"a checkpoint of {before.size} events was signed, and the log has {now.size}: an older copy was put in "
            "its place by hand; nothing is signed for it (capx store restore makes a new log)"
        )
    if tree.root(before.size) != before.root:
        raise StoreProblem(
            f"the first {before.size} events are not those that were signed: the log was rewritten, or is another "
            "copy's; nothing is signed for it (capx store check tells more)"
        )


def _kept(transaction: Writing, record: CheckpointRecord, runs: Iterable[NewRuns]) -> CheckpointRecord:
    """Write a checkpoint with its full runs; if another process has made one that is as far, give that one."""
    for new in runs:
        known = max(0, transaction.kept_run_count(new.level) - new.first)
        if fresh := new.hashes[known:]:
            transaction.keep_runs(new.level, new.first + known, fresh)
    last = transaction.checkpoint()
    if last is not None and last.size >= record.size and _parsed(last).origin == _parsed(record).origin:
        return last
    transaction.keep_checkpoint(record)
    return record
