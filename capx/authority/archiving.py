"""Moves old decisions out of the store, into files: the ledger files of the authority's own log.

    checkpoint → one file of the next events, notes included → read back whole → event log_archived
    → the bodies of its decisions leave the store

    DIR/log-POSITION.jsonl      POSITION of its first event, 12 digits; at most about 64 MiB

Laws:

- Every event is in the files, whole. Only decisions leave the store, as they are most of a log: whatever life and death
  of a token stand on stays. The hash of each event stays, too, and so does the tree beside the log.
- Nothing leaves the store before its file is on the disk, was read back and fits the log, and before the log says so.
- It can be killed at any time. The next run goes on where it was, and needs the files in the same folder.
- What belongs to a task that may still have a live token is not archived, nor what happened in the last days.
- The store answers meanwhile. Events are read and taken out some hundreds at a time.
"""

import fcntl
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from msgspec import Struct

from capx.authority.checkpoints import log_signers, origin_of
from capx.crypto.keys import KeyRing
from capx.errors import InvalidRequest, StoreProblem
from capx.ledger.archive import Archive, file_of, part_of
from capx.ledger.checkpoint import Checkpoint, signed
from capx.ledger.ledger_check import MOST_UNSIGNED
from capx.ledger.ledger_lines import MAX_LINE, Header, entry_line, note_line
from capx.ledger.note import NoteSigner
from capx.ledger.stored_tree import StoredTree
from capx.ledger.tree import Frontier
from capx.store.decision_index import BLOCK
from capx.store.events import LogArchived, TaskOpened, archived_until
from capx.store.log import Event, Place
from capx.store.protocols import Reading, Store

LARGEST: Final = 64 << 20
"""The bytes of a file, from which the next one begins."""
_AT_ONCE: Final = 500
"""The events that one transaction reads, or takes out of the store."""
_RUN: Final = 256
"""Files end where the tree beside the log keeps a hash (capx.ledger.stored_tree)."""


class Archived(Struct, frozen=True):
    """What was archived: the positions of the first and last event, its files, and how many decisions left the store.

    If nothing was, `last` is below `first`.
    """

    first: int
    last: int
    files: tuple[str, ...]
    decisions: int


def closed_until(reading: Reading, *, before: int, now: int) -> int:
    """The last position that may be archived: nothing up to it happened from `before` on, or is of a living task."""
    checkpoint = reading.checkpoint()
    end = min(0 if checkpoint is None else checkpoint.size, reading.indexed_blocks() * BLOCK)
    oldest = reading.oldest_unexpired(now)
    if oldest is not None:
        opening = next(reading.events(task=oldest.id, kind=TaskOpened.kind), None)
        end = min(end, 0 if opening is None else opening.position - 1)
    # The times of decisions are what resources say.
    young = reading.first_event(before)
    return min(end, end if young is None else young - 1) // _RUN * _RUN


