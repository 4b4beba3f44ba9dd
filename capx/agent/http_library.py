"""What presenting needs of an HTTP library: httpx, or httpx2, which has the same classes under its own name.

The types say httpx. The modules that use them import neither library, so each works without the other.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import httpx


class HttpLibrary(NamedTuple):
    """The classes of one library; `rest` and `async_rest` make a stream of it from bytes that were read, and the rest.

    A library accepts only streams that are instances of its own classes.
    """

    request: "type[httpx.Request]"
    url: "type[httpx.URL]"
    invalid_url: type[Exception]
    byte_stream: "type[httpx.ByteStream]"
    rest: "Callable[[bytes, Iterator[bytes], httpx.SyncByteStream], httpx.SyncByteStream]"
    async_rest: "Callable[[bytes, AsyncIterator[bytes], httpx.AsyncByteStream], httpx.AsyncByteStream]"


class Rest:
    """A response whose beginning was read: what was read, then the rest of the stream."""

    def __init__(self, read: bytes, rest: Iterator[bytes], stream: "httpx.SyncByteStream") -> None:
        self._read = read
        self._rest = rest
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        """Yield what was read, then the rest."""
        yield self._read
        yield from self._rest

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()


class AsyncRest:
    """`Rest`, for async code."""

    def __init__(self, read: bytes, rest: AsyncIterator[bytes], stream: "httpx.AsyncByteStream") -> None:
        self._read = read
        self._rest = rest
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield what was read, then the rest."""
        yield self._read
        async for chunk in self._rest:
            yield chunk

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()
