"""Real servers on 127.0.0.1, ended by whoever started them."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncGenerator, Generator
from typing import Any

import uvicorn


@contextlib.contextmanager
def served(app: Any, **settings: Any) -> Generator[str]:
    """Serve an ASGI application on a free port for the block; gives its origin."""
    # TCP by name: asyncio switches off the delay of small writes only for sockets that say so.
    with socket.socket(proto=socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", **settings))
        thread = threading.Thread(target=_run, args=[server, listening])
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.005)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextlib.asynccontextmanager
async def served_here(app: Any, **settings: Any) -> AsyncGenerator[str]:
    """`served`, in the running event loop, for an application that has connections of this loop."""
    with socket.socket(proto=socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", lifespan="off", **settings))
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            while not server.started and not serving.done():
                await asyncio.sleep(0.005)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


def _run(server: uvicorn.Server, listening: socket.socket) -> None:
    # How uvicorn ends when an application does not start.
    with contextlib.suppress(SystemExit):
        server.run(sockets=[listening])
