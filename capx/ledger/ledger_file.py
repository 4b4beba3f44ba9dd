"""The ledger of a verifier that has no store: a file that only grows, and signs what it holds.

    key = LedgerKey.load("crm-ledger.key")
    recorder = StoreRecorder(LedgerFile("crm.jsonl", key))

    crm.jsonl, crm.N.jsonl          one ledger; N is the number of the first entry of the file
    crm.R.jsonl, crm.R.N.jsonl      another one beside it, of a process that ran at the same time

Laws:

- What `record` has taken is in the file when it returns: it survives the end of the process. With `fsync` it survives a
  crash of the machine.
- One process writes a ledger. A second process, or a forked child, writes one of its own beside it.
- A note stands behind each MOST_UNSIGNED entries, at the end of each file and of the process, and otherwise 60 seconds
  after the first entry without one.
- After a crash, the line that was cut is removed, and an entry says how many bytes it had. A ledger that is broken in
  any other way is not written to.
- A batch is written as a whole, or not at all.
"""

import atexit
import fcntl
import os
import re
import stat
import threading
import time
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from msgspec import Struct, json

from capx import diagnostics
from capx.background import begin_in_each_process
from capx.crypto.base64url import b64u
from capx.crypto.private_file import explained, of_another_user, sync, writable_by_others
from capx.errors import ConfigurationProblem, StoreProblem
from capx.ledger.checkpoint import Checkpoint, signed
from capx.ledger.ledger_check import MOST_UNSIGNED, LedgerReader, follow
from capx.ledger.ledger_lines import MAX_LINE, Header, entry_line, note_line
from capx.ledger.note_keys import LedgerKey
from capx.ledger.tree import Frontier
from capx.store.log import Place, digest
from capx.store.records import DecisionRecord, Unwritable

NOTE_AFTER: Final = 60.0
"""Seconds after which an entry stands under a note."""
ROTATE_AT: Final = 64 << 20
"""The bytes of a file, after which the next one begins."""
_LOOKS: Final = 100


class _Written(Struct, frozen=True):
    """How far a file is written: its bytes, its last entry, the tree up to it, and the last entry under a note."""

    size: int
    place: Place
    hashes: tuple[bytes, ...]
    signed: int

    @property
    def frontier(self) -> Frontier:
        """The tree up to the last entry, which may grow."""
        return Frontier(self.place.position, self.hashes)


