"""The archive of a log: files with all its events up to some position, whose decisions have left the store.

    DIR/log-POSITION.jsonl      a ledger file of the log, from the event at POSITION on (capx.ledger.ledger_lines)

Laws:

- An event of an archive counts only if its hash is the one that the store still has for its position.
- Whoever has to show everything about a task calls `demand_whole`: a file that is missing must not hide an event.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from capx.crypto.base64url import unb64u
from capx.errors import InvalidRequest, StoreProblem
from capx.ledger.ledger_check import LedgerReader, follow
from capx.ledger.ledger_lines import MAX_LINE, Entry, read_line
from capx.ledger.note import NoteKey
from capx.store.events import LogArchived, archived_until
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

    def decisions(
        self, reading: Reading, *, containing: str = "", matches: Callable[[Event], bool] | None = None
    ) -> Iterator[Event]:
        """The archived decisions with this text in their line that match, in the order of the log.

        InvalidRequest if a file is missing; StoreProblem if one was changed.
        """
        self.demand_whole(reading)
        until = archived_until(reading)
        text = containing.encode()
        for event in reading.events(kind=LogArchived.kind):
            for entry in _entries(self._folder / event.read(LogArchived).file, text):
                found = Event(entry.number, entry.at, entry.kind, entry.body, unb64u(entry.hash))
                if entry.kind == "decision" and entry.number <= until and (matches is None or matches(found)):
                    _demand_same(reading, entry)
                    yield found

    def decision(self, reading: Reading, id_: str) -> Event | None:
        """The first archived decision with this id; None if there is none."""
        found = self.decisions(reading, containing=f'"{id_}"', matches=lambda event: _id_of(event) == id_)
        return next(found, None)


class _Identified(Struct):
    id: str | None = None


def _id_of(event: Event) -> str | None:
    read = event.read_if(_Identified)
    return None if read is None else read.id


def _entries(file: Path, text: bytes) -> Iterator[Entry]:
    try:
        with file.open("rb", buffering=1 << 20) as opened:
            while line := opened.readline(MAX_LINE + 1):
                # Most lines are not asked for, and to read one takes longer than to look for a text in it.
                if text in line and isinstance(entry := read_line(line.removesuffix(b"\n")), Entry):
                    yield entry
    except OSError as error:
        raise StoreProblem(f"cannot read the archive {file}: {os.strerror(error.errno or 0)}") from None


def _demand_same(reading: Reading, entry: Entry) -> None:
    hashes = (
        reading.event_hashes(after=entry.number - 2, limit=2)
        if entry.number > 1
        else [
            GENESIS,
            *reading.event_hashes(after=0, limit=1),
        ]
    )
    if len(hashes) != 2 or not entry.fits(hashes[0]) or unb64u(entry.hash) != hashes[1]:
        raise StoreProblem(
            f"event {entry.number} in the archive is not the one of this log: somebody changed it, or it is another "
            "archive; capx ledger verify tells more"
        )
