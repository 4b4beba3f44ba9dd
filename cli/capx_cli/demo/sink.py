"""The attacker's sink: a web server that takes all that it is sent, and counts the records in it.

`python -m capx_cli.demo.sink` writes its port to stdout, and ends when its stdin does.
"""

import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

from capx_cli.demo.process import say, until_parent_ends


class _Taker(BaseHTTPRequestHandler):
    """Take one request after the other, so that two requests never count at the same time."""

    arrived: ClassVar = {"requests": 0, "records": 0}

    def do_POST(self) -> None:
        records = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["records"]
        self.arrived["requests"] += 1
        self.arrived["records"] += len(records)
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = json.dumps(self.arrived).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def main() -> None:
    """Listen on a free port of the loopback interface until the parent process ends."""
    with HTTPServer(("127.0.0.1", 0), _Taker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        say({"port": server.server_address[1]})
        until_parent_ends()
        server.shutdown()


if __name__ == "__main__":
    main()
