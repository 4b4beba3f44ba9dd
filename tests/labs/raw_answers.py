"""Answers over a raw connection, which a test reads as they come; nothing is faked."""

import json
import socket
from typing import Any

from msgspec import Struct


class Answer(Struct, frozen=True):
    """One answer, and its body as JSON."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def code(self) -> str:
        """The code of its problem."""
        return str(self.body["code"])


def connected(origin: str, seconds: float = 20) -> socket.socket:
    """Connect to a server of this origin."""
    host, port = origin.split("://")[1].split(":")
    return socket.create_connection((host, int(port)), timeout=seconds)


def answer(connection: socket.socket) -> Answer:
    """Read one answer with a content-length, and not a byte behind it."""
    said = b""
    while not said.endswith(b"\r\n\r\n"):
        said += _one(connection)
    line, *lines = said.decode().strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
    body = b""
    while len(body) < int(headers["content-length"]):
        body += _one(connection)
    return Answer(int(line.split()[1]), headers, json.loads(body))


def is_closed(connection: socket.socket) -> bool:
    """Whether the server ends the connection; waits for that."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def _one(connection: socket.socket) -> bytes:
    byte = connection.recv(1)
    if not byte:
        raise ConnectionError("the server closed the connection before the end of its answer")
    return byte
