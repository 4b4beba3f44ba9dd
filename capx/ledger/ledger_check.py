"""Follows the lines of a ledger, and says by line and entry what does not fit.

Laws:

- Every entry is bound to all before it by its hash, and every note binds all entries before it. So an entry that was
  edited, removed, moved or doubled is found at its line. A part that was written anew with all its hashes is found
  between two notes.
- A note counts only with a signature of a key that the caller knows.
- A tail that was cut off behind the last note cannot be seen. `unsigned` says how many entries stand behind it.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Final

from msgspec import Struct

from capx.crypto.base64url import unb64u
from capx.errors import InvalidRequest, MalformedToken
from capx.ledger.checkpoint import Checkpoint
from capx.ledger.ledger_lines import MAX_LINE, Entry, Header, read_line
from capx.ledger.note import BadNote, Note, NoteKey
from capx.ledger.tree import Frontier
from capx.ledger.witness import is_origin_of
from capx.store.log import Place

MOST_UNSIGNED: Final = 1_000
"""The most entries behind a note, before the next note stands in the file."""
MOST_FAULTS: Final = 100
"""The most faults that are told of one ledger."""


class Fault(Struct, frozen=True):
    """What does not fit: the file, its line (from 1), and the number of the entry, if it is about one."""

    file: str
    line: int
    entry: int | None
    why: str

    def sentence(self) -> str:
        """The fault in words."""
        where = "" if self.entry is None else f", entry {self.entry}"
        return f"{self.file}, line {self.line}{where}: {self.why}"


class LedgerReport(Struct, frozen=True):
    """What was found in the files of one ledger.

    `first` and `last` are the numbers of its first and last entry here (0 if there is none), and `unsigned` is how many
    of the last ones stand under no good note. `faults` are the first ones, at most MOST_FAULTS.
    """

    origin: str
    files: tuple[str, ...]
    first: int
    last: int
    unsigned: int
    notes: int
    faults: tuple[Fault, ...]


class LedgerReader:
    """Follows the lines of one ledger, from the first file on."""

    def __init__(self, keys: Iterable[NoteKey]) -> None:
        self._keys = list(keys)
        self.origin = ""
        self.place: Place = Place()
        self.tree: Frontier = Frontier()
        self.first = 0
        """The number of the first entry that was read; 0 before."""
        self.signed = 0
        """The number of the last entry that stands under a good note."""
        self.notes: list[str] = []
        """The good notes."""
        self._begun = False
        # After a fault, the root of the tree says nothing any more.
        self._is_whole = True

    def take_header(self, line: bytes) -> str | None:
        """Read the first line of a file; return what does not fit."""
        header = read_line(line)
        start = header.start() if isinstance(header, Header) else None
        if not isinstance(header, Header) or start is None:
            return self._fault("is not the first line of a ledger")
        if not self._begun:
            self._begun = True
            self.origin, (self.place, self.tree) = header.origin, start
            self.first, self.signed = header.first, header.first - 1
            return None
        place, tree = start
        why = None
        if header.origin != self.origin:
            why = f"the file is of another ledger, {header.origin!a:.120}"
        elif place.position != self.place.position:
            why = f"the file begins with entry {header.first}, and entry {self.place.position + 1} should follow"
        elif place.hash != self.place.hash or (self._is_whole and tree.hashes != self.tree.hashes):
            why = "the file does not go on from the entries before it"
        self.place, self.tree = place, tree
        return None if why is None else self._fault(why)

    def take(self, line: bytes) -> str | None:
        """Read another line, without its end; return what does not fit."""
        found = read_line(line)
        if isinstance(found, Entry):
            return self._take_entry(found)
        if isinstance(found, str):
            return self._take_note(found)
        return self._fault("is not spelled as a line of a ledger" if found is None else "is the first line of a file")

    def _take_entry(self, entry: Entry) -> str | None:
        before, expected = self.place.hash, self.place.position + 1
        try:
            stated = unb64u(entry.hash)
        except MalformedToken:
            return self._fault("its hash is not spelled as a ledger spells it")
        self.place = Place(entry.number, stated)
        if entry.number != expected:
            return self._fault(
                f"entry {entry.number} is where entry {expected} should be: one was removed, moved or doubled"
            )
        if not entry.fits(before):
            return self._fault("its hash does not fit: this entry was edited, or the hash of the one before it")
        self.tree.append(stated)
        if self._is_whole and entry.number - self.signed > MOST_UNSIGNED:
            return self._fault(f"more than {MOST_UNSIGNED} entries stand behind one note: a note was removed")
        return None

    def _take_note(self, text: str) -> str | None:
        try:
            note = Note.parse(text)
            checkpoint = Checkpoint.parse(note.text)
            known = [key for key in self._keys if is_origin_of(key, checkpoint.origin)]
            signed = note.signed_by(known)
        except BadNote as problem:
            return self._fault(f"the note is not good: {problem}")
        if not signed:
            return self._fault("no known key of this ledger has signed the note")
        if checkpoint.origin != self.origin:
            return self._fault(
                f"the note is of {checkpoint.origin!a:.120}: it is another ledger's, or the first line was edited"
            )
        if not self._is_whole:
            # The faults before it are told; what it binds cannot be computed any more.
            return None
        last = self.place.position
        if checkpoint.size != last or last <= self.signed:
            return self._fault(f"the note is for {checkpoint.size} entries, and here are {last}, {self.signed} signed")
        if checkpoint.root != self.tree.root:
            return self._fault(f"entries {self.signed + 1} to {last} are not those that were signed")
        self.signed = last
        self.notes.append(text)
        return None

    def _fault(self, why: str) -> str:
        self._is_whole = False
        return why


def check_ledger(files: Sequence[Path], keys: Iterable[NoteKey]) -> list[LedgerReport]:
    """Check the files of one or several ledgers, in any order; return a report for each.

    OSError if a file cannot be read, and InvalidRequest if one is no file of a ledger at all.
    """
    keys = list(keys)
    by_origin: dict[str, list[tuple[int, Path]]] = {}
    for path in files:
        with path.open("rb") as opened:
            header = read_line(opened.readline(MAX_LINE + 1).removesuffix(b"\n"))
        if not isinstance(header, Header):
            raise InvalidRequest(f"{path} is no ledger: it does not begin with the first line of one")
        by_origin.setdefault(header.origin, []).append((header.first, path))
    return [_report([path for _, path in sorted(parts)], keys) for parts in by_origin.values()]


def _report(files: Sequence[Path], keys: Sequence[NoteKey]) -> LedgerReport:
    reader = LedgerReader(keys)
    faults = tuple(islice(_faults(reader, files), MOST_FAULTS))
    last = reader.place.position
    return LedgerReport(
        origin=reader.origin,
        files=tuple(map(str, files)),
        first=reader.first if last >= reader.first else 0,
        last=last,
        unsigned=last - reader.signed,
        notes=len(reader.notes),
        faults=faults,
    )


def _faults(reader: LedgerReader, files: Sequence[Path]) -> Iterator[Fault]:
    for at, path in enumerate(files, 1):
        with path.open("rb") as opened:
            yield from follow(reader, opened, str(path), is_last=at == len(files))


def follow(reader: LedgerReader, opened: IO[bytes], name: str, *, is_last: bool) -> Iterator[Fault]:
    """Follow the lines of one file, and yield what does not fit."""
    for number, line in enumerate(iter(lambda: opened.readline(MAX_LINE + 1), b""), 1):
        if not line.endswith(b"\n"):
            cut = f"the last line was cut after {len(line)} bytes"
            crash = ", as a crash leaves it: whoever writes the ledger goes on before it" if is_last else ""
            yield Fault(name, number, None, f"{cut}{crash}" if len(line) <= MAX_LINE else "the line is too long")
            return
        take = reader.take_header if number == 1 else reader.take
        if why := take(line[:-1]):
            yield Fault(name, number, reader.place.position or None, why)
