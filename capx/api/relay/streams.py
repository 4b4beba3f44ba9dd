"""Standard input and output of this process, over which a client speaks.

Law: a file or a device for which an event loop cannot wait, such as the input of `< FILE`, is read in a thread. When
the block ends, the streams block again as before, because other processes may share them.
"""

import asyncio
import os
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final

from capx.api.jsonrpc import Message, write_message
from capx.api.relay.connection import Gone
from capx.api.relay.lines import MAX_MESSAGE, PIECE, Lines, Read

_INPUT: Final = 0
_OUTPUT: Final = 1


class Streams:
    """The connection to the client: one message a line."""

    def __init__(self, lines: Lines, writer: asyncio.StreamWriter | int) -> None:
        self._lines = lines
        self._writer = writer

    async def receive(self) -> bytes | None:
        """Return the next line; None when the client has closed its side."""
        try:
            return await self._lines.next()
        except ConnectionError:
            return None

    async def send(self, message: Message) -> None:
        """Write a message as one line."""
        await write_line(self._writer, message, "the client")


async def write_line(writer: asyncio.StreamWriter | int, message: Message, whose: str) -> None:
    """Write a message as one line to a pipe, or to a file by its descriptor; Gone if nobody reads it any more."""
    line = write_message(message) + b"\n"
    try:
        if isinstance(writer, int):
            while line:
                line = line[os.write(writer, line) :]
            return
        if writer.is_closing():
            raise Gone(f"{whose} does not read any more")
        # One call for the whole line: another task must not write in the middle of it.
        writer.write(line)
        await writer.drain()
    except (ConnectionError, OSError) as error:
        raise Gone(f"{whose} does not read any more ({type(error).__name__})") from None


@asynccontextmanager
async def own_streams(most: int = MAX_MESSAGE) -> AsyncGenerator[Streams]:
    """Open a block with the client of this process; a message may have `most` bytes."""
    blocking = {number: os.get_blocking(number) for number in (_INPUT, _OUTPUT)}
    transports: list[asyncio.BaseTransport] = []
    try:
        yield Streams(Lines(await _input(transports), most), await _output(transports))
    finally:
        for transport in transports:
            # What was sent has been written, so nothing is cut off but what the client does not read.
            if isinstance(transport, asyncio.WriteTransport) and not transport.is_closing():
                transport.abort()
            else:
                transport.close()
        for number, was in blocking.items():
            with suppress(OSError):
                os.set_blocking(number, was)


async def _input(transports: list[asyncio.BaseTransport]) -> Read:
    if not _is_waited_for(_INPUT):
        return lambda: asyncio.to_thread(os.read, _INPUT, PIECE)
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(limit=PIECE)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(_INPUT), "rb")
    )
    transports.append(transport)
    return lambda: reader.read(PIECE)


async def _output(transports: list[asyncio.BaseTransport]) -> asyncio.StreamWriter | int:
    if not _is_waited_for(_OUTPUT):
        return _OUTPUT
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(os.dup(_OUTPUT), "wb")
    )
    transports.append(transport)
    # So `drain` waits until all is written: this process may end right after the last answer.
    transport.set_write_buffer_limits(high=0)
    return asyncio.StreamWriter(transport, protocol, None, loop)


def _is_waited_for(number: int) -> bool:
    """Whether an event loop can wait for this stream."""
    mode = os.fstat(number).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and os.isatty(number))
