"""Read the body of a denial, and put it back, so that the sender of the request can still read it.

Laws: it reads and unpacks no more than a denial of capx can have. Once the whole body has been read, the connection is
free for other requests.
"""

import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Final, cast

import httpx

MOST: Final = 1 << 16
"""The most bytes of a body that are read, and the most that are unpacked."""

_PACKED: Final = frozenset({"gzip", "deflate"})
_GZIP_OR_ZLIB: Final = 47
"""The `wbits` of zlib that accept a gzip or a zlib header."""


def peeked(response: httpx.Response) -> bytes | None:
    """Return the body, unpacked; None if it is larger than a denial can be, or packed in an unknown way."""
    stream = cast("httpx.SyncByteStream", response.stream)
    chunks, rest = bytearray(), iter(stream)
    for chunk in rest:
        chunks += chunk
        if len(chunks) > MOST:
            response.stream = _Rest(bytes(chunks), rest, stream)
            return None
    # Free the connection now: the request is sent again while this response is kept.
    stream.close()
    response.stream = httpx.ByteStream(bytes(chunks))
    return _unpacked(response, bytes(chunks))


async def peeked_async(response: httpx.Response) -> bytes | None:
    """`peeked`, for async code."""
    stream = cast("httpx.AsyncByteStream", response.stream)
    chunks, rest = bytearray(), aiter(stream)
    async for chunk in rest:
        chunks += chunk
        if len(chunks) > MOST:
            response.stream = _AsyncRest(bytes(chunks), rest, stream)
            return None
    await stream.aclose()
    response.stream = httpx.ByteStream(bytes(chunks))
    return _unpacked(response, bytes(chunks))


def _unpacked(response: httpx.Response, raw: bytes) -> bytes | None:
    packed = response.headers.get("content-encoding", "identity").strip().lower()
    if packed == "identity":
        return raw
    if packed not in _PACKED:
        return None
    try:
        # With a limit: a few bytes can unpack to gigabytes.
        return zlib.decompressobj(_GZIP_OR_ZLIB).decompress(raw, MOST)
    except zlib.error:
        return None


class _Rest(httpx.SyncByteStream):
    def __init__(self, read: bytes, rest: Iterator[bytes], stream: httpx.SyncByteStream) -> None:
        self._read = read
        self._rest = rest
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        yield self._read
        yield from self._rest

    def close(self) -> None:
        self._stream.close()


class _AsyncRest(httpx.AsyncByteStream):
    def __init__(self, read: bytes, rest: AsyncIterator[bytes], stream: httpx.AsyncByteStream) -> None:
        self._read = read
        self._rest = rest
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._read
        async for chunk in self._rest:
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
