"""Collects the head of a request, piece by piece, and refuses it by its size before anything parses it.

Laws:

- Nothing parses a head before all of it is there, and is known to be small. So a stranger cannot make the parser work
  more than a head of this size takes.
- The work for a piece is linear in the piece.
- A head is one of HTTP/1.1 or HTTP/1.0, or it is refused.
- A target with an empty query (`/x?`) is refused. The application would see it as the target without one, and a proof
  of one request would be good for two.
- The length of a body is known from its head. A request with Transfer-Encoding is refused: a body in thousands of tiny
  chunks costs the parser as much as thousands of lines. With two lengths, a proxy and this server could disagree where
  the next request begins (RFC 9112, 6.3).
"""

import re
from typing import Final

from msgspec import Struct

from capx.api.problems import HttpRefusal
from capx.tokens.wire import MAX_CREDENTIAL

HEAD_LINES: Final = 100
"""The most lines of a head: the request line and its fields."""
HEAD_BYTES: Final = MAX_CREDENTIAL + 8 * 1024
"""The most bytes of a head: the largest credential, and 8 KiB for everything else."""

NO_HTTP: Final = "this is not a request of HTTP/1.1 or HTTP/1.0"

# h11 takes HTTP/1.9 and HTTP/2.0, too, and answers them as HTTP/1.1.
_FIRST: Final = re.compile(rb"[^\r\n]+ HTTP/1\.[01]\r?\n")
_EMPTY_QUERY: Final = re.compile(rb"[^?\r\n]+\? HTTP/")
# Exactly where h11 ends a head, and where it begins a field.
_END: Final = re.compile(rb"\n\r?\n")
_CHUNKED: Final = re.compile(rb"\ntransfer-encoding:", re.IGNORECASE)
_LENGTH: Final = re.compile(rb"\ncontent-length:", re.IGNORECASE)


class Head(Struct, frozen=True):
    """A whole head with the empty line at its end, and the bytes that came after it."""

    head: bytes
    after: bytes


class HeadReader:
    """Collects one head after the other, of one connection."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._lines = 0

    def take(self, piece: bytes) -> Head | None:
        """The head, when this piece completes it.

        HttpRefusal if it is too large, is not HTTP/1.1 or HTTP/1.0, has an empty query, or has Transfer-Encoding.
        """
        began = len(self._held)
        self._held += piece
        # The end may have begun in the piece before.
        found = _END.search(self._held, max(0, began - 2))
        size = len(self._held) if found is None else found.end()
        self._lines += self._held.count(b"\n", began, size)
        # One line more: the empty line at the end.
        if size > HEAD_BYTES or self._lines > HEAD_LINES + 1:
            raise HttpRefusal(
                431, "head_too_large", f"the head of a request may have {HEAD_LINES} lines and {HEAD_BYTES} bytes"
            )
        if found is None:
            return None
        head = Head(bytes(self._held[:size]), bytes(self._held[size:]))
        self._held.clear()
        self._lines = 0
        if _FIRST.match(head.head) is None:
            raise HttpRefusal(400, "bad_request", NO_HTTP)
        if _EMPTY_QUERY.match(head.head) is not None:
            raise HttpRefusal(400, "bad_request", "the query of this request is empty: leave the `?` out")
        _demand_known_length(head.head)
        return head


def _demand_known_length(head: bytes) -> None:
    if _CHUNKED.search(head) is None:
        return
    if _LENGTH.search(head) is not None:
        raise HttpRefusal(
            400, "two_lengths", "the request has Content-Length and Transfer-Encoding: send the first only"
        )
    raise HttpRefusal(411, "length_required", "this server reads no Transfer-Encoding: send Content-Length")
