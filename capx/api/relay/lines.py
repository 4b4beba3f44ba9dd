"""The lines of a stream of bytes, each of them whole, and none longer than a bound.

Law: a line that is too long is read to its end and dropped, so the lines after it are not lost. At most the bound and
one piece of the stream are kept in memory.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Final

from capx.api.jsonrpc import Id
from capx.errors import CapxError

MAX_MESSAGE: Final = 16 << 20
"""The most bytes of one message, unless somebody sets another bound."""
PIECE: Final = 1 << 16
"""The most bytes that are read at once."""

_END: Final = 4096
"""The bytes at each end of a line that is too long, in which its id is looked for."""
_VERSION: Final = rb'"jsonrpc"\s*:\s*"2\.0"'
_ID: Final = rb'"id"\s*:\s*(?:(?P<number>-?\d{1,15})|"(?P<text>[\w.-]{1,128})")'
_FIRST: Final = re.compile(rb"\s*\{\s*(?:%b\s*,\s*)?%b\s*,(?!\s*(?:%b\s*,\s*)?\"method\")" % (_VERSION, _ID, _VERSION))
"""The beginning of a response that begins with its id."""
_REQUEST: Final = re.compile(rb"\s*\{\s*(?:%b\s*,\s*)?\"method\"" % _VERSION)
_LAST: Final = re.compile(rb",\s*(?:%b\s*,\s*)?%b\s*(?:,\s*%b\s*)?\}\s*$" % (_VERSION, _ID, _VERSION))
"""The end of a message that ends with its id."""

Read = Callable[[], Awaitable[bytes]]
"""Reads the next bytes of a stream, at most PIECE; none at its end."""


class TooLong(CapxError):
    """A message of more than `most` bytes, which was dropped; `head` and `tail` are how it begins and ends."""

    def __init__(self, most: int, head: bytes, tail: bytes = b"") -> None:
        super().__init__(f"a message has more than {most} bytes, the most here: --max-message sets it, in MiB")
        self.most = most
        self.head = head
        self.tail = tail

    def answers(self) -> Id | None:
        """Return the id of the request to which the line was a response, if it stands at one of the ends.

        Nothing may depend on it but an error message.
        """
        found = None if _REQUEST.match(self.head) else _FIRST.match(self.head) or _LAST.search(self.tail)
        if found is None:
            return None
        return found["text"].decode() if found["number"] is None else int(found["number"])


class Lines:
    """Reads a stream line by line, without blank lines; not for two readers at once."""

    def __init__(self, read: Read, most: int = MAX_MESSAGE) -> None:
        self._read = read
        self._most = most
        self._buffer = bytearray()
        self._dropped: bytes | None = None
        """The head of the line that is being dropped."""
        self._tail = b""
        """Of that line, the last bytes that were dropped."""
        self._ended = False

    async def next(self) -> bytes | None:
        """Return the next line without its end; None after the last. Raises TooLong."""
        while (line := await self._line()) is not None:
            if line.strip():
                return line
        return None

    async def _line(self) -> bytes | None:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0 and not self._ended:
            if len(self._buffer) > self._most:
                self._drop()
            searched = len(self._buffer)
            piece = await self._read()
            self._ended = not piece
            self._buffer += piece
        if self._ended and not self._buffer and self._dropped is None:
            return None
        return self._take(end if end >= 0 else len(self._buffer))

    def _take(self, end: int) -> bytes:
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        head, self._dropped = self._dropped, None
        if head is not None or len(line) > self._most:
            tail = (self._tail + line[-_END:])[-_END:]
            self._tail = b""
            raise TooLong(self._most, line[:_END] if head is None else head, tail)
        return line

    def _drop(self) -> None:
        if self._dropped is None:
            self._dropped = bytes(self._buffer[:_END])
        self._tail = (self._tail + bytes(self._buffer[-_END:]))[-_END:]
        self._buffer.clear()
