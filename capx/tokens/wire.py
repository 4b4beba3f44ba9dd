"""The bytes of a token: the libmacaroons v2 binary format, read strictly.

    text     "capx1_" base64url-without-padding(bytes)
    bytes    02 · 01 length audience · 02 length identifier · 00 · caveat* · 00 · 06 20 signature
    caveat   02 length cid · (04 length vid)? · 00

Laws:

- One token has exactly one text, so encoding a decoded token gives the same text. Lengths are minimal varints.
- Each limit is checked before the work that it bounds. The time is linear in the length.
- No key is used here, so nothing is verified. Of the bytes, only the identifier is interpreted: the verifier needs it
  to find the key.
"""

import re
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from capx.crypto.base64url import b64u, demand_canonical, whole_bytes
from capx.errors import MalformedToken
from capx.tokens.chain import Block, ThirdParty
from capx.tokens.signed_blocks import ENDING
from capx_caveats import SAFE_INTEGER

PREFIX: Final = "capx1_"
MAX_TEXT: Final = 16 * 1024
"""Characters of text per token."""
MAX_CREDENTIAL: Final = 2 * MAX_TEXT
"""Characters of a presentation with its discharges."""
MAX_BLOCKS: Final = 64
"""Blocks per token, first- and third-party, the presentation included."""
MAX_BLOCK: Final = 4 * 1024
"""Bytes of a block, a cid or a vid."""
MAX_IDENTIFIER: Final = 256
"""Bytes of an identifier."""
SIGNATURE: Final = 32
"""Bytes of a signature."""
PRESENTATION: Final = 131
"""Bytes that a presentation made by capx has after the body: its block, the end, the signature."""
SIGNED_PRESENTATION: Final = PRESENTATION + ENDING
"""The same, if the holder's key has signed the presentation."""
_SIG_AT: Final = -(ENDING + 4 + SIGNATURE)
"""Where the signature of the last block begins, if it has one: behind it are two ends and the field of the last MAC."""

LOCATION, CID, VID, MAC, END = 1, 2, 4, 6, 0
"""The bytes that name the fields of libmacaroons: location, identifier or cid, vid, signature, end of a section."""
_OTHER_VERSION = re.compile(r"capx[0-9]+_")
_IDENTIFIER_FORM = re.compile(
    rb'\[1,"([A-Za-z0-9_-]{10}[AEIMQUYcgkosw048])","([a-z0-9][a-z0-9.-]{0,62})",'
    rb'"([A-Za-z0-9_-]{21}[AQgw])",(0|[1-9][0-9]{0,15})\]'
)


class Identifier(Struct, frozen=True):
    """The content of the first MAC: key id, audience, nonce (16 bytes as base64url), issued at (Unix seconds)."""

    kid: str
    audience: str
    nonce: str
    issued_at: int

    def encode(self) -> bytes:
        """The bytes; each identifier has exactly one form."""
        return f'[1,"{self.kid}","{self.audience}","{self.nonce}",{self.issued_at}]'.encode()

    @classmethod
    def decode(cls, raw: bytes) -> "Identifier":
        """The identifier in these bytes; MalformedToken if they are not in the one form that `encode` writes."""
        match = _IDENTIFIER_FORM.fullmatch(raw)
        if match is None:
            if raw.startswith(b"[") and not raw.startswith(b"[1,"):
                raise MalformedToken("the identifier has another format version", "unknown_version")
            raise MalformedToken("the identifier is not that of a capx token")
        kid, audience, nonce, issued_at = match.groups()
        if int(issued_at) > SAFE_INTEGER:
            raise MalformedToken("the identifier's time is beyond 2^53 - 1")
        return cls(kid.decode(), audience.decode(), nonce.decode(), int(issued_at))


class Frame(Struct, frozen=True):
    """The parts of a token. Nothing is verified: anybody can write these bytes.

    `body` is the bytes before the last block. All presentations of one capability have the same body. `repr` shows
    neither body nor signature: together they are the secret token.
    """

    identifier: Identifier
    identifier_bytes: bytes
    blocks: tuple[Block, ...]
    signature: bytes
    body: bytes

    def __repr__(self) -> str:
        return f"Frame({self.identifier!r}, {len(self.blocks)} blocks)"


def encode(identifier: Identifier, blocks: tuple[Block, ...], signature: bytes) -> str:
    """The text of a token; MalformedToken (too_large) beyond the limits."""
    out = bytearray(b"\x02")
    put_field(out, LOCATION, identifier.audience.encode())
    put_field(out, CID, identifier.encode())
    out.append(END)
    if len(blocks) > MAX_BLOCKS:
        raise too_large(f"more than {MAX_BLOCKS} blocks")
    for block in blocks:
        if isinstance(block, ThirdParty):
            put_field(out, CID, bounded(block.cid))
            put_field(out, VID, bounded(block.vid))
        else:
            put_field(out, CID, bounded(block))
        out.append(END)
    out.append(END)
    put_field(out, MAC, signature)
    text = PREFIX + b64u(bytes(out))
    if len(text) > MAX_TEXT:
        raise too_large(f"more than {MAX_TEXT} characters")
    return text


