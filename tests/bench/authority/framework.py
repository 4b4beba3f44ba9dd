"""The bare framework: uvicorn and Starlette as `capx serve` has them, and endpoints that answer a constant.

A process of its own. It is told the path of a Unix socket, serves there and on a free port, which it says, and ends
when its input does.
"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.bench.authority.child import heard, say

_CONSTANT: Final = b'{"alive":true}'


async def _answer(request: Request) -> Response:
    await request.body()
    return Response(_CONSTANT, media_type="application/json")


async def _answer_of_a_size(request: Request) -> Response:
    await request.body()
    return Response(b"." * request.path_params["size"], media_type="application/json")


class _Server(uvicorn.Server):
    """One of two in a process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _server() -> _Server:
    methods = ["GET", "POST"]
    app = Starlette(
        routes=[Route("/", _answer, methods=methods), Route("/{size:int}", _answer_of_a_size, methods=methods)]
    )
    return _Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            limit_concurrency=1_000,
            backlog=512,
        )
    )


async def _serve(path: Path) -> None:
    servers = _server(), _server()
    # As uvicorn's own: of the protocol that asyncio sends small pieces at once for.
    with socket.socket(proto=socket.IPPROTO_TCP) as network, socket.socket(socket.AF_UNIX) as own:
        network.bind(("127.0.0.1", 0))
        own.bind(str(path))
        serving = [
            asyncio.create_task(server.serve(sockets=[listening]))
            for server, listening in zip(servers, (network, own), strict=True)
        ]
        while not all(server.started for server in servers):
            await asyncio.sleep(0.005)
        say(network.getsockname()[1])
        await asyncio.to_thread(sys.stdin.read)
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*serving)


def main() -> None:
    """Serve."""
    asyncio.run(_serve(Path(next(heard())["socket"])))


if __name__ == "__main__":
    main()
