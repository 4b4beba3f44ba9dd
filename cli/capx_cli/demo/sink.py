"""The attacker's end: a web server that takes whatever it is sent, and counts the records in it.

`python -m capx_cli.demo.sink` says its port on stdout, and ends when its stdin does.
"""

import json
import threading
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from capx_cli.demo.process import say, until_parent_ends


class Counted:
    """What has arrived."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = 0
        self.records = 0

    def take(self, records: list[Any]) -> None:
        """Count the records of one request."""
        with self._lock:
            self.requests += 1
            self.records += len(records)


class _Taker(BaseHTTPRequestHandler):
    def __init__(self, counted: Counted, *args: Any) -> None:
        self._counted = counted
        super().__init__(*args)

    def do_POST(self) -> None:
        self._counted.take(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["records"])
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = json.dumps({"requests": self._counted.requests, "records": self._counted.records}).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def main() -> None:
    """Listen on a free port of the loopback interface until the parent process ends."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Taker, Counted())) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        say({"port": server.server_address[1]})
        until_parent_ends()
        server.shutdown()


if __name__ == "__main__":
    main()
