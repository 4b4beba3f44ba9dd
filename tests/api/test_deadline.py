"""An answer that drips holds nobody beyond the timeout."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import httpx
import pytest
import trustme

from capx.agent.authority_client import AuthorityClient
from capx.api.deadline import SINGLE, seconds_of, whole_response
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import StoreProblem
from capx.resource.report_client import ResourceClient
from capx.tokens.bundle import Bundle
from tests.labs.hostile_answers import answer, at_url

Answering = Callable[[], Iterable[bytes]]


def dripped(head: bytes, drop: bytes, seconds: float) -> Iterator[bytes]:
    """A beginning, and then a little now and then."""
    yield head
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        yield drop
        threading.Event().wait(0.1)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", id="a body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", id="a body whose length is told"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Drip: ", id="a head"),
    ],
)
def test_an_answer_that_drips_holds_nobody_beyond_the_timeout(bundle: Bundle, head: bytes) -> None:
    key = KeyRing(RootKey.generate()).exported("crm")
    with at_url(lambda: dripped(head, b" ", 12)) as url:
        began = time.monotonic()
        with AuthorityClient(url, bundle, timeout=0.7) as client:
            for ask in (client.status, lambda: client.ask("crm.write", wait=20)):
                with pytest.raises(StoreProblem, match="did not answer"):
                    ask()
        reports = ResourceClient(url, key, timeout=0.7)
        with pytest.raises(StoreProblem, match="did not answer"):
            reports.sighted("crm", 1, now=1)
        reports.close()
        assert time.monotonic() - began < 6


def test_an_answer_that_drips_through_tls_holds_nobody_either(bundle: Bundle) -> None:
    issuer: Any = trustme.CA()
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert("127.0.0.1").configure_cert(own)
    trusted = ssl.create_default_context(cadata=issuer.cert_pem.bytes().decode())
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            with own.wrap_socket(listening.accept()[0], server_side=True) as connection, contextlib.suppress(OSError):
                connection.recv(65_536)
                for piece in dripped(b"HTTP/1.1 200 OK\r\nX-Drip: ", b"x", 12):
                    if over.is_set():
                        return
                    connection.sendall(piece)

        dripping = threading.Thread(target=drip)
        dripping.start()
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        began = time.monotonic()
        told = pytest.raises(StoreProblem, match="did not answer")
        with AuthorityClient(url, bundle, timeout=2, verify=trusted) as client, told:
            client.status()
        assert time.monotonic() - began < 6
        over.set()
        dripping.join(20)


# One answer


class Peer:
    """Somebody who keeps what was asked, and answers with a text in two pieces."""

    def __init__(self, body: bytes = b"whole", status: str = "200 OK") -> None:
        self.asked = b""
        self._pieces = answer(body, status)
        self._pieces = [*self._pieces[:-1], self._pieces[-1][:-2], self._pieces[-1][-2:]]

    def serve(self, listening: socket.socket) -> None:
        """Answer one question."""
        with listening.accept()[0] as connection:
            self.asked = connection.recv(65_536)
            for piece in self._pieces:
                connection.sendall(piece)
                threading.Event().wait(0.05)


@contextlib.contextmanager
def asking(peer: Peer) -> Generator[httpx.Client]:
    """A client of somebody who answers once."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=peer.serve, args=(listening,))
        serving.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", limits=SINGLE) as client:
            yield client
        serving.join(20)


def test_an_answer_in_pieces_is_put_together() -> None:
    with asking(Peer(b"one and other")) as client:
        assert whole_response(client, "GET", "/", seconds=10, most=99).content == b"one and other"


def test_an_answer_comes_with_its_status() -> None:
    with asking(Peer(status="404 Not Found")) as client:
        assert whole_response(client, "GET", "/", seconds=10, most=99).status == 404


def test_an_answer_may_take_its_time_where_none_is_set() -> None:
    with asking(Peer()) as client:
        assert whole_response(client, "GET", "/", seconds=None, most=99).content == b"whole"


def test_an_answer_may_be_as_long_as_was_agreed() -> None:
    with asking(Peer(b"12345")) as client:
        assert whole_response(client, "GET", "/", seconds=10, most=5).content == b"12345"


def test_a_longer_answer_is_refused_with_what_was_agreed() -> None:
    with asking(Peer(b"123456")) as client, pytest.raises(StoreProblem, match=r"127\.0\.0\.1.* 5 bytes"):
        whole_response(client, "GET", "/", seconds=10, most=5)


def test_nothing_compressed_is_asked_for() -> None:
    peer = Peer()
    with asking(peer) as client:
        whole_response(client, "GET", "/", seconds=10, most=99)
    assert b"accept-encoding: identity\r\n" in peer.asked.lower()


def test_what_is_asked_goes_along_with_its_headers() -> None:
    peer = Peer()
    with asking(peer) as client:
        whole_response(client, "POST", "/place", seconds=10, most=99, headers={"X-Own": "1"}, params={"of": "1"})
    lines = peer.asked.lower().split(b"\r\n")
    assert {b"post /place?of=1 http/1.1", b"x-own: 1", b"accept-encoding: identity"} <= set(lines)


def test_whoever_watches_hears_of_the_connection() -> None:
    heard: dict[str, Any] = {}
    with asking(Peer()) as client:
        whole_response(client, "GET", "/", seconds=10, most=99, watching=lambda name, info: heard.update({name: info}))
    assert "return_value" in heard["connection.connect_tcp.complete"]


def test_a_connection_that_breaks_off_is_no_matter_of_time() -> None:
    cut = pytest.raises(httpx.RemoteProtocolError)
    with at_url(lambda: answer(b"short", length=99)) as url, httpx.Client(base_url=url, limits=SINGLE) as client, cut:
        whole_response(client, "GET", "/", seconds=30, most=99)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="an end that is no end"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", id="a body cut short"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Drip: ", id="a head"),
    ],
)
def test_what_comes_too_late_says_how_long_it_might_take(head: bytes) -> None:
    late = pytest.raises(httpx.ReadTimeout, match=r"0\.3 s")
    with at_url(lambda: dripped(head, b" ", 5)) as url, httpx.Client(base_url=url, limits=SINGLE) as client, late:
        whole_response(client, "GET", "/", seconds=0.3, most=999)


@pytest.mark.parametrize(("timeout", "seconds"), [(3, 3), (None, None), (httpx.Timeout(9, read=2), 2)])
def test_a_timeout_is_the_seconds_for_the_whole(timeout: Any, seconds: float | None) -> None:
    assert seconds_of(timeout) == seconds
