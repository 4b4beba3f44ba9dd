"""An ASGI application behind uvicorn, as a process of its own: started alike here and in the environment of the peers.

Law: it needs uvicorn and the standard library only.
"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable
from typing import Any

from tests.bench.asgi_requests import App


def serve(
    app: App,
    say: Callable[[object], None],
    answer: Callable[[str], object] = str,
    path: str = "",
    **settings: Any,
) -> None:
    """Serve on a free port, say which, and then the answer to each line of the input; end when the input does.

    Serve on the Unix socket at `path`, too, if there is one. `settings` are those of uvicorn.
    """
    asyncio.run(_serve(app, say, answer, path, {"http": "h11"} | settings))


async def _serve(
    app: Any, say: Callable[[object], None], answer: Callable[[str], object], path: str, settings: dict[str, Any]
) -> None:
    import uvicorn

    with contextlib.ExitStack() as stack:
        # uvicorn names this protocol, too: asyncio sends small pieces at once only on such a socket.
        listening = [stack.enter_context(socket.socket(proto=socket.IPPROTO_TCP))]
        listening[0].bind(("127.0.0.1", 0))
        if path:
            listening.append(stack.enter_context(socket.socket(socket.AF_UNIX)))
            listening[1].bind(path)
        config = uvicorn.Config(
            app, loop="asyncio", lifespan="off", ws="none", log_config=None, access_log=False, backlog=512, **settings
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=listening))
        while not server.started:
            await asyncio.sleep(0.005)
        say(listening[0].getsockname()[1])
        while line := await asyncio.to_thread(sys.stdin.readline):
            say(answer(line))
        server.should_exit = True
        await serving
