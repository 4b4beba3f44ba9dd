"""A head is refused by its size before it is parsed, and by a length that two readers could read differently."""

import itertools
import random
import time

import h11
import pytest
from h11._receivebuffer import ReceiveBuffer  # the parser of the server decides where a head ends
from hypothesis import given
from hypothesis import strategies as st

from capx.api.problems import HttpRefusal
from capx.server.net.heads import HEAD_BYTES, HEAD_LINES, Head, HeadReader
from capx.tokens.wire import MAX_TEXT

REQUEST = b"GET / HTTP/1.1\r\n"


def taken(*pieces: bytes) -> Head | None:
    """What a new reader says to the last of these pieces."""
    reader = HeadReader()
    *before, last = pieces
    assert [reader.take(piece) for piece in before] == [None] * len(before)
    return reader.take(last)


def refused(*pieces: bytes) -> tuple[int, str]:
    with pytest.raises(HttpRefusal) as caught:
        taken(*pieces)
    return caught.value.status, caught.value.code


def lines(count: int) -> bytes:
    return REQUEST + b"a:\r\n" * (count - 1) + b"\r\n"


def test_a_head_of_a_hundred_lines_is_allowed() -> None:
    assert taken(lines(HEAD_LINES)) == Head(lines(HEAD_LINES), b"")


def test_a_head_of_one_line_more_is_refused() -> None:
    assert refused(lines(HEAD_LINES + 1)) == (431, "head_too_large")


def test_lines_are_refused_before_the_head_ends() -> None:
    assert refused(REQUEST, b"a:\n" * (HEAD_LINES + 1)) == (431, "head_too_large")


def test_the_largest_credential_is_allowed() -> None:
    head = REQUEST + b"authorization: Capx %b\r\n" % (b"x" * MAX_TEXT) + b"x: %b\r\n\r\n" % (b"y" * 8_000)
    assert taken(head) == Head(head, b"")


def test_a_byte_more_than_a_head_may_have_is_refused() -> None:
    most = REQUEST + b"x: " + b"y" * (HEAD_BYTES - len(REQUEST) - 7) + b"\r\n\r\n"
    assert taken(most) == Head(most, b"")
    assert refused(most[:-4], b"y\r\n\r\n") == (431, "head_too_large")


def test_bytes_are_refused_before_the_head_ends() -> None:
    assert refused(b"x" * HEAD_BYTES, b"x") == (431, "head_too_large")


def test_what_follows_a_head_is_given_back_uncounted() -> None:
    body = b"\n" * 2 * HEAD_BYTES
    assert taken(lines(3) + body) == Head(lines(3), body)


def test_a_reader_takes_one_head_after_the_other() -> None:
    reader = HeadReader()
    for _ in range(3):
        assert reader.take(lines(HEAD_LINES)[:-1]) is None
        assert reader.take(b"\n") == Head(lines(HEAD_LINES), b"")


@pytest.mark.parametrize("target", [b"/x?", b"/?", b"https://capx.example/x?"])
def test_a_target_with_an_empty_query_is_refused(target: bytes) -> None:
    assert refused(b"GET " + target + b" HTTP/1.1\r\n\r\n") == (400, "bad_request")


@pytest.mark.parametrize("target", [b"/x?a", b"/x?a?", b"/x??", b"/x HTTP/1.1\r\na: /x?"])
def test_other_question_marks_pass(target: bytes) -> None:
    head = b"GET " + target + b" HTTP/1.1\r\n\r\n"
    assert taken(head) == Head(head, b"")


@pytest.mark.parametrize("name", [b"Transfer-Encoding", b"transfer-encoding", b"TRANSFER-ENCODING"])
@pytest.mark.parametrize("value", [b" chunked", b"gzip", b"", b"\tidentity"])
def test_another_length_than_content_length_is_refused(name: bytes, value: bytes) -> None:
    chunked = b"%b:%b\r\n" % (name, value)
    assert refused(REQUEST + chunked + b"\r\n") == (411, "length_required")
    for both in (b"Content-Length: 3\r\n" + chunked, chunked + b"content-length:3\r\n"):
        assert refused(REQUEST + both + b"\r\n") == (400, "two_lengths")


def test_a_field_is_looked_for_only_where_fields_begin() -> None:
    head = b"GET /transfer-encoding: HTTP/1.1\r\nx: transfer-encoding:\r\nx-transfer-encoding: y\r\n\r\n"
    assert taken(head) == Head(head, b"")


@pytest.mark.parametrize("ends", [b"\r\n", b"\n"])
def test_another_version_of_http_is_refused(ends: bytes) -> None:
    for first in (b"GET / HTTP/1.1", b"GET / HTTP/1.0", b"get /a?b=c HTTP/1.1"):
        head = first + ends + b"host: x" + ends + ends
        assert taken(head) == Head(head, b"")
    for first in (
        b"PRI * HTTP/2.0",
        b"GET / HTTP/1.9",
        b"GET / HTTP/1.10",
        b"GET / HTTP/0.9",
        b"GET / HTTP/3",
        b"GET / http/1.1",
        b"GET / HTTP/1.1 ",
        b"GET /",
        b"",
        b"\r",
    ):
        assert refused(first + ends + b"host: x" + ends + ends) == (400, "bad_request")


SOUP = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b":", b" "]), max_size=60).map(b"".join)


@given(SOUP, st.lists(st.integers(0, 60), max_size=6))
def test_a_head_ends_where_h11_ends_it(soup: bytes, cuts: list[int]) -> None:
    soup = REQUEST + soup
    buffer = ReceiveBuffer()
    buffer += soup
    whole = buffer.maybe_extract_lines() is not None
    expected = Head(soup[: len(soup) - len(buffer)], bytes(buffer)) if whole else None
    reader, found = HeadReader(), None
    bounds = sorted({0, *(cut for cut in cuts if cut < len(soup)), len(soup)})
    pieces = [soup[begin:end] for begin, end in itertools.pairwise(bounds)]
    while pieces and found is None:
        found = reader.take(pieces.pop(0))
    assert (found and Head(found.head, found.after + b"".join(pieces))) == expected


def test_a_field_that_h11_reads_as_a_length_is_seen() -> None:
    # Whatever h11 takes for one of the two fields, the reader refuses before.
    chance = random.Random(5)
    for _ in range(3_000):
        name = "".join(chance.choice((c.lower(), c.upper())) for c in "transfer-encoding")
        between = "".join(chance.choice(("", " ", "\t", "\r\n ", ":")) for _ in range(3))
        ends = chance.choice(("\r\n", "\n"))
        head = f"POST / HTTP/1.1{ends}Host: x{ends}{name}{between}:{between}chunked{ends}{ends}".encode()
        parser = h11.Connection(h11.SERVER)
        parser.receive_data(head)
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError:
            continue
        if isinstance(event, h11.Request) and b"transfer-encoding" in dict(event.headers):
            assert refused(head) == (411, "length_required")


def test_a_head_is_collected_in_linear_time() -> None:
    def seconds(size: int) -> float:
        reader = HeadReader()
        began = time.perf_counter()
        for _ in range(size):
            reader.take(b"x")
        return time.perf_counter() - began

    few, many = (min(seconds(size) for _ in range(7)) for size in (HEAD_BYTES // 8, HEAD_BYTES - 10))
    # Eight times as many; squares would be sixty-four.
    assert many < 30 * few
