"""Reads a stream of server-sent events (WHATWG HTML, 9.2) as an authority writes them: the data of each is one line.

Law: the data has a longest length, so nobody fills the memory of who reads. Streams of MCP, whose events may take any
form, are for capx.api.relay.event_stream.
"""

from collections.abc import Iterator

from capx.errors import StoreProblem


class EventReader:
    """The events of one stream, piece after piece. StoreProblem(`too_long`) for data of more than `most` bytes."""

    def __init__(self, most: int, too_long: str) -> None:
        self._most = most + len(b"data: \r")
        self._too_long = too_long
        self._line = bytearray()
        self._kind = "message"
        self._data: bytes | None = None

    def take(self, piece: bytes) -> Iterator[tuple[str, bytes]]:
        """Yield the kind and the data of the events that end in this piece."""
        *ends, rest = piece.split(b"\n")
        for end in ends:
            self._add(end)
            line = bytes(self._line).removesuffix(b"\r")
            self._line.clear()
            if not line:
                if self._data is not None:
                    yield self._kind, self._data
                self._kind, self._data = "message", None
            elif line.startswith(b"event:"):
                self._kind = line[6:].removeprefix(b" ").decode("ascii", "replace")
            elif line.startswith(b"data:"):
                if self._data is not None:
                    raise StoreProblem(self._too_long)
                self._data = line[5:].removeprefix(b" ")
        self._add(rest)

    def _add(self, part: bytes) -> None:
        """Add a part to the line that was begun."""
        self._line += part
        if len(self._line) > self._most:
            raise StoreProblem(self._too_long)
