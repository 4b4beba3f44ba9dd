"""What comes before the parser, on each connection: bounded heads, one request at a time, and nothing that stays."""

import asyncio
import contextlib
import gc
import json
import select
import socket
import struct
import threading
import time
from collections.abc import Generator

import pytest
import uvicorn
from starlette.types import Send

from capx.server.net import head_queue, http_protocol
from capx.server.net.head_queue import HeadQueue
from capx.server.net.heads import HEAD_BYTES, HEAD_LINES
from capx.server.net.http_protocol import BoundedHeadProtocol
from capx.tokens.wire import MAX_TEXT
from tests.labs.raw_http import connected
from tests.labs.serving_process import HEALTHY, figure_now, lives
from tests.labs.waiting import until
from tests.server.conftest import Served

LONG = b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"a:\n" * 5_400 + b"\n"
NOTHING = b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n"


def said_to(connection: socket.socket, *pieces: bytes) -> bytes:
    """All that is said until the connection ends."""
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            connection.sendall(piece)
    said = b""
    # What is refused unread may end with a reset.
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(1 << 16):
            said += piece
    return said


def problem(said: bytes) -> tuple[int, str]:
    """The status and the code of the only answer."""
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"\r\ncontent-type: application/problem+json\r\n" in head
    assert b"\r\nconnection: close" in head
    found = json.loads(body)
    assert int(head.split(b" ")[1]) == found["status"]
    return found["status"], found["code"]


def test_a_head_of_too_many_lines_is_refused(shared: Served) -> None:
    with connected(shared) as connection:
        assert problem(said_to(connection, LONG)) == (431, "head_too_large")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(shared.socket))
        assert problem(said_to(connection, LONG)) == (431, "head_too_large")


def test_a_head_without_an_end_is_refused(shared: Served) -> None:
    with connected(shared) as connection:
        assert problem(said_to(connection, LONG[:HEAD_BYTES], b"x" * 100)) == (431, "head_too_large")


def test_another_version_of_http_gets_problem_details(shared: Served) -> None:
    for first in (b"PRI * HTTP/2.0", b"GET /healthz HTTP/1.9"):
        with connected(shared) as connection:
            assert problem(said_to(connection, first + b"\r\nhost: x\r\n\r\n")) == (400, "bad_request")
    with connected(shared) as connection:
        assert said_to(connection, b"GET /healthz HTTP/1.0\r\n\r\n").endswith(b'{"alive":true}')


def test_no_head_hides_behind_another_request(shared: Served) -> None:
    # In one piece with a request that is answered, or with the body of one.
    for before in (NOTHING, b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"):
        with connected(shared) as connection:
            said = said_to(connection, before + LONG)
        assert said.startswith(b"HTTP/1.1 404 ")
        assert said.count(b"HTTP/1.1") == 1
    for before in (NOTHING, b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\nabc"):
        with connected(shared) as connection:
            connection.sendall(before)
            said = b""
            while not said.endswith(b"}"):
                said += connection.recv(4_096)
            # Also where the answer comes before the end of the body.
            later = said_to(connection, b"def"[: 3 * (before is not NOTHING)] + LONG)
        assert problem(later) == (431, "head_too_large")


def test_requests_sent_before_the_answer_get_one_answer(shared: Served) -> None:
    with connected(shared) as connection:
        said = said_to(connection, HEALTHY * 1_000)
    assert said.count(b"HTTP/1.1 200 ") == 1
    assert said.endswith(b'{"alive":true}')


def test_requests_one_after_the_other_share_a_connection(shared: Served) -> None:
    with connected(shared) as connection:
        for _ in range(3):
            assert lives(connection)
            connection.sendall(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n" + b"\n" * 999)
            said = b""
            while not said.endswith(b"}"):
                said += connection.recv(4_096)
            assert said.startswith(b"HTTP/1.1 404 ")
            connection.sendall(b"\n")


@pytest.mark.parametrize("size", [1, 7, 4_000])
def test_the_largest_token_gets_its_answer_in_any_pieces(shared: Served, size: int) -> None:
    head = b"GET /agent/status HTTP/1.1\r\nhost: x\r\nauthorization: Capx capx1_%b\r\n\r\n" % (b"A" * (MAX_TEXT - 6))
    with connected(shared) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for begin in range(0, len(head), size):
            connection.sendall(head[begin : begin + size])
        said = b""
        while not said.endswith(b"}"):
            said += connection.recv(1 << 16)
    assert said.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"content-length: 2\r\ntransfer-encoding: chunked\r\n", (400, "two_lengths")),
        (b"transfer-encoding: chunked\r\ncontent-length: 2\r\n", (400, "two_lengths")),
        (b"transfer-encoding: chunked\r\n", (411, "length_required")),
        (b"content-length: 2\r\ncontent-length: 3\r\n", (400, "bad_request")),
        (b"content-length: -2\r\n", (400, "bad_request")),
    ],
)
def test_a_body_has_one_length_or_is_refused(shared: Served, fields: bytes, expected: tuple[int, str]) -> None:
    with connected(shared) as connection:
        said = said_to(connection, b"POST /decisions HTTP/1.1\r\nhost: x\r\n%b\r\n2\r\n{}\r\n0\r\n\r\n" % fields)
    assert problem(said) == expected


