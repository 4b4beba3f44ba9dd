"""An approver in a third place: a hook tells it what waits, it looks, and it says yes.

python -m tests.labs.elsewhere.approver AUTHORITY EPOCH-ID     with key and secret of the hook in its folder

It says its port first, and then, for each answer, when it was signed (Unix seconds).
"""

import base64
import hmac
import json
import queue
import sys
import threading
import time
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from capx.authority.people.client import PersonClient
from capx.intents.principal_key import PrincipalKey
from tests.bench.authority.child import say

_told: "queue.Queue[str | None]" = queue.Queue()


class Receiver(BaseHTTPRequestHandler):
    """Takes the notices of the hook."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_good = is_signed(self.headers, body)
        if is_good and (notice := json.loads(body))["kind"] == "request_waits":
            _told.put(notice["request"])
        self.send_response(204 if is_good else 401)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def is_signed(headers: Message, body: bytes) -> bool:
    """Whether a notice is signed with the secret of the hook, as Standard Webhooks says."""
    key = base64.b64decode(Path("hook.secret").read_text().strip().removeprefix("whsec_"))
    covered = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.digest(key, covered, "sha256")).decode()
    return hmac.compare_digest(expected, headers["webhook-signature"])


def _until_the_input_ends() -> None:
    sys.stdin.read()
    _told.put(None)


def main(authority: str, trust: str) -> None:
    """Answer until the input ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say(server.server_address[1])
    threading.Thread(target=_until_the_input_ends, daemon=True).start()
    with PersonClient(authority, PrincipalKey.load("ben.key"), known="known", trust=trust) as me:
        while (request := _told.get()) is not None:
            inquiry = me.inquiry(request).inquiry
            began = time.time()
            decided = me.answer(inquiry, yes=True)
            say({"args": decided.args, "answered": began})


if __name__ == "__main__":
    main(*sys.argv[1:])
