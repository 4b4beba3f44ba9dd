"""The lines of a stream: whole, bounded, and none lost, however the stream is cut."""

import asyncio
import pickle
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capx.api.relay.lines import Lines, TooLong


def lines(pieces: Sequence[bytes], most: int = 10) -> list[bytes | str]:
    """What a reader gets: a text for each line that was too long."""
    return [one if isinstance(one, bytes) else one.head.decode("latin-1") for one in read_all(pieces, most)]


def read_all(pieces: Sequence[bytes], most: int) -> list[bytes | TooLong]:
    left = iter([*pieces, b""])

    async def read() -> bytes:
        return next(left)

    async def main() -> list[bytes | TooLong]:
        found: list[bytes | TooLong] = []
        reader = Lines(read, most)
        while True:
            try:
                line = await reader.next()
            except TooLong as error:
                found.append(error)
                continue
            if line is None:
                assert await reader.next() is None
                return found
            found.append(line)

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("pieces", "found"),
    [
        ([], []),
        ([b"a\nb\n"], [b"a", b"b"]),
        ([b"a", b"b\nc", b"\n"], [b"ab", b"c"]),
        ([b"a\n\n \r\nb"], [b"a", b"b"]),
        ([b"\na\n"], [b"a"]),
        ([b"0123456789\n"], [b"0123456789"]),
        ([b"0123456789", b"\na\n"], [b"0123456789", b"a"]),
        ([b"0123456789x", b"\na\n"], ["0123456789x", b"a"]),
        ([b"0123456789x\na\n"], ["0123456789x", b"a"]),
        ([b"0123456789x", b"yyyyyyyyyyyy", b"yyyyyyyyyyyy\na\n"], ["0123456789x", b"a"]),
        ([b"0123456789x", b"yyy"], ["0123456789x"]),
        ([b"0123456789x"], ["0123456789x"]),
    ],
)
def test_lines_are_whole_or_dropped_as_a_whole(pieces: list[bytes], found: list[bytes | str]) -> None:
    assert lines(pieces) == found


def test_a_line_that_is_too_long_says_how_long_it_may_be() -> None:
    async def read() -> bytes:
        return b"0123456789x\n"

    with pytest.raises(TooLong, match="more than 10 bytes") as error:
        asyncio.run(Lines(read, 10).next())
    assert error.value.most == 10


def test_a_line_in_many_pieces_is_searched_once() -> None:
    pieces = [b"x" * 16] * (1 << 17) + [b"\n"]
    began = time.process_time()
    (line,) = lines(pieces, 1 << 21)
    assert time.process_time() - began < 1
    assert len(line) == 1 << 21


@given(st.lists(st.binary(max_size=30)), st.lists(st.integers(1, 9)))
def test_how_the_stream_is_cut_makes_no_difference(texts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(text.replace(b"\n", b"") + b"\n" for text in texts)
    pieces, at = list[bytes](), 0
    for cut in cuts:
        pieces.append(stream[at : at + cut])
        at += cut
    cut_up = [piece for piece in [*pieces, stream[at:]] if piece]
    wanted = lines([stream] if stream else [])
    # The head of a line that is too long may be longer or shorter.
    assert [one if isinstance(one, bytes) else "long" for one in lines(cut_up)] == [
        one if isinstance(one, bytes) else "long" for one in wanted
    ]


@pytest.mark.parametrize(
    ("line", "id"),
    [
        (b'{"jsonrpc":"2.0","id":7,"result":{"a":"*"}}', 7),
        (b' {"id" : "a-1", "jsonrpc":"2.0", "result":{"a":"*"}}', "a-1"),
        (b'{"id":-3,"error":"*"}', -3),
        (b'{"result":{"a":"*"},"jsonrpc":"2.0","id":7}', 7),
        (b'{"jsonrpc":"2.0","result":{"a":"*"},"id":"b" } ', "b"),
        (b'{"result":{"a":"*"},"id":7,"jsonrpc":"2.0"}', 7),
        (b'{"id":7.5,"result":"*"}', None),
        (b'{"id":null,"result":"*"}', None),
        # In a result, another id is no id of the message.
        (b'{"result":{"id":3,"a":"*"},"more":1}', None),
        (b'{"result":{"a":"*","id":3}}', None),
        (b'{"result":"*, \\"id\\":3}"}', None),
        # Requests answer nothing.
        (b'{"jsonrpc":"2.0","id":7,"method":"a","params":["*"]}', None),
        (b'{"id":7,"jsonrpc":"2.0","method":"a","params":["*"]}', None),
        (b'{"method":"a","params":["*"],"id":7}', None),
        (b"*", None),
    ],
)
def test_a_dropped_line_names_the_request_that_it_answers(line: bytes, id: object) -> None:
    long = line.replace(b"*", b"x" * 20_000)
    for size in (1, 100, 5_000, 50_000):
        pieces = [long[at : at + size] for at in range(0, len(long), size)]
        (dropped,) = read_all([*pieces, b"\n"], 100)
        assert isinstance(dropped, TooLong)
        assert dropped.answers() == id


def test_the_error_can_be_pickled() -> None:
    error = TooLong(9, b"x", b"y")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.most, again.head, again.tail) == (str(error), 9, b"x", b"y")
