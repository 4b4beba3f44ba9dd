"""A service in a process of its own, on the authority's feed: `python -m tests.labs.loop_service ACTION …`.

POST /ACTION is that action, with `id` as its argument. It tells its port in a line, and ends with its standard input.
"""

import socket
import sys
import threading

import uvicorn
from fastapi import FastAPI

from capx.guard.fastapi import GRANTED, FastAPIGuard


def build(actions: list[str]) -> tuple[FastAPI, FastAPIGuard]:
    """The application that has these actions, and its guard, as the environment describes it."""
    guard = FastAPIGuard.from_env()
    app = FastAPI(openapi_url=None)
    guard.protect(app)
    for action in actions:

        @app.post(f"/{action}")
        @guard.action(action, tenant=GRANTED)
        def act(id: int) -> int:
            return id

    return app, guard


def main() -> None:
    """Serve until standard input ends."""
    app, guard = build(sys.argv[1:])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))

    def end() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=end, daemon=True).start()
    # By its protocol asyncio knows that it is TCP, and lets nothing wait to be sent together.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        sys.stdout.write(f"{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        server.run(sockets=[listening])
    if guard.connection is not None:
        guard.connection.close()


if __name__ == "__main__":
    main()
