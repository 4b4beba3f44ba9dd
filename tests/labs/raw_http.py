"""A head that is asked for byte by byte, as no client library would."""

import socket

from capx.api import resource_auth
from tests.server.conftest import Served


def asked(connection: socket.socket, request: bytes) -> bytes:
    """The head of the answer."""
    connection.sendall(request)
    said = b""
    while b"\r\n\r\n" not in said and (piece := connection.recv(4_096)):
        said += piece
    return said


def connected(served: Served) -> socket.socket:
    host, port = served.url.split("://")[1].split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def kid_of(served: Served) -> str:
    with served.everybody() as client:
        return str(client.get("/feed").json()["by"])


def claim(kid: str, at: int) -> str:
    """A header that looks like a proof, but is not one."""
    return f"{resource_auth.SCHEME} audience=crm, kid={kid}, at={at}, body={'A' * 43}, mac={'A' * 43}"
