"""An answer without end, or packed, is left before it is held. What is wrong with TLS is said."""

import gzip
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from capx.agent.authority_client import AuthorityClient
from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem, StoreProblem, Unavailable
from capx.tokens.bundle import Bundle
from tests.labs.hostile_answers import answer, at_url

Answering = Callable[[], Iterable[bytes]]


@pytest.fixture(scope="module")
def bundle() -> Iterator[Bundle]:
    with Authority.temporary() as authority:
        yield authority.open(allow=["crm.read"]).bundle


def endless() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
    while True:
        yield b" " * (1 << 16)


def test_an_answer_without_end_is_left_before_its_end(bundle: Bundle) -> None:
    told = pytest.raises(StoreProblem, match="more than 1048576 bytes")
    with at_url(endless) as url, AuthorityClient(url, bundle) as client, told:
        client.status()


def test_nothing_compressed_is_asked_for_nor_unpacked(bundle: Bundle) -> None:
    bombed = answer(gzip.compress(b" " * (64 << 20), 9), "200 OK", "Content-Encoding: gzip")
    # Unpacked, it would be too long.
    told = pytest.raises(StoreProblem, match="of another version")
    with at_url(lambda: bombed) as url, AuthorityClient(url, bundle) as client, told:
        client.status()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        heard: list[bytes] = []

        def hear() -> None:
            with listening.accept()[0] as connection:
                heard.append(connection.recv(65_536))

        hearing = threading.Thread(target=hear)
        hearing.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with AuthorityClient(url, bundle) as client, pytest.raises(StoreProblem):
            client.status()
        hearing.join(20)
    assert heard[0].lower().count(b"accept-encoding:") == heard[0].lower().count(b"accept-encoding: identity") == 1


@pytest.mark.parametrize(
    ("host", "trusted", "says"),
    [
        ("127.0.0.1", False, "certificate that is not trusted here .*SSL_CERT_FILE"),
        ("localhost", True, "certificate for another name"),
    ],
)
def test_a_certificate_that_is_not_good_is_named(
    *, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, trusted: bool, says: str
) -> None:
    issuer, other = trustme.CA(), trustme.CA()
    (issuer if trusted else other).cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "tls.pem")
    context.load_cert_chain(tmp_path / "tls.pem")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def shake() -> None:
            with suppress(OSError), listening.accept()[0] as plain, context.wrap_socket(plain, server_side=True):
                pass

        shaking = threading.Thread(target=shake)
        shaking.start()
        url = f"https://{host}:{listening.getsockname()[1]}"
        with AuthorityClient(url, bundle) as client, pytest.raises(Unavailable, match=says):
            client.status()
        shaking.join(20)


def test_plain_http_where_tls_is_meant_is_named(bundle: Bundle) -> None:
    with (
        at_url(lambda: answer(b"{}")) as url,
        AuthorityClient(url.replace("http", "https"), bundle) as client,
        pytest.raises(Unavailable, match="does it serve http"),
    ):
        client.status()


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_cannot_be_read_are_a_problem(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigurationProblem, match="SSL_CERT_FILE"), AuthorityClient("https://localhost:1", bundle):
        raise AssertionError
