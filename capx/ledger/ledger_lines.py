"""The lines of a ledger: a text file of JSON, one value a line, each in one spelling.

    {"ledger":1,"origin":"capx-ledger/AUDIENCE/R","first":N,"before":"HASH","tree":["HASH",…]}      the first line
    {"n":N,"at":AT,"kind":"KIND","hash":"HASH","body":{…}}                                          an entry
    {"n":N,"at":AT,"kind":"KIND","hash":"HASH","raw":"BASE64URL"}                                   another entry
    {"note":"…"}                                                                                    a checkpoint

`hash` is that of an event of the log (capx.store.log): it covers the number, the time, the kind, the very bytes of the
body, and all entries before. `first` is the number of the first entry in the file, `before` is the hash of the entry
before it, and `tree` has the full runs of all entries before it, from left to right. R has 16 random bytes, other ones
for each ledger.

`raw` is for a body that cannot stand in a line: it is no `{…}`, has a line break, or is no UTF-8.

Law: hashes are compared as text, so that another spelling of the same bytes is an edit.
"""

import re
from typing import Final

import msgspec
from msgspec import Struct

from capx.crypto.base64url import b64u, is_bytes, unb64u
from capx.errors import MalformedToken
from capx.ledger.tree import Frontier
from capx.store.log import GENESIS, Place, digest
from capx_caveats import SAFE_INTEGER

MAX_LINE: Final = 1 << 22
"""The most bytes of a line, its end included."""

_ENTRY: Final = re.compile(
    rb'\{"n":([1-9][0-9]{0,15}),"at":(0|[1-9][0-9]{0,15}),"kind":"([a-z][a-z_]{0,63})",'
    rb'"hash":"([A-Za-z0-9_-]{43})",(?:"body":(\{[^\n\r]*\})|"raw":"([A-Za-z0-9_-]*)")\}'
)
_NOTE: Final = b'{"note":'


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    """The first line of a file."""

    ledger: int
    origin: str
    first: int
    before: str
    tree: list[str]

    def line(self) -> bytes:
        """The line, with its end."""
        return msgspec.json.encode(self) + b"\n"

    @classmethod
    def after(cls, origin: str, place: Place, tree: Frontier) -> "Header":
        """The header of a file that goes on from an entry."""
        return cls(1, origin, place.position + 1, b64u(place.hash), list(map(b64u, tree.hashes)))

    def start(self) -> tuple[Place, Frontier] | None:
        """The entry from which the file goes on, and the tree up to it; None if the header contradicts itself."""
        hashes = [unb64u(text) for text in (self.before, *self.tree) if is_bytes(text, 32)]
        size = self.first - 1
        if len(hashes) != 1 + len(self.tree) or not 0 <= size < SAFE_INTEGER or size.bit_count() != len(self.tree):
            return None
        if (size == 0) != (hashes[0] == GENESIS):
            return None
        return Place(size, hashes[0]), Frontier(size, hashes[1:])


class Entry(Struct, frozen=True, gc=False):
    """One entry; `hash` is the text that the line has."""

    number: int
    at: int
    kind: str
    hash: str
    body: bytes

    def fits(self, before: bytes) -> bool:
        """Whether the hash is that of this entry behind the entry with the hash `before`."""
        return self.hash == b64u(digest(before, self.number, self.at, self.kind, self.body))


Line = Header | Entry | str
"""What a line holds: a header, an entry, or the text of a note."""


def entry_line(number: int, at: int, kind: str, hash_: bytes, body: bytes) -> bytes:
    """The line of an entry, with its end."""
    held = b'"body":%b' % body if _is_plain(body) else b'"raw":"%b"' % b64u(body).encode()
    return b'{"n":%d,"at":%d,"kind":"%b","hash":"%b",%b}\n' % (number, at, kind.encode(), b64u(hash_).encode(), held)


def _is_plain(body: bytes) -> bool:
    """Whether a body can stand in a line as it is."""
    if not (body.startswith(b"{") and body.endswith(b"}")) or b"\n" in body or b"\r" in body:
        return False
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def note_line(note: str) -> bytes:
    """The line of a note, with its end."""
    return b'{"note":%b}\n' % msgspec.json.encode(note)


def read_line(line: bytes) -> Line | None:
    """What a line without its end holds; None if it is not spelled as a ledger's line."""
    if match := _ENTRY.fullmatch(line):
        number, at, kind, hash_, body, raw = match.groups()
        if int(number) > SAFE_INTEGER or int(at) > SAFE_INTEGER:
            return None
        if body is None:
            try:
                body = unb64u(raw.decode())
            except MalformedToken:
                return None
            if _is_plain(body):
                return None
        elif not _is_plain(body):
            return None
        return Entry(int(number), int(at), kind.decode(), hash_.decode(), body)
    try:
        if line.startswith(_NOTE):
            note: str = msgspec.json.decode(line[len(_NOTE) : -1], type=str)
            return note if note_line(note) == line + b"\n" else None
        header = msgspec.json.decode(line, type=Header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MalformedToken):
        return None
    return header if header.ledger == 1 and header.line() == line + b"\n" else None
