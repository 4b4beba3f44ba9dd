"""Any text is a token in its one spelling, or malformed; in linear work; just as the format's words say.

What was read before of a token's beginning changes nothing.

An input is a letter and the rest: `B` bytes to be spelled, `H` bytes behind a good header, else the text itself.
"""

import base64
import binascii
import json
import re
import sys
from collections.abc import Iterable
from itertools import pairwise
from types import FrameType
from typing import Any

from capx.crypto.base64url import b64u, unb64u
from capx.errors import MalformedToken
from capx.tokens import chain, wire
from capx.tokens.binding import ToolCall
from capx.tokens.chain import ThirdParty
from tests.labs.lab import NOW, appended, minted, raw

PARENT = minted()
HEADER = unb64u(raw().text.removeprefix(wire.PREFIX)).removesuffix(wire.decode(raw().text).signature)[:-3]
CODES = {"malformed", "truncated", "too_large", "unknown_version"}
SHAPE = re.compile(rb"\x01\x02\x00(?:\x02\x04?\x00){0,64}\x00\x06")


HOP = PARENT.delegate(to="slides-agent", nonce="AgICAgICAgI", allow=["a.read"], now=NOW)
TOKENS = (
    raw(),
    PARENT,
    HOP,
    PARENT.present(ToolCall("a.read"), now=NOW, nonce="A" * 16),
    HOP.present(ToolCall("a.read"), now=NOW, nonce="A" * 16),
    appended(HOP, chain.ThirdParty(b"vid", b"cid")),
    appended(PARENT, *[b"[]"] * 63),
    appended(PARENT, b"x" * 4096, b"y" * 4096),
)
EARLIER = {frame.body: frame for frame in (wire.decode(token.text) for token in TOKENS)}


def seeds() -> Iterable[bytes]:
    for token in TOKENS:
        data = unb64u(token.text.removeprefix(wire.PREFIX))
        yield b"T" + token.text.encode()
        yield b"B" + data
        yield b"H" + data.removeprefix(HEADER)
        yield b"T" + token.text[:-1].encode() + bytes([ord(token.text[-1]) + 1])
        yield b"B" + data.replace(b"\x01\x03crm", b"\x01\x83\x00crm", 1)
        yield b"B" + data.replace(b"\x01\x03crm", b"\x01\x03crn", 1)
        yield b"B" + data + b"\0"


def spelled(data: bytes) -> str:
    """The text that an input stands for."""
    kind, rest = data[:1], data[1:]
    if kind in (b"B", b"H"):
        return wire.PREFIX + b64u(HEADER + rest if kind == b"H" else rest)
    return rest.decode(errors="surrogateescape")


def check(data: bytes) -> None:
    text = spelled(data)
    calls = 0

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    found = outcome(text, {})
    sys.setprofile(None)
    assert calls <= 60 + len(text), "the work is not linear"
    assert outcome(text, EARLIER) == found, "what was read before changes what a token says"
    if isinstance(found, str):
        assert found in CODES
        assert parts(text) is None, "a token was refused"
        return
    assert wire.encode(found.identifier, found.blocks, found.signature) == text, "a token has two spellings"
    assert parts(text) == (found.identifier_bytes, found.blocks, found.signature), "a token was misread"
    whole = unb64u(text.removeprefix(wire.PREFIX))
    assert whole.startswith(found.body)
    assert appendix(found) == whole[len(found.body) :], "the body is not what stands before the last block"


def outcome(text: str, earlier: dict[bytes, wire.Frame]) -> wire.Frame | str:
    """The frame, or the code of the refusal."""
    try:
        return wire.decode(text, earlier.get)
    except MalformedToken as malformed:
        return malformed.code


def appendix(frame: wire.Frame) -> bytes:
    """What stands behind a body: the last block and the signature."""
    empty = wire.encode(frame.identifier, (), frame.signature)
    ended = wire.encode(frame.identifier, frame.blocks[-1:], frame.signature)
    return unb64u(ended[6:])[len(unb64u(empty[6:])) - 35 :]


def parts(text: str) -> tuple[bytes, tuple[chain.Block, ...], bytes] | None:
    """The same format read naively: identifier, blocks and signature, or None for what is no token."""
    try:
        fields = read(text)
        shape = bytes(kind for kind, _ in fields)
        good = SHAPE.fullmatch(shape) is not None and good_ends(fields)
    except (ValueError, IndexError, RecursionError):
        return None
    if not good or any(len(content) > 4096 for _, content in fields):
        return None
    blocks: list[chain.Block] = []
    for (kind, cid), (after, vid) in pairwise(fields[3:-1]):
        if kind == 2:
            blocks.append(ThirdParty(vid, cid) if after == 4 else cid)
    return fields[1][1], tuple(blocks), fields[-1][1]


def read(text: str) -> list[tuple[int, bytes]]:
    if len(text) > 16384 or not re.fullmatch("capx1_[A-Za-z0-9_-]*", text):
        raise ValueError
    data = base64.urlsafe_b64decode(text[6:] + "=" * (-len(text[6:]) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text[6:] or data[0] != 2:
        raise binascii.Error
    fields: list[tuple[int, bytes]] = []
    at = 1
    while at < len(data):
        kind, length, size = data[at], 0, 1
        if kind != 0:
            size, length = 2, data[at + 1]
            if length > 127:
                size, length = 3, length - 128 + 128 * data[at + 2]
                if not 0 < data[at + 2] < 128:
                    raise ValueError
        content = data[at + size : at + size + length]
        if len(content) != length:
            raise ValueError
        fields.append((kind, content))
        at += size + length
    return fields


def good_ends(fields: list[tuple[int, bytes]]) -> bool:
    identifier = fields[1][1]
    said: Any = json.loads(identifier.decode())
    version, kid, audience, nonce, issued_at = said
    return (
        len(identifier) <= 256
        and [type(kid), type(audience), type(nonce)] == [str, str, str]
        and json.dumps(said, separators=(",", ":")).encode() == identifier
        and (type(version), version, type(issued_at)) == (int, 1, int)
        and 0 <= issued_at < 2**53
        and (len(unb64(kid)), len(unb64(nonce))) == (8, 16)
        and re.fullmatch("[a-z0-9][a-z0-9.-]{0,62}", audience) is not None
        and fields[0][1] == audience.encode()
        and len(fields[-1][1]) == 32
    )


def unb64(text: str) -> bytes:
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise ValueError
    return data
