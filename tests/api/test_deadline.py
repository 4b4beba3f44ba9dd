"""An answer that drips holds nobody beyond the timeout."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import trustme

from capx.agent.authority_client import AuthorityClient
from capx.authority.authority import Authority
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import StoreProblem
from capx.resource.report_client import ResourceClient
from capx.tokens.bundle import Bundle
from tests.labs.hostile_answers import at_url

Answering = Callable[[], Iterable[bytes]]


@pytest.fixture(scope="module")
def bundle() -> Iterator[Bundle]:
    with Authority.temporary() as authority:
        yield authority.open(allow=["crm.read"]).bundle


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
