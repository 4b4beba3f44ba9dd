"""The trust file of whoever verifies proofs: public keys alone, one a line.

    authority ORIGIN         the log with this origin is an authority's
    log VKEY                 a key of a log: of an authority, or of a resource's ledgers
    witness VKEY             a witness
    quorum N                 as many of these witnesses must have cosigned each note (0, if the line is missing)
    principal NAME KEY       a person, and their public key: ed25519: and 43 characters; in NAME, %20 is a space

Empty lines and lines that begin with # are left out.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote, unquote

from msgspec import Struct

from capx.crypto.ed25519 import parse_public, public_text
from capx.errors import KeyProblem
from capx.ledger.note import LOG, WITNESS, NoteKey, is_key_name
from capx.ledger.witness import is_origin_of
from capx_caveats import is_label

T = TypeVar("T")


class Trust(Struct, frozen=True):
    """Whom a reader of proofs trusts. `principals` has the public keys (32 bytes) of each person."""

    authorities: frozenset[str] = frozenset()
    logs: tuple[NoteKey, ...] = ()
    witnesses: tuple[NoteKey, ...] = ()
    quorum: int = 0
    principals: tuple[tuple[str, bytes], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Trust":
        """Read a trust file; KeyProblem gives the number of a line that is not one, or says whom it does not name."""
        authorities, logs, witnesses, people = set[str](), list[NoteKey](), list[NoteKey](), list[tuple[str, bytes]]()
        quorum: int | None = None
        for number, fields in _lines(text):
            match fields:
                case ["authority", origin] if is_key_name(origin):
                    authorities.add(origin)
                case ["log", key]:
                    logs.append(_of_kind(key, LOG, number))
                case ["witness", key]:
                    witnesses.append(_of_kind(key, WITNESS, number))
                case ["quorum", count] if quorum is None and count.isascii() and count.isdecimal() and len(count) < 4:
                    quorum = int(count)
                case ["principal", quoted, key] if is_label(name := _unquoted(quoted)):
                    people.append((name, _read(parse_public, key, number)))
                case _:
                    raise KeyProblem(f"line {number} of the trust file is none: {_FORMS}")
        if (quorum or 0) > len(witnesses):
            raise KeyProblem(f"the trust file wants {quorum} cosignatures, and names {len(witnesses)} witnesses")
        if not authorities or not logs:
            raise KeyProblem(
                "the trust file names no authority, or no log: it needs the lines that capx proof trust prints"
            )
        owners: dict[bytes, str] = {}
        for name, public in people:
            if owners.setdefault(public, name) != name:
                raise KeyProblem(f"the trust file gives one key to {owners[public]!a:.130} and {name!a:.130}")
        return cls(frozenset(authorities), tuple(logs), tuple(witnesses), quorum or 0, tuple(people))

    @classmethod
    def load(cls, path: Path) -> "Trust":
        """Read the trust file at this path; KeyProblem if it cannot be used."""
        try:
            with path.open("rb") as opened:
                data = opened.read(_LARGEST + 1)
            if len(data) > _LARGEST:
                raise KeyProblem(f"the trust file {path} has more than {_LARGEST >> 10} KiB: give another one")
            return cls.parse(data.decode())
        except (OSError, UnicodeDecodeError) as error:
            raise KeyProblem(f"cannot read the trust file {path}: {error}") from None

    def text(self) -> str:
        """The text of a trust file."""
        lines = [
            *(f"authority {origin}" for origin in sorted(self.authorities)),
            *(f"log {key.text()}" for key in self.logs),
            *(f"witness {key.text()}" for key in self.witnesses),
            *([f"quorum {self.quorum}"] if self.quorum else []),
            *(f"principal {quote(name, safe='')} {public_text(key)}" for name, key in self.principals),
        ]
        return "".join(f"{line}\n" for line in lines)

    def keys_of(self, origin: str) -> list[NoteKey]:
        """The keys that may sign for the log with this origin."""
        if origin in self.authorities:
            # A key with a shorter name is that of a resource.
            return [key for key in self.logs if key.name == origin]
        return [key for key in self.logs if is_origin_of(key, origin)]

    def keys_of_person(self, name: str) -> list[bytes]:
        """The public keys of a person (32 bytes each)."""
        return [key for who, key in self.principals if who == name]

    def person_with(self, public: bytes) -> str | None:
        """The name of the person with this key; None if it is nobody's here."""
        return next((who for who, key in self.principals if key == public), None)


_LARGEST: Final = 1 << 20
_FORMS: Final = "write `authority ORIGIN`, `log KEY`, `witness KEY`, `quorum N`, or `principal NAME KEY`"


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.split()


def _unquoted(name: str) -> str:
    try:
        return unquote(name, errors="strict")
    except UnicodeDecodeError:
        return ""


def _read(reader: Callable[[str], T], text: str, number: int) -> T:
    try:
        return reader(text)
    except KeyProblem as problem:
        raise KeyProblem(f"line {number} of the trust file: {problem}") from None


def _of_kind(text: str, kind: int, number: int) -> NoteKey:
    key = _read(NoteKey.parse, text, number)
    if key.kind != kind:
        of = "a witness" if key.kind == WITNESS else "a log"
        raise KeyProblem(f"line {number} of the trust file has the key of {of}, which belongs on another line")
    return key
