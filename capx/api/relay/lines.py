"""The lines of a stream of bytes, each of them whole, and none longer than a bound.

Law: a line that is too long is read to its end and dropped, so the lines after it are not lost. At most the bound and
one piece of the stream are kept in memory.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from capx.api.jsonrpc import Id
from capx.errors import CapxError

MAX_MESSAGE: Final = 16 << 20
"""The most bytes of one message, unless somebody sets another bound."""
PIECE: Final = 1 << 16
"""The most bytes that are read at once."""

_HEAD: Final = 4096
"""The bytes at the beginning of a line that is too long, in which its id is looked for."""
_ID: Final = re.compile(rb'"id"\s*:\s*(?:(?P<number>-?\d{1,18})\s*[,}]|"(?P<text>[\w.-]{1,128})")')

Read = Callable[[], Awaitable[bytes]]
"""Reads the next bytes of a stream, at most PIECE; none at its end."""


class TooLong(CapxError):
    """A line that was dropped because it is longer than `most` bytes; `head` is how it begins."""

    def __init__(self, most: int, head: bytes) -> None:
        super().__init__(f"a message has more than {most} bytes, which is the most here")
        self.most = most
        self.head = head

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.most, self.head), vars(self)

    def likely_id(self) -> Id | None:
        """Return the id of the message, if one stands in its head. Nothing may depend on it but an error message."""
        if (found := _ID.search(self.head)) is None:
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
            raise TooLong(self._most, line[:_HEAD] if head is None else head)
        return line

    def _drop(self) -> None:
        if self._dropped is None:
            self._dropped = bytes(self._buffer[:_HEAD])
        self._buffer.clear()
