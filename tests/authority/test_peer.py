"""A place names a Unix socket, and what answers there has to be an authority."""

import socket
import threading
from pathlib import Path

import pytest

from capx.authority.remote.client import RemoteAuthority
from capx.errors import ConfigurationProblem, StoreProblem


def test_a_peer_that_is_no_authority_is_told_as_that(tmp_path: Path) -> None:
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno")

        answering = threading.Thread(target=answer)
        answering.start()
        with RemoteAuthority(f"unix:{path}") as remote, pytest.raises(StoreProblem, match="is not a capx authority"):
            remote.tasks()
        answering.join(10)


@pytest.mark.parametrize("place", ["", "unix:", "/tmp/x", "http://x"])
def test_a_place_is_a_unix_socket(place: str) -> None:
    with pytest.raises(ConfigurationProblem, match="write unix:PATH"):
        RemoteAuthority(place)
