"""A witness over HTTP, as C2SP describes it; its state is a real one."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from capx.ledger.note import NoteKey
from capx.ledger.note_keys import WitnessKey
from capx.ledger.witness import AddCheckpoint, NotCosigned, OtherSize, WitnessState


class Witness:
    """A witness over HTTP, as C2SP describes it; its state is a real one."""

    def __init__(self, folder: Path, logs: list[NoteKey]) -> None:
        self.key = WitnessKey.generate("witness.example/w1")
        self.state = WitnessState(folder / "w.state")
        self.state.create()
        witness = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                status, answer = witness.answered(self.path, body, logs)
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.answers: list[int] = []
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answered(self, path: str, body: str, logs: list[NoteKey]) -> tuple[int, bytes]:
        if path != "/add-checkpoint":
            return 404, b""
        try:
            line = self.state.cosign(AddCheckpoint.parse(body), self.key.cosigner, logs, now=1_800_000_000)
        except OtherSize as refused:
            self.answers.append(409)
            return 409, f"{refused.size}\n".encode()
        except NotCosigned as refused:
            self.answers.append(refused.status)
            return refused.status, str(refused).encode()
        self.answers.append(200)
        return 200, line.encode()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
