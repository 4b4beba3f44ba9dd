"""Read the body of a denial, and put it back, so that the sender of the request can still read it.

Laws: it reads and unpacks no more than a denial of capx can have. Once the whole body has been read, the connection is
free for other requests.
"""

import zlib
from typing import TYPE_CHECKING, Final, cast

from capx.agent.http_library import HttpLibrary

if TYPE_CHECKING:
    import httpx

MOST: Final = 1 << 16
"""The most bytes of a body that are read, and the most that are unpacked."""

_PACKED: Final = frozenset({"gzip", "deflate"})
_GZIP_OR_ZLIB: Final = 47
"""The `wbits` of zlib that accept a gzip or a zlib header."""


def peeked(response: "httpx.Response", library: HttpLibrary) -> bytes | None:
    """Return the body, unpacked; None if it is larger than a denial can be, or packed in an unknown way."""
    stream = cast("httpx.SyncByteStream", response.stream)
    chunks, rest = bytearray(), iter(stream)
    for chunk in rest:
        chunks += chunk
        if len(chunks) > MOST:
            response.stream = library.rest(bytes(chunks), rest, stream)
            return None
    # Free the connection now: the request is sent again while this response is kept.
    stream.close()
    response.stream = library.byte_stream(bytes(chunks))
    return unpacked(bytes(chunks), response.headers.get("content-encoding", "identity"))


async def peeked_async(response: "httpx.Response", library: HttpLibrary) -> bytes | None:
    """`peeked`, for async code."""
    stream = cast("httpx.AsyncByteStream", response.stream)
    chunks, rest = bytearray(), aiter(stream)
    async for chunk in rest:
        chunks += chunk
        if len(chunks) > MOST:
            response.stream = library.async_rest(bytes(chunks), rest, stream)
            return None
    await stream.aclose()
    response.stream = library.byte_stream(bytes(chunks))
    return unpacked(bytes(chunks), response.headers.get("content-encoding", "identity"))


def unpacked(raw: bytes, encoding: str) -> bytes | None:
    """Return the beginning of a body with this content encoding, unpacked; None if it is packed in an unknown way."""
    packed = encoding.strip().lower()
    if packed == "identity":
        return raw
    if packed not in _PACKED:
        return None
    try:
        # With a limit: a few bytes can unpack to gigabytes.
        return zlib.decompressobj(_GZIP_OR_ZLIB).decompress(raw, MOST)
    except zlib.error:
        return None