@pytest.mark.parametrize("sent", [b"\0\r\n\r\n", b"\r\n\r\n", b"\n\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_what_is_not_http_is_refused(shared: Served, sent: bytes) -> None:
    with connected(shared) as connection:
        assert problem(said_to(connection, sent)) == (400, "bad_request")


def test_heads_that_are_refused_are_counted(shared: Served) -> None:
    name = 'capx_http_requests_total{face="everybody",method="other",route="other",status="431"}'
    before = max(0.0, figure_now(shared, name))
    with connected(shared) as connection:
        said_to(connection, LONG)
    assert figure_now(shared, name) == before + 1


@contextlib.contextmanager
def in_this_process(body: bytes = b"") -> Generator[int]:
    """The port of a server whose objects can be counted: it answers everything with this body."""

    async def answer(scope: object, receive: object, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200 if body else 204, "headers": []})
        await send({"type": "http.response.body", "body": body})

    def protocol(**settings: object) -> BoundedHeadProtocol:
        return BoundedHeadProtocol(heads=queue, refused=lambda status: None, **settings)

    async def serve() -> None:
        await server.serve(sockets=[listening])

    queue = HeadQueue(lambda head, machine: machine, slows_strangers=False)
    config = uvicorn.Config(answer, http=protocol, lifespan="off", log_config=None, ws="none")  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        until(lambda: server.started)
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def remembered() -> int:
    """How many connections are in memory."""
    return sum(isinstance(each, BoundedHeadProtocol) for each in gc.get_objects())


@pytest.mark.parametrize("sent", [b"", HEALTHY[:-2], HEALTHY, HEALTHY + b"x"])
def test_a_connection_that_was_reset_is_forgotten_at_once(sent: bytes) -> None:
    with in_this_process() as port:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(sent)
                if sent.startswith(HEALTHY):
                    assert connection.recv(4_096).startswith(b"HTTP/1.1 204 ")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Long before any timer of the connection: ten seconds for a head, five at rest.
        began = time.monotonic()
        until(lambda: gc.collect() >= 0 and not remembered(), seconds=4)
        assert time.monotonic() - began < 4


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="only Linux tells what was closed in order")
@pytest.mark.parametrize("is_reset", [True, False])
@pytest.mark.parametrize("sent", [HEALTHY, HEALTHY + bytes(1 << 16)])
def test_a_client_that_leaves_while_it_waits_is_forgotten(
    monkeypatch: pytest.MonkeyPatch, sent: bytes, is_reset: bool
) -> None:
    # No turn comes.
    monkeypatch.setattr(head_queue, "AT_ONCE", 0)
    with in_this_process() as port:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(sent)
            until(lambda: remembered() == 1)
            time.sleep(0.1)
            assert remembered() == 1
            if is_reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until(lambda: gc.collect() >= 0 and not remembered(), seconds=4)


def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "READ_SECONDS", 0.3)
    with in_this_process(bytes(16 << 20)) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(HEALTHY)
        assert connection.recv(9) == b"HTTP/1.1 "
        # Long before any other timer of the connection, which would wait for the client, too.
        until(lambda: gc.collect() >= 0 and not remembered(), seconds=4)


def test_a_client_that_reads_a_little_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "READ_SECONDS", 0.3)
    monkeypatch.setattr(http_protocol, "UNREAD_BYTES", 1)
    with in_this_process(bytes(8 << 20)) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(HEALTHY.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        said = 0
        while piece := connection.recv(1 << 19, socket.MSG_WAITALL):
            said += len(piece)
            time.sleep(0.05)
        assert said > 8 << 20


def test_a_request_that_fails_to_begin_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "dict", None, raising=False)
    with in_this_process() as port, socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        assert said_to(connection, HEALTHY) == b""


def test_a_head_may_have_as_many_lines_as_the_limit_says(shared: Served) -> None:
    head = b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * (HEAD_LINES - 2) + b"\r\n"
    with connected(shared) as connection:
        connection.sendall(head)
        assert connection.recv(4_096).startswith(b"HTTP/1.1 200 ")
