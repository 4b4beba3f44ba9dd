"""A look at the body of a refusal, which whoever sent the request then reads as if nobody had.

Laws: no more is read than a refusal of capx may have, nor unpacked. Once it was read whole, its connection is free.
"""

import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Final, cast

import httpx

MOST: Final = 1 << 16
"""Bytes of a refusal that are looked at, also when they are unpacked."""

_PACKED: Final = frozenset({"gzip", "deflate"})
_GZIP_OR_ZLIB: Final = 47


def peeked(response: httpx.Response) -> bytes | None:
    """The body of a response, unpacked; None if it is larger than a refusal, or packed in an unknown way."""
    stream = cast("httpx.SyncByteStream", response.stream)
    chunks, rest = bytearray(), iter(stream)
    for chunk in rest:
        chunks += chunk
        if len(chunks) > MOST:
            response.stream = _Rest(bytes(chunks), rest, stream)
            return None
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
