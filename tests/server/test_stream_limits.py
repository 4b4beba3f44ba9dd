"""How many streams may be open, and whose they are."""

import contextlib
import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from capx.guard.asgi.slots import machine_at
from capx.server.waiting.stream_limits import STREAMS_OF_ONE
from tests.labs.serving_process import figure_now
from tests.server.conftest import Served

STREAM = b"GET /feed HTTP/1.1\r\nHost: capx\r\nAccept: text/event-stream\r\n\r\n"
PAGE = b"GET /feed HTTP/1.1\r\nHost: capx\r\nConnection: close\r\n\r\n"


def asked(served: Served, kept: ExitStack, request: bytes, host: str = "127.0.0.1") -> tuple[str, socket.socket]:
    """The status line of the answer, and the connection, which stays open."""
    at = urlsplit(served.url)
    assert at.hostname is not None
    assert at.port is not None
    connected = socket.create_connection((at.hostname, at.port), timeout=20, source_address=(host, 0))
    kept.enter_context(contextlib.closing(connected))
    connected.sendall(request)
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connected.recv(4_096)
        assert piece, head
        head += piece
    return head.split(b"\r\n")[0].decode(), connected


def test_no_machine_takes_the_streams_of_all(served: Served) -> None:
    with ExitStack() as kept:
        streams = [asked(served, kept, STREAM) for _ in range(STREAMS_OF_ONE)]
        assert {status for status, _ in streams} == {"HTTP/1.1 200 OK"}
        with served.everybody() as client:
            refused = client.get("/feed", headers={"accept": "text/event-stream"})
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert "from this address" in refused.json()["detail"]
        assert refused.headers["retry-after"] == "1"
        # Others find room, and the machine itself may still ask for single pages.
        assert asked(served, kept, STREAM, "127.0.0.2")[0] == "HTTP/1.1 200 OK"
        assert asked(served, kept, PAGE)[0] == "HTTP/1.1 200 OK"
        # Its operators look at the log as they always do.
        with served.operators() as operators:
            assert operators.get("/log").status_code == 200


def test_no_page_is_made_for_a_stream_that_is_refused(served: Served) -> None:
    with ExitStack() as kept:
        for _ in range(STREAMS_OF_ONE):
            asked(served, kept, STREAM)
        signed = figure_now(served, "capx_feed_pages_signed_total")
        for number in range(100):
            # Each at another position, for which there is no page yet.
            refused = asked(served, kept, STREAM.replace(b"/feed", b"/feed?since=%d" % number))[0]
            assert refused == "HTTP/1.1 503 Service Unavailable"
        # The open streams get a page a second.
        assert figure_now(served, "capx_feed_pages_signed_total") < signed + 60


def test_a_stream_that_ends_makes_room_for_another(served: Served) -> None:
    with ExitStack() as kept:
        streams = [asked(served, kept, STREAM) for _ in range(STREAMS_OF_ONE)]
        assert asked(served, kept, STREAM)[0] == "HTTP/1.1 503 Service Unavailable"
        streams[0][1].close()
        # That it is gone is noticed with the next page at the latest, and a refusal costs nothing.
        answers = (asked(served, kept, STREAM)[0] for _ in range(1_000))
        assert "HTTP/1.1 200 OK" in answers


@pytest.mark.parametrize(
    ("host", "machine"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("somewhere", "somewhere"),
    ],
)
def test_a_machine_with_many_addresses_is_one(host: str, machine: str) -> None:
    assert machine_at(host) == machine
