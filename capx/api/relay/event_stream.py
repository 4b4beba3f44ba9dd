"""Messages in an event stream of HTTP (text/event-stream), one in the data of each event.

Laws: the ids of events do not pass, so nobody resumes a stream past a guard. A stream is read as the HTML standard says
(section 9.2.6), because a client without a guard would read it so.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

from capx.api.jsonrpc import Message, write_message
from capx.api.relay.lines import MAX_MESSAGE, TooLong

MEDIA_TYPE: Final = "text/event-stream"
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_BOM: Final = b"\xef\xbb\xbf"
_DATA: Final = b"data: "
"""How a line of data begins, which is no part of the message."""


def write_event(message: Message) -> bytes:
    """Return the event that holds a message."""
    return b"event: message\n" + _DATA + write_message(message) + b"\n\n"


async def events(pieces: AsyncIterator[bytes], most: int = MAX_MESSAGE) -> AsyncGenerator[bytes]:
    """Yield the data of each event of a stream that holds a message; raises TooLong for one of more than `most` bytes.

    An event that has not ended when the stream ends is left out.
    """
    data: list[bytes] = []
    size, is_message = 0, True
    async with aclosing(_lines(pieces, most)) as lines:
        async for line in lines:
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                data.append(value)
                size += len(value) + 1
                if size > most + 1:
                    raise TooLong(most, data[0])
            elif name == b"event":
                is_message = value in (b"", b"message")
            elif not line:
                # Servers begin a stream with an event of no data, whose id its client could resume from.
                if any(data) and is_message:
                    yield b"\n".join(data)
                data, size, is_message = [], 0, True


async def _lines(pieces: AsyncIterator[bytes], most: int) -> AsyncGenerator[bytes]:
    """Yield each line without its end; raises TooLong for one that holds data of more than `most` bytes."""
    longest = most + len(_DATA)
    line = bytearray()
    is_first, after_cr = True, False
    async for piece in pieces:
        if not piece:
            continue
        # An end of CR and LF may be cut in two. The line is whole at its CR: what comes next may be long in coming.
        *ends, rest = _LINE_END.split(piece.removeprefix(b"\n") if after_cr else piece)
        after_cr = piece.endswith(b"\r")
        for end in ends:
            line += end
            if len(line) > longest:
                raise TooLong(most, bytes(line[:most]))
            yield bytes(line.removeprefix(_BOM) if is_first else line)
            line.clear()
            is_first = False
        line += rest
        if len(line) > longest:
            raise TooLong(most, bytes(line[:most]))