class LedgerFile:
    """The ledger in the file at `path`, signed with `key`; several threads may use it.

    ConfigurationProblem if the file is not a ledger of this key, or may be changed by others. StoreProblem if it is
    broken, or cannot be written.
    """

    def __init__(
        self,
        path: Path | str,
        key: LedgerKey,
        *,
        fsync: bool = False,
        rotate_at: int = ROTATE_AT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = Path(path).absolute()
        self._key = key
        self._fsync = fsync
        self._rotate_at = rotate_at
        self._clock = clock
        self._handle: int | None = None
        self._timer: threading.Timer | None = None
        # The file and the bytes of it that are good, if what a failed write left could not be removed.
        self._to_cut: tuple[Path, int] | None = None
        begin_in_each_process(self._begin)
        with self._lock:
            self._open()
        _open_ledgers.add(self)

    def _begin(self) -> None:
        # A forked child opens a ledger of its own at its first entry. That it closes its copy of the handle leaves the
        # lock with its parent.
        self._lock = threading.RLock()
        if self._handle is not None:
            os.close(self._handle)
        self._handle = self._timer = self._to_cut = None
        self._closed = False

    def __repr__(self) -> str:
        return f"LedgerFile({str(self._path)!r}, {self._key.name!r})"

    @property
    def file(self) -> Path:
        """The file that is written now."""
        with self._lock:
            self._demand_open()
            return self._file

    def record(self, decisions: Sequence[DecisionRecord]) -> None:
        """Write decisions, in their order; StoreProblem, and none is written, if the file cannot take them."""
        with self._lock:
            self._demand_open()
            self._write([("decision", one.at, one.body) for one in decisions])
            if self._written.size >= self._rotate_at:
                # The entries are written. What fails here is tried again with the next ones.
                with _told():
                    self._rotate()

    def note(self) -> str | None:
        """Sign what is not signed yet, and return the note; None if everything stands under one."""
        with self._lock:
            self._demand_open()
            written = self._written
            if written.place.position == written.signed:
                return None
            note = self._signed(written.place.position, written.frontier.root)
            self._append(note_line(note), written.place, written.hashes, written.place.position)
            return note

    def close(self) -> None:
        """Sign what is not signed yet, and let the file go."""
        with self._lock:
            if self._closed:
                return
            if self._timer is not None:
                self._timer.cancel()
            try:
                if self._handle is not None:
                    self.note()
            finally:
                self._closed = True
                self._let_go()

    def _demand_open(self) -> None:
        if self._closed:
            raise StoreProblem(f"the ledger {self._path} was closed")
        if self._handle is None:
            self._open()

    def _let_go(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    # To open

    def _open(self) -> None:
        """Open the first ledger of this path that no other process writes, or begin one."""
        with explained(StoreProblem, f"cannot write the ledger {self._path}"):
            # Another process may begin or end a file meanwhile: then look again.
            for _ in range(_LOOKS):
                if self._took():
                    return
        raise StoreProblem(f"cannot write the ledger {self._path}: other processes change it all the time")

    def _took(self) -> bool:
        newest = _newest(self._path)
        for name, file in newest.items():
            handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if _is_locked(handle) and _newest(self._path).get(name) == file:
                    self._go_on(handle, file, name)
                    return True
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)
        name = f".{b64u(os.urandom(16))}" if "" in newest else ""
        origin = f"{self._key.name}/{b64u(os.urandom(16))}"
        return self._create(_named(self._path, name, 1), Header.after(origin, Place(), Frontier()), name)

    def _create(self, file: Path, header: Header, name: str) -> bool:
        """Begin a file; False if another process was faster."""
        draft = file.with_name(f".{file.name}.{os.getpid()}.new")
        handle = os.open(draft, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # It gets its name when it is locked and has its first line: nobody ever sees less.
            _is_locked(handle)
            line = header.line()
            os.write(handle, line)
            os.fsync(handle)
            os.link(draft, file)
            sync(file.parent)
        except FileExistsError:
            os.close(handle)
            return False
        except BaseException:
            os.close(handle)
            raise
        finally:
            with suppress(OSError):
                draft.unlink()
        place, tree = header.start() or (Place(), Frontier())
        self._let_go()
        self._use(handle, file, name, header.origin)
        self._written = _Written(len(line), place, tree.hashes, place.position)
        return True

    def _go_on(self, handle: int, file: Path, name: str) -> None:
        """Go on behind the last entry of a file, and say so if a crash has cut its last line."""
        _demand_ours(file, os.fstat(handle))
        if self._to_cut is not None and self._to_cut[0] == file:
            os.ftruncate(handle, self._to_cut[1])
            self._to_cut = None
        reader = LedgerReader([self._key.note_key])
        with os.fdopen(os.dup(handle), "rb") as opened:
            faults = list(follow(reader, opened, str(file), is_last=True))
            size = opened.seek(0, os.SEEK_END)
            opened.seek(-min(size, MAX_LINE), os.SEEK_END)
            cut = len(opened.read().rpartition(b"\n")[2])
        if reader.origin and not reader.origin.startswith(f"{self._key.name}/"):
            raise ConfigurationProblem(
                f"{file} is the ledger {reader.origin!a:.120}, and the key is of {self._key.name}: give its own key"
            )
        if len(faults) > (cut > 0) or not reader.origin:
            why = faults[0].sentence() if faults and len(faults) > (cut > 0) else f"{file} has no whole first line"
            raise StoreProblem(f"the ledger is broken, so nothing is written to it: move its files away ({why})")
        if cut:
            os.ftruncate(handle, size - cut)
        self._use(handle, file, name, reader.origin)
        self._written = _Written(size - cut, reader.place, reader.tree.hashes, reader.signed)
        try:
            # First what the crash has left, then what comes: so few entries ever stand behind one note.
            self.note()
            if cut:
                self._write([("resumed", int(self._clock()), json.encode({"cut": cut}))])
        except BaseException:
            self._handle = None
            raise

    def _use(self, handle: int, file: Path, name: str, origin: str) -> None:
        self._handle, self._file, self._name, self._origin = handle, file, name, origin

    # To write

    def _write(self, entries: Sequence[tuple[str, int, bytes]]) -> None:
        lines = bytearray()
        place, tree, signed_up_to = self._written.place, self._written.frontier, self._written.signed
        for kind, at, body in entries:
            number = place.position + 1
            hash_ = digest(place.hash, number, at, kind, body)
            line = entry_line(number, at, kind, hash_, body)
            if len(line) > MAX_LINE or b"\r" in body or b"\n" in body or not body.startswith(b"{"):
                raise Unwritable(f"a ledger cannot hold this decision of {len(body)} bytes")
            lines += line
            place = Place(number, hash_)
            tree.append(hash_)
            if number - signed_up_to == MOST_UNSIGNED:
                lines += note_line(self._signed(number, tree.root))
                signed_up_to = number
        self._append(bytes(lines), place, tree.hashes, signed_up_to)
        if place.position > signed_up_to and self._timer is None:
            self._timer = threading.Timer(NOTE_AFTER, self._note_later)
            self._timer.daemon = True
            # If no thread can be started, the note comes with a later one.
            with suppress(RuntimeError, MemoryError):
                self._timer.start()

    def _append(self, lines: bytes, place: Place, hashes: tuple[bytes, ...], signed_up_to: int) -> None:
        """Write lines, all or none, so that whoever tries again writes nothing twice."""
        handle = self._handle
        if handle is None:
            raise StoreProblem(f"the ledger {self._path} is not open")
        try:
            done = 0
            while done < len(lines):
                done += os.write(handle, lines[done:])
            if self._fsync:
                os.fsync(handle)
        except BaseException as error:
            try:
                os.ftruncate(handle, self._written.size)
            except OSError:
                self._to_cut = self._file, self._written.size
                self._let_go()
            if isinstance(error, OSError):
                raise StoreProblem(f"cannot write the ledger {self._file}: {error.strerror or error}") from None
            raise
        self._written = _Written(self._written.size + len(lines), place, hashes, signed_up_to)

    def _signed(self, size: int, root: bytes) -> str:
        return signed(Checkpoint(self._origin, size, root), [self._key.signer]).dump()

    def _note_later(self) -> None:
        with self._lock, _told():
            self._timer = None
            if not self._closed and self._handle is not None:
                self.note()

    def _rotate(self) -> None:
        """Sign the last entries of the file, and begin the next one."""
        self.note()
        header = Header.after(self._origin, self._written.place, self._written.frontier)
        with explained(StoreProblem, f"cannot begin the next file of the ledger {self._path}"):
            self._create(_named(self._path, self._name, header.first), header, self._name)


@contextmanager
def _told() -> Generator[None]:
    """A block whose StoreProblem is a warning."""
    try:
        yield
    except StoreProblem as problem:
        diagnostics.warn_once(f"the ledger is not complete: {problem}")


def ledger_files(path: Path) -> list[Path]:
    """The files of all ledgers with this path, oldest first in each."""
    return [file for files in _families(path.absolute()).values() for _, file in sorted(files)]


def _families(path: Path) -> dict[str, list[tuple[int, Path]]]:
    """The files of each ledger of this path, with the numbers of their first entries; the ledger of the path first."""
    found: dict[str, list[tuple[int, Path]]] = {}
    stem, suffix = re.escape(path.stem), re.escape(path.suffix)
    form = re.compile(rf"{stem}(\.[A-Za-z0-9_-]{{22}})?(?:\.([1-9][0-9]{{0,15}}))?{suffix}")
    for file in sorted(path.parent.iterdir()):
        if match := form.fullmatch(file.name):
            found.setdefault(match[1] or "", []).append((int(match[2] or 1), file))
    return dict(sorted(found.items()))


def _is_locked(handle: int) -> bool:
    """Lock a file for this process; False if another one has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _newest(path: Path) -> dict[str, Path]:
    return {name: max(files)[1] for name, files in _families(path).items()}


def _named(path: Path, name: str, first: int) -> Path:
    number = "" if first == 1 else f".{first}"
    return path.with_name(f"{path.stem}{name}{number}{path.suffix}")


def _demand_ours(file: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationProblem(f"{file} is not a regular file: choose another name for the ledger")
    if of_another_user(found) or writable_by_others(found):
        raise ConfigurationProblem(f"{file} may be changed by others: chown it, and chmod 600 {file}")


_open_ledgers: "weakref.WeakSet[LedgerFile]" = weakref.WeakSet()


def _close_at_exit() -> None:
    for ledger in list(_open_ledgers):
        with suppress(Exception):
            ledger.close()


atexit.register(_close_at_exit)
