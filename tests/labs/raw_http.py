"""A head that is asked for byte by byte, as no client library would."""

import socket


def asked(connection: socket.socket, request: bytes) -> bytes:
    """The head of the answer."""
    connection.sendall(request)
    said = b""
    while b"\r\n\r\n" not in said and (piece := connection.recv(4_096)):
        said += piece
    return said
