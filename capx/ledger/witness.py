"""A witness: it cosigns a checkpoint only if the log goes on from the last checkpoint that it has cosigned.

    old SIZE LF BASE64( hash ) LF … LF CHECKPOINT NOTE      what it is asked

Laws:

- The checkpoint is in the state file, on the disk, before its cosignature is given out. So after a crash the witness
  never cosigns a smaller tree, nor another one.
- A witness without its state cosigns nothing: a new state must be asked for.
- Two checkpoints of one log that contradict each other are evidence: the error has both notes.

Source: C2SP tlog-witness, add-checkpoint; the answers that it gives numbers of HTTP are errors here.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from capx.crypto import private_file, strict_json
from capx.errors import CapxError, ConfigurationProblem, InvalidRequest
from capx.ledger.base64_text import b64, unb64
from capx.ledger.checkpoint import Checkpoint
from capx.ledger.note import MAX_NOTE, BadNote, Cosigner, Note, NoteKey
from capx.ledger.tree import EMPTY_ROOT, MAX_PATH, is_consistent
from capx_caveats import SAFE_INTEGER

MAX_REQUEST: Final = MAX_NOTE + 4_096
"""The most characters of a request."""
_MAX_STATE: Final = 16 << 20


class NotCosigned(CapxError):
    """The witness does not cosign; says why. `status` is the code that a witness over HTTP answers."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class OtherSize(NotCosigned):
    """The request does not go on from the last checkpoint that the witness has cosigned, which has `size` entries."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the last checkpoint here has {size} entries: prove that the log goes on from there", 409)
        self.size = size


class SplitView(NotCosigned):
    """The log has signed two histories: `cosigned` and `shown` are the notes of checkpoints that contradict."""

    def __init__(self, cosigned: str, shown: str) -> None:
        super().__init__("the log has signed two roots for one size: keep both notes, they are evidence", 409)
        self.cosigned = cosigned
        self.shown = shown


class AddCheckpoint(Struct, frozen=True):
    """A request: a checkpoint, and the path that proves that it goes on from a tree of the size `old`."""

    old: int
    path: tuple[bytes, ...]
    note: str

    def text(self) -> str:
        """The request as it is sent."""
        hashes = "".join(f"{b64(one)}\n" for one in self.path)
        return f"old {self.old}\n{hashes}\n{self.note}"

    @classmethod
    def parse(cls, text: str) -> "AddCheckpoint":
        """Read a request; NotCosigned (400) for any other text."""
        head, blank, note = text.partition("\n\n")
        first, *hashes = head.split("\n")
        size = first.removeprefix("old ")
        try:
            path = tuple(map(unb64, hashes))
        except InvalidRequest:
            path = (b"",)
        is_size = first.startswith("old ") and size.isascii() and size.isdecimal() and str(int(size[:17])) == size
        if not blank or len(text) > MAX_REQUEST or not is_size or int(size) > SAFE_INTEGER:
            raise NotCosigned("this is no request to a witness: it begins with `old SIZE`", 400)
        if len(path) > MAX_PATH or any(len(one) != 32 for one in path):
            raise NotCosigned(f"the path of this request has a line that is no hash, or more than {MAX_PATH}", 400)
        return cls(int(size), path, note)


class _Saved(Struct, frozen=True, forbid_unknown_fields=True):
    capx_witness: int
    logs: dict[str, str]


class WitnessState:
    """The file with the last checkpoint that a witness has cosigned of each log."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self) -> None:
        """Write a new state, of a witness that has cosigned nothing; ConfigurationProblem if there is a file."""
        private_file.create(self._path, lambda: _dumped({}), ConfigurationProblem)

    def cosign(self, request: AddCheckpoint, cosigner: Cosigner, logs: Iterable[NoteKey], *, now: int) -> str:
        """Return the line of a cosignature; NotCosigned says why there is none. `logs` are the logs that are known."""
        note, checkpoint = _opened(request, logs)
        with private_file.changing(self._path, ConfigurationProblem) as file:
            saved = self._read(file)
            _demand_goes_on(saved.get(checkpoint.origin), request, checkpoint)
            saved[checkpoint.origin] = note.dump()
            private_file.replace(file, lambda: _dumped(saved), ConfigurationProblem)
        # Not before: what is given out must be in the state.
        return cosigner.line(note.text, now)

    def _read(self, file: Path) -> dict[str, str]:
        if not file.exists():
            raise ConfigurationProblem(
                f"the state {file} is missing: put it back from your backup. A witness without it may cosign a second "
                "history of a log; for a new witness, make it with capx witness new"
            )
        with private_file.explained(ConfigurationProblem, f"cannot read {file}"):
            held = private_file.read_secret(file, ConfigurationProblem, "state of a witness", _MAX_STATE + 1)
        try:
            saved = strict_json.read(held, _Saved)
            origins = [Checkpoint.parse(Note.parse(note).text).origin for note in saved.logs.values()]
        except (InvalidRequest, BadNote) as problem:
            raise _no_state(file, problem) from None
        if saved.capx_witness != 1 or origins != list(saved.logs):
            raise _no_state(file, "a newer capx wrote it, or a note in it is of another log")
        return saved.logs


def _no_state(file: Path, why: object) -> ConfigurationProblem:
    return ConfigurationProblem(f"{file} is not the state of a witness: put it back from your backup ({why})")


def _opened(request: AddCheckpoint, logs: Iterable[NoteKey]) -> tuple[Note, Checkpoint]:
    try:
        note = Note.parse(request.note)
        checkpoint = Checkpoint.parse(note.text)
    except BadNote as problem:
        raise NotCosigned(str(problem), 400) from None
    known = [key for key in logs if is_origin_of(key, checkpoint.origin)]
    if not known:
        raise NotCosigned(f"the log {checkpoint.origin!a:.120} is not known here: give its key", 404)
    try:
        signed = note.signed_by(known)
    except BadNote as problem:
        raise NotCosigned(str(problem), 403) from None
    if not signed:
        raise NotCosigned("no known key of this log has signed the checkpoint", 403)
    if request.old > checkpoint.size:
        raise NotCosigned("the request goes on from a tree that is larger than the checkpoint", 400)
    return note, checkpoint


def is_origin_of(key: NoteKey, origin: str) -> bool:
    """Whether a key may sign for the log with this origin: it has its name, or a name that the origin goes on from."""
    return key.name == origin or origin.startswith(f"{key.name}/")


def _demand_goes_on(cosigned: str | None, request: AddCheckpoint, shown: Checkpoint) -> None:
    """Raise NotCosigned unless the checkpoint goes on from the last one that was cosigned, whose note this is."""
    last = Checkpoint(shown.origin, 0, EMPTY_ROOT)
    if cosigned is not None:
        last = Checkpoint.parse(Note.parse(cosigned).text)
        if last.size == shown.size and last.root != shown.root:
            raise SplitView(cosigned, request.note)
    if request.old != last.size:
        raise OtherSize(last.size)
    if not is_consistent(last.size, last.root, shown.size, shown.root, request.path):
        raise NotCosigned("the path does not prove that the log goes on from what was cosigned last", 422)


def _dumped(logs: dict[str, str]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(_Saved(1, logs), order="sorted"), indent=2) + b"\n"
