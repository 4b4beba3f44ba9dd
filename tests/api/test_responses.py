"""An answer without end, or packed, is left before it is held."""

import gzip
import socket
import threading
from collections.abc import Callable, Iterable, Iterator

import pytest

from capx.agent.authority_client import AuthorityClient
from capx.errors import StoreProblem
from capx.tokens.bundle import Bundle
from tests.labs.hostile_answers import answer, at_url

Answering = Callable[[], Iterable[bytes]]


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
