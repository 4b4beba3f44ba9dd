"""Stands where an authority should, and answers as it likes."""

import contextlib
import socket
import threading
from collections.abc import Callable, Generator, Iterable

Answering = Callable[[], Iterable[bytes]]


@contextlib.contextmanager
def standing(listening: socket.socket, says: Answering) -> Generator[None]:
    """Something that answers all that is asked in its own way."""
    listening.listen()
    over = threading.Event()

    def run() -> None:
        while True:
            with contextlib.suppress(OSError), listening.accept()[0] as connection:
                if over.is_set():
                    return
                connection.recv(65_536)
                for piece in says():
                    connection.sendall(piece)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        with socket.socket(listening.family) as last:
            last.connect(listening.getsockname())
        thread.join(20)
        assert not thread.is_alive()


def answer(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> list[bytes]:
    """A whole answer, and the connection is closed."""
    size = len(body) if length is None else length
    lines = (f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {size}", *headers)
    return ["\r\n".join((*lines, "Connection: close", "", "")).encode() + body]


@contextlib.contextmanager
def at_url(says: Answering) -> Generator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening, standing(listening, says):
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
