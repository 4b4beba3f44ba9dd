"""Receivers of notices: real servers on 127.0.0.1 that check each signature by the text of Standard Webhooks."""

import base64
import hashlib
import hmac
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from capx.server.notify.hook import Hook
from capx.server.notify.notices import Notice


def secret(seed: int = 1) -> str:
    """A secret as the file of hooks has it."""
    return "whsec_" + base64.b64encode(bytes([seed]) * 32).decode()


def key_of(text: str) -> bytes:
    return base64.b64decode(text.removeprefix("whsec_"))


def is_good(headers: Mapping[str, str], body: bytes, key: bytes) -> bool:
    """Whether the key signed this, not long ago: as Standard Webhooks says it, and without any code of capx."""
    covered = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, covered, hashlib.sha256).digest()).decode()
    recent = abs(time.time() - int(headers["webhook-timestamp"])) < 300
    return recent and any(hmac.compare_digest(one, f"v1,{expected}") for one in headers["webhook-signature"].split(" "))


Behaviour = Callable[["_Handler"], None]
"""Answers one request, after its body was read."""


def status(code: int, **headers: str) -> Behaviour:
    def answer(handler: "_Handler") -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "2")
        handler.end_headers()
        handler.wfile.write(b"ok")

    return answer


def hangs(handler: "_Handler") -> None:
    handler.receiver.closing.wait(60)


def drips(handler: "_Handler") -> None:
    """One byte a second, of a head that has no end."""
    with suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not handler.receiver.closing.wait(1):
            handler.wfile.write(b"x")
            handler.wfile.flush()


def floods(handler: "_Handler") -> None:
    """An answer without end."""
    with suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not handler.receiver.closing.is_set():
            handler.wfile.write(b"x" * 65_536)
            handler.receiver.flooded += 65_536


class _Handler(BaseHTTPRequestHandler):
    receiver: "Receiver"

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        # A sender that was killed in the middle of it has said nothing.
        if len(body) == length:
            self.receiver.take(headers, body)
            self.receiver.behaviour(self)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Receiver:
    """A server that keeps what it gets; `behaviour` may be changed at any time."""

    def __init__(
        self, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None, seed: int = 1
    ) -> None:
        self.secret = secret(seed)
        self.behaviour: Behaviour = status(200)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.bad = 0
        self.closing = threading.Event()
        self.flooded = 0
        serve = _SixServer if ":" in host else _Server
        self._server = serve((host, port), type("Handler", (_Handler,), {"receiver": self}))
        self.port: int = self._server.server_address[1]
        self.scheme = "http"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
            self.scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, headers: dict[str, str], body: bytes) -> None:
        """Keep a notice, and look at its signature while it is young."""
        self.bad += not is_good(headers, body, key_of(self.secret))
        self.got.append((headers, body))

    def url(self, host: str = "127.0.0.1", path: str = "/hook") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def hook(self, name: str = "pager", **more: Any) -> Hook:
        given: dict[str, Any] = {"url": self.url(), "secret": key_of(self.secret), "private": True}
        return Hook(name=name, **(given | more))

    def table(self, name: str = "pager", more: str = "") -> str:
        """The table of this hook in a file."""
        return f'[hook.{name}]\nurl = "{self.url()}"\nsecret = "{self.secret}"\nprivate = true\n{more}\n'

    @property
    def told(self) -> list[dict[str, Any]]:
        """What it was told, in order; the signature of each must be good."""
        assert self.bad == 0
        return [json.loads(body) for _, body in self.got]

    def kinds(self) -> list[str]:
        return [one["kind"] for one in self.told]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients leave as they like."""


class _SixServer(_Server):
    address_family = socket.AF_INET6


def write_file(folder: Path, *tables: str, name: str = "hooks.toml") -> Path:
    """A file of hooks that only its owner can use."""
    path = folder / name
    path.touch(mode=0o600)
    path.write_text("\n".join(tables), encoding="utf-8")
    return path


def notice(**said: Any) -> Notice:
    given: dict[str, Any] = {"id": "msg_1", "kind": "request_waits", "at": int(time.time()), "text": "A request waits."}
    return Notice(**(given | said))


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def script(folder: Path, text: str, name: str = "told") -> str:
    """The full path of a program with this text."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    path.chmod(0o700)
    return str(path)
