"""Messages in an event stream of HTTP (text/event-stream), one in the data of each event.

Law: the ids of events do not pass, so nobody resumes a stream past a guard.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from capx.api.jsonrpc import Message, write_message
from capx.api.relay.lines import MAX_MESSAGE, Lines, TooLong

MEDIA_TYPE: Final = "text/event-stream"


def write_event(message: Message) -> bytes:
    """Return the event that holds a message."""
    return b"event: message\ndata: " + write_message(message) + b"\n\n"


async def events(pieces: AsyncIterator[bytes], most: int = MAX_MESSAGE) -> AsyncGenerator[bytes]:
    """Yield the data of each event of a stream that holds a message; raises TooLong for one of more than `most` bytes.

    An event that has not ended when the stream ends is left out.
    """

    async def piece() -> bytes:
        while (found := await anext(pieces, None)) == b"":
            pass
        return found or b""

    lines = Lines(piece, most, blank=True)
    data: list[bytes] = []
    size, is_message = 0, True
    while (line := await lines.next()) is not None:
        name, _, value = line.removesuffix(b"\r").partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
            size += len(value) + 1
            if size > most + 1:
                raise TooLong(most, data[0])
        elif name == b"event":
            is_message = value == b"message"
        elif not name and not value:
            if data and is_message:
                yield b"\n".join(data)
            data, size, is_message = [], 0, True