def decode(text: str, earlier: Callable[[bytes], Frame | None] | None = None) -> Frame:
    """Take a token's text apart; MalformedToken if it is not a token, with the place of the fault.

    `earlier` may return a frame with exactly this body that was decoded before; then the body is not read again.
    """
    if len(text) > MAX_TEXT:
        # First, so that a huge text costs nothing more than its length.
        raise too_large(f"more than {MAX_TEXT} characters")
    if not text.startswith(PREFIX):
        raise _no_prefix(text)
    encoded = text[len(PREFIX) :]
    data = whole_bytes(encoded)
    body, known = _known(data, earlier) if earlier else (b"", None)
    try:
        frame = _frame(data, body, known)
    except IndexError:
        # Cheaper than a check of the length at each byte: reading beyond the end means that the token is cut short.
        raise cut_short(data) from None
    # Two texts for the same bytes would be two tokens to a cache or a log, and one to the MAC.
    demand_canonical(data, encoded)
    return frame


def _known(data: bytes, earlier: Callable[[bytes], Frame | None]) -> tuple[bytes, Frame | None]:
    """The part of these bytes that may be the body of an earlier frame, and that frame."""
    is_signed = data[_SIG_AT : _SIG_AT + 9] == b',["sig","'
    body = data[: -SIGNED_PRESENTATION if is_signed else -PRESENTATION]
    return body, earlier(body)


def _frame(data: bytes, body: bytes, earlier: Frame | None) -> Frame:
    """The frame of these bytes; IndexError if they are cut short."""
    if earlier is None:
        identifier, raw, at = _opening(data)
        blocks: list[Block] = []
    else:
        identifier, raw, at = earlier.identifier, earlier.identifier_bytes, len(body)
        blocks = list(earlier.blocks[:-1])
    start = at
    while data[at] != END:
        if len(blocks) == MAX_BLOCKS:
            raise too_large(f"more than {MAX_BLOCKS} blocks")
        start = at
        cid, at = read_field(data, at, CID, MAX_BLOCK)
        if data[at] == VID:
            vid, at = read_field(data, at, VID, MAX_BLOCK)
            blocks.append(ThirdParty(vid, cid))
        else:
            blocks.append(cid)
        if data[at] != END:
            raise no_end(at)
        at += 1
    signature, at = read_field(data, at + 1, MAC, MAX_IDENTIFIER)
    if len(signature) != SIGNATURE:
        raise MalformedToken(f"the signature has {len(signature)} bytes, not {SIGNATURE}")
    if at != len(data):
        raise MalformedToken(f"{len(data) - at} bytes follow the end of the token")
    return Frame(identifier, raw, tuple(blocks), signature, body if len(body) == start else data[:start])


def _opening(data: bytes) -> tuple[Identifier, bytes, int]:
    """The identifier, its bytes, and the position of the first block."""
    if data[0] != 2:
        raise MalformedToken("these bytes are not in the version 2 format", "unknown_version")
    audience, at = read_field(data, 1, LOCATION, 63)
    raw, at = read_field(data, at, CID, MAX_IDENTIFIER)
    if data[at] != END:
        raise no_end(at)
    identifier = Identifier.decode(raw)
    # The location is covered by no MAC, so it may say nothing but what the identifier says.
    if audience != identifier.audience.encode():
        raise MalformedToken("the location is not the identifier's audience")
    return identifier, raw, at + 1


def _no_prefix(text: str) -> MalformedToken:
    if text and PREFIX.startswith(text):
        return MalformedToken("the text is cut short within its prefix", "truncated")
    if _OTHER_VERSION.match(text):
        return MalformedToken(f"this token has another format version than {PREFIX}", "unknown_version")
    return MalformedToken(f"a token begins with {PREFIX}")


def put_field(out: bytearray, kind: int, content: bytes) -> None:
    """Append the field of this kind, with its length."""
    out.append(kind)
    length = len(content)
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    out += content


def read_field(data: bytes, at: int, kind: int, limit: int) -> tuple[bytes, int]:
    """The content of the field of this kind at `at`, and the position after it."""
    if data[at] != kind:
        raise MalformedToken(f"another field must begin at byte {at}")
    length = data[at + 1]
    start = at + 2
    if length > 0x7F:
        # Two bytes are enough for every limit. The second may be neither 0, which is not minimal, nor have its top bit.
        high = data[start]
        if not 0 < high < 0x80:
            raise MalformedToken(f"the length at byte {at + 1} is not minimal or too large")
        length = length & 0x7F | high << 7
        start += 1
    if length > limit:
        raise too_large(f"a field of more than {limit} bytes at byte {at}")
    end = start + length
    if end > len(data):
        raise cut_short(data)
    return data[start:end], end


def no_end(at: int) -> MalformedToken:
    """The error for a section that goes on at this byte."""
    return MalformedToken(f"byte {at} must end its section, and does not")


def cut_short(data: bytes) -> MalformedToken:
    """The error for bytes that end too early."""
    return MalformedToken(f"the token is cut short at byte {len(data)}", "truncated")


def bounded(content: bytes) -> bytes:
    """The same bytes; MalformedToken if no block can have so many."""
    if len(content) > MAX_BLOCK:
        raise too_large(f"a block of more than {MAX_BLOCK} bytes")
    return content


def too_large(what: str) -> MalformedToken:
    """The error for something beyond a limit."""
    return MalformedToken(f"the token is too large: {what}", "too_large")
