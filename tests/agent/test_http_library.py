"""A stream whose beginning was read is one of its library, with all that was sent."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx2
import pytest

from capx.agent import httpx2_client, httpx_client

# A library, and what presenting needs of it.
LIBRARIES = [(httpx, httpx_client.LIBRARY), (httpx2, httpx2_client.LIBRARY)]


class Stream:
    """A stream of a response: it notes that it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("of", "library"), LIBRARIES)
def test_the_rest_follows_what_was_read(of: Any, library: Any) -> None:
    stream = Stream()
    rest = library.rest(b"ab", iter([b"c", b"d"]), stream)
    assert isinstance(rest, of.SyncByteStream)
    assert b"".join(rest) == b"abcd"
    rest.close()
    assert stream.closed


@pytest.mark.parametrize(("of", "library"), LIBRARIES)
def test_the_rest_of_an_async_stream_follows(of: Any, library: Any) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"c"
        yield b"d"

    async def read() -> list[bytes]:
        rest = library.async_rest(b"ab", chunks(), stream)
        assert isinstance(rest, of.AsyncByteStream)
        found = [chunk async for chunk in rest]
        await rest.aclose()
        return found

    stream = Stream()
    assert b"".join(asyncio.run(read())) == b"abcd"
    assert stream.closed


@pytest.mark.parametrize(("of", "library"), LIBRARIES)
def test_its_classes_are_those_of_the_library(of: Any, library: Any) -> None:
    assert (library.request, library.url, library.byte_stream) == (of.Request, of.URL, of.ByteStream)
    assert library.invalid_url is of.InvalidURL
