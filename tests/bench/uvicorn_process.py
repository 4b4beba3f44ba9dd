"""An ASGI application behind uvicorn, as a process of its own: started alike here and in the environment of the peers.

Law: it needs uvicorn and the standard library only.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Any

from tests.bench.asgi_requests import App


def serve(app: App, say: Callable[[object], None], answer: Callable[[str], object] = str) -> None:
    """Serve on a free port, say which, and then the answer to each line of the input; end when the input does."""
    asyncio.run(_serve(app, say, answer))


async def _serve(app: Any, say: Callable[[object], None], answer: Callable[[str], object]) -> None:
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(
            app, loop="asyncio", http="h11", lifespan="off", ws="none", log_config=None, access_log=False, backlog=512
        )
    )
    # uvicorn names this protocol, too: asyncio sends small pieces at once only on such a socket.
    with socket.socket(proto=socket.IPPROTO_TCP) as network:
        network.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve(sockets=[network]))
        while not server.started:
            await asyncio.sleep(0.005)
        say(network.getsockname()[1])
        while line := await asyncio.to_thread(sys.stdin.readline):
            say(answer(line))
        server.should_exit = True
        await serving
