"""The archive of a log: files with all its events up to some position, whose decisions have left the store.

    DIR/log-POSITION.jsonl      a ledger file of the log, from the event at POSITION on (capx.ledger.ledger_lines)

Laws:

- An event of an archive counts only if its hash is the one that the store still has for its position.
- A file is followed from its first event to its last one, whatever is looked for: an event that was changed or removed
  must not be missed silently.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from capx.crypto.base64url import unb64u
from capx.errors import InvalidRequest, StoreProblem
from capx.ledger.ledger_check import LedgerReader, follow
from capx.ledger.ledger_lines import MAX_LINE, Entry, read_line
from capx.ledger.note import NoteKey
from capx.store.events import LogArchived
from capx.store.log import GENESIS, Event
from capx.store.protocols import Reading

_DIGITS: Final = 12


def file_of(folder: Path, first: int) -> Path:
    """The file of an archive whose first event is at this position."""
    return folder / f"log-{first:0{_DIGITS}}.jsonl"


class Part(Struct, frozen=True):
    """One file of an archive that was followed to its end, and fits into itself."""

    file: Path
    reader: LedgerReader

    def demand_fits(self, reading: Reading, *, first: int) -> int:
        """Return its last position; StoreProblem unless it has exactly the events of this log from `first` on."""
        last = self.reader.place
        there = reading.event_hashes(after=last.position - 1, limit=1) if last.position else []
        # The last hash covers all before it, and the reader has computed each of them.
        if self.reader.first != first or there != [last.hash] or self.reader.signed != last.position:
            raise StoreProblem(f"the archive {self.file} is not of this log, or not whole: move it away")
        return last.position


def part_of(file: Path, keys: Sequence[NoteKey]) -> Part:
    """Follow one file of an archive; StoreProblem names the first line that does not fit."""
    reader = LedgerReader(keys)
    try:
        with file.open("rb") as opened:
            for fault in follow(reader, opened, str(file), is_last=True):
                raise StoreProblem(f"the archive is broken: {fault.sentence()}")
    except OSError as error:
        raise StoreProblem(f"cannot read the archive {file}: {error.strerror or error}") from None
    return Part(file, reader)


class Archive:
    """The archive in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def demand_whole(self, reading: Reading) -> None:
        """Raise InvalidRequest if the folder lacks a file that the log names."""
        if not self._folder.is_dir():
            raise InvalidRequest(f"{self._folder} is not a folder: name the one that holds the archive")
        for event in reading.events(kind=LogArchived.kind):
            named = event.read(LogArchived)
            if not (self._folder / named.file).is_file():
                raise InvalidRequest(
                    f"{self._folder} lacks {named.file}, which has the events {named.first} to {named.until}: give the "
                    "folder with all files of the archive"
                )

    def demand_part(self, reading: Reading, part: LogArchived) -> None:
        """Raise StoreProblem unless the file of this part has exactly its events, by the hashes of the store."""
        for _ in _followed(reading, self._folder / part.file, part):
            pass

    def decisions(
        self, reading: Reading, *, naming: str = "", matches: Callable[[Event], bool] | None = None
    ) -> Iterator[Event]:
        """The archived decisions that match, in the order of the log; `naming`: with this text (an id) in their bodies.

        InvalidRequest if a file is missing. StoreProblem, at the latest behind the last decision, if one was changed.
        """
        self.demand_whole(reading)
        text = naming.encode()
        for event in reading.events(kind=LogArchived.kind):
            part = event.read(LogArchived)
            for found in _followed(reading, self._folder / part.file, part):
                # A text may be spelled with escapes.
                if found.kind != "decision" or (text not in found.body and b"\\" not in found.body):
                    continue
                if matches is None or matches(found):
                    _demand_same(reading, found)
                    yield found

    def decision(self, reading: Reading, id_: str) -> Event | None:
        """The first archived decision with this id; None if there is none."""
        return next(self.decisions(reading, naming=id_, matches=lambda event: _id_of(event) == id_), None)


def recorded_decision(reading: Reading, id_: str, archive: Archive | None) -> Event | None:
    """The first decision with this id, from the store or the archive; None if there is none.

    InvalidRequest if it is in an archive, and none is given.
    """
    event = reading.decision(id_)
    if event is None or not event.is_archived:
        return event
    if archive is None:
        raise InvalidRequest(f"decision {id_!a:.80} is in the archive: name its folder, --archive DIR")
    return archive.decision(reading, id_)


class _Identified(Struct):
    id: str | None = None


def _id_of(event: Event) -> str | None:
    read = event.read_if(_Identified)
    return None if read is None else read.id


def _followed(reading: Reading, file: Path, part: LogArchived) -> Iterator[Event]:
    """The events of a file, each bound to the one before it; StoreProblem if they are not those of the log."""
    position, hash_ = part.first - 1, _hash_at(reading, part.first - 1)
    try:
        with file.open("rb", buffering=1 << 20) as opened:
            while line := opened.readline(MAX_LINE + 1):
                entry = read_line(line.removesuffix(b"\n"))
                if not isinstance(entry, Entry):
                    if entry is None:
                        raise _changed(file, position + 1)
                    continue
                position += 1
                if entry.number != position or not entry.fits(hash_):
                    raise _changed(file, position)
                hash_ = unb64u(entry.hash)
                yield Event(position, entry.at, entry.kind, entry.body, hash_)
    except OSError as error:
        raise StoreProblem(f"cannot read the archive {file}: {error.strerror or error}") from None
    if position != part.until or hash_ != _hash_at(reading, part.until):
        raise _changed(file, position + 1)


def _demand_same(reading: Reading, event: Event) -> None:
    """Raise StoreProblem unless the store has this hash: the end of a file, which binds all of it, may be far."""
    if _hash_at(reading, event.position) != event.hash:
        raise StoreProblem(f"event {event.position} in the archive is not the one of this log: {_CURE}")


def _hash_at(reading: Reading, position: int) -> bytes:
    return next(iter(reading.event_hashes(after=position - 1, limit=1)), b"") if position else GENESIS


def _changed(file: Path, position: int) -> StoreProblem:
    return StoreProblem(f"the archive {file} does not go on with event {position} of this log: {_CURE}")


_CURE: Final = "somebody changed it, or it is another archive; put the right file back"
