"""Event streams: which events hold messages, and how one is written."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from capx.api.jsonrpc import Notification
from capx.api.relay.event_stream import events, write_event
from capx.api.relay.lines import TooLong


def read(*pieces: bytes, most: int = 100) -> list[bytes]:
    async def stream() -> AsyncGenerator[bytes]:
        for piece in pieces:
            yield piece

    async def main() -> list[bytes]:
        return [data async for data in events(stream(), most)]

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("pieces", "found"),
    [
        ((), []),
        ((b"data: a\n\n",), [b"a"]),
        ((b"data:a\r\n\r\ndata:  b\r\n\r\n",), [b"a", b" b"]),
        ((b"da", b"", b"ta: a\n", b"\n"), [b"a"]),
        ((b"data: a\ndata: b\n\n",), [b"a\nb"]),
        ((b"event: message\nid: 7\nretry: 3\ndata: a\n\n",), [b"a"]),
        ((b"event: ping\ndata: a\n\ndata: b\n\n",), [b"b"]),
        ((b"event:\ndata: a\n\n",), [b"a"]),
        ((b": a comment\n\n:\n\ndata: a\n\n",), [b"a"]),
        ((b"data: a\n:\ndata: b\n: \n\n",), [b"a\nb"]),
        ((b"id: 0\ndata: \n\ndata\n\ndata: a\n\n",), [b"a"]),
        ((b"data: a\r\rdata: b\r\n\rdata: c\n\r\n",), [b"a", b"b", b"c"]),
        ((b"data: a\r", b"\n\r", b"\ndata: b\r", b"\n", b"data: c\n\n"), [b"a", b"b\nc"]),
        ((b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n",), [b"a"]),
        ((b"\xef", b"\xbb\xbf", b"data: a\n\n"), [b"a"]),
        ((b"data: a\r", b"\ndata: b\n\n"), [b"a\nb"]),
        ((b"\n\xef\xbb\xbfdata: a\n\n",), []),
        ((b"data: cut off",), []),
        ((b"data: cut off\n",), []),
    ],
)
def test_the_data_of_events_is_found(pieces: tuple[bytes, ...], found: list[bytes]) -> None:
    assert read(*pieces) == found


def test_an_event_is_there_at_its_last_cr() -> None:
    async def stream() -> AsyncGenerator[bytes]:
        yield b"data: a\r\r"
        await asyncio.sleep(60)

    async def main() -> bytes:
        async with asyncio.timeout(20), aclosing(events(stream())) as found:
            return await anext(found)

    assert asyncio.run(main()) == b"a"


LONG = b"x" * 100


@pytest.mark.parametrize(
    ("pieces", "found"),
    [
        ((b"data: " + LONG + b"\n\n",), LONG),
        ((b"data: " + LONG, b"\n\n"), LONG),
        ((b"data:" + LONG[:50] + b"\ndata:" + LONG[:49] + b"\n\n",), LONG[:50] + b"\n" + LONG[:49]),
    ],
)
def test_an_event_may_have_as_many_bytes_as_the_bound(pieces: tuple[bytes, ...], found: bytes) -> None:
    assert read(*pieces, *pieces) == [found, found]


@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + LONG + b"x\n\n",
        b"data:" + LONG + b"x\n\n",
        b"data: xxxx\n" * 30 + b"\n",
        b"data:" + LONG[:50] + b"\ndata:" + LONG[:50] + b"\n\n",
        b"data: " + LONG + b"xx",
    ],
)
def test_an_event_that_is_too_long_ends_the_stream(stream: bytes) -> None:
    with pytest.raises(TooLong) as error:
        read(stream, most=100)
    assert error.value.most == 100
    # From its beginning, the id of the message is guessed.
    assert b"xxxx" in error.value.head[:10]


def test_an_event_that_was_written_is_read() -> None:
    assert read(write_event(Notification("a", {"b": "c\nd"}))) == [
        b'{"jsonrpc":"2.0","method":"a","params":{"b":"c\\nd"}}'
    ]
