"""Events of an authority come whole from any pieces, and one that is too long is refused."""

from itertools import pairwise

import pytest

from capx.api.sse import EventReader
from capx.errors import StoreProblem

STREAM = b": here\n\nevent: inbox\r\ndata: {}\r\n\r\nid: 7\ndata:x\n\nevent: end\n\ndata: never ended\n"
EVENTS = [("inbox", b"{}"), ("message", b"x")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(STREAM)])
def test_events_come_whole_from_any_pieces(size: int) -> None:
    reader = EventReader(100, "too long")
    pieces = [STREAM[a:b] for a, b in pairwise([*range(0, len(STREAM), size), len(STREAM)])]
    assert [event for piece in pieces for event in reader.take(piece)] == EVENTS


def test_data_of_the_longest_length_passes() -> None:
    reader = EventReader(10, "too long")
    assert list(reader.take(b"data: 0123456789\r\n\r\n")) == [("message", b"0123456789")]


@pytest.mark.parametrize(
    "stream", [b"data: 0123456789ab", b"data: 0123456789ab\n\n", b": 0123456789abcdef", b"data: 1\ndata: 2\n\n"]
)
def test_a_line_without_end_and_data_of_two_lines_are_refused(stream: bytes) -> None:
    with pytest.raises(StoreProblem, match="too long"):
        list(EventReader(10, "too long").take(stream))