class Archiver:
    """Archives the log of one store into a folder; `progress` is called with each position that was reached."""

    def __init__(
        self,
        store: Store,
        keyring: KeyRing,
        folder: Path,
        *,
        clock: Callable[[], int],
        largest: int = LARGEST,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._folder = folder
        self._clock = clock
        self._largest = largest
        self._progress = progress

    def run(self, *, before: int) -> Archived:
        """Archive all closed events from before that time (Unix seconds); the log must stand under a checkpoint.

        InvalidRequest if the folder lacks what was archived before, StoreProblem if a file cannot be written, or does
        not fit the log.
        """
        with _alone(self._folder):
            return self._run(before)

    def _run(self, before: int) -> Archived:
        with self._store.read() as reading:
            begun = archived_until(reading)
            end = closed_until(reading, before=before, now=self._clock())
            Archive(self._folder).demand_whole(reading)
        taken, files = self._go_on(), list[str]()
        at = begun
        while at < end:
            name, last = self._write_part(at + 1, end)
            with self._store.write() as transaction:
                if archived_until(transaction) != at:
                    raise StoreProblem("another process archives this log: let it end")
                LogArchived(first=at + 1, until=last, file=name).write(transaction, at=self._clock())
            taken += self._take_out(at, last)
            files.append(name)
            at = last
        return Archived(begun + 1, at, tuple(files), taken)

    def _go_on(self) -> int:
        """Take out what a killed run has left, after its files were read back; return how many decisions."""
        with self._store.read() as reading:
            left = reading.unarchived(after=0, until=archived_until(reading))
            named = [event.read(LogArchived) for event in reading.events(kind=LogArchived.kind)]
        if left is None:
            return 0
        taken, archive = 0, Archive(self._folder)
        for part in named:
            if part.until >= left:
                # By the hashes of the store: the key that signed the file may have been retired since.
                with self._store.read() as reading:
                    archive.demand_part(reading, part)
                taken += self._take_out(part.first - 1, part.until)
        return taken

    def _take_out(self, after: int, until: int) -> int:
        taken = 0
        with self._store.read() as reading:
            left = reading.unarchived(after=after, until=until)
        while left is not None:
            with self._store.write(durable=False) as transaction:
                taken += transaction.take_out_decisions(after=left - 1, until=min(until, left - 1 + _AT_ONCE))
                left = transaction.unarchived(after=left - 1, until=until)
        return taken

    def _write_part(self, first: int, end: int) -> tuple[str, int]:
        """Write the file of the events from `first` on, or take what a killed run has left; return its name and end.

        It gets its name when it is whole and was read back. No file is ever replaced: it may be the only one.
        """
        file = file_of(self._folder, first)
        if not file.exists():
            draft = file.with_name(f".{file.name}.new")
            try:
                # What a killed run has left may be another name of a file that is in use.
                draft.unlink(missing_ok=True)
                handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                with os.fdopen(handle, "wb") as opened:
                    self._write(opened, first, end)
                    opened.flush()
                    os.fsync(opened.fileno())
                self._demand_fits(draft, first)
                os.link(draft, file)
                _sync(self._folder)
            except OSError as error:
                raise StoreProblem(f"cannot write the archive {file}: {error.strerror or error}") from None
            finally:
                draft.unlink(missing_ok=True)
        last = self._demand_fits(file, first)
        if not first <= last <= end or last % _RUN:
            raise StoreProblem(f"the archive {file} ends with event {last}, which is still in use: move it away")
        return file.name, last

    def _demand_fits(self, file: Path, first: int) -> int:
        with self._store.read() as reading:
            keys = [signer.key for signer in log_signers(self._keyring, reading.head().epoch)]
            return part_of(file, keys).demand_fits(reading, first=first)

    def _write(self, opened: IO[bytes], first: int, end: int) -> None:
        with self._store.read() as reading:
            epoch = reading.head().epoch
            place = Place(first - 1, reading.event_hashes(after=first - 2, limit=1)[0]) if first > 1 else Place()
            tree = StoredTree(reading).frontier(first - 1)
        signers = log_signers(self._keyring, epoch)
        opened.write(Header.after(origin_of(epoch), place, tree).line())
        noted = tree.size
        for event in self._events(first - 1, end):
            line = entry_line(event.position, event.at, event.kind, event.hash, event.body)
            if len(line) > MAX_LINE:
                raise InvalidRequest(f"event {event.position} cannot be archived: it has {len(event.body)} bytes")
            opened.write(line)
            tree.append(event.hash)
            at_end = tree.size % _RUN == 0 and (opened.tell() >= self._largest or tree.size == end)
            if at_end or tree.size - noted == MOST_UNSIGNED:
                opened.write(note_line(_note(epoch, tree, signers)))
                noted = tree.size
            if at_end:
                return

    def _events(self, after: int, end: int) -> Iterator[Event]:
        while after < end:
            # A transaction for each piece: nobody waits for the whole.
            with self._store.read() as reading:
                piece = list(reading.events(after=after, limit=min(_AT_ONCE, end - after)))
            if not piece:
                raise StoreProblem(f"the log lacks event {after + 1}: run capx store check")
            yield from piece
            after = piece[-1].position
            if self._progress is not None:
                self._progress(after)


def _note(epoch: str, tree: Frontier, signers: list[NoteSigner]) -> str:
    return signed(Checkpoint(origin_of(epoch), tree.size, tree.root), signers).dump()


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """A block in which no other process archives into this folder; StoreProblem if one does."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidRequest(f"{folder} cannot be used for an archive: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise StoreProblem(f"another process archives into {folder}: let it end") from None
    finally:
        os.close(handle)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
