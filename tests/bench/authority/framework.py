"""The bare framework: uvicorn and Starlette as `capx serve` has them, and endpoints that answer a constant.

A process of its own. It is told the path of a Unix socket, serves there and on a free port, which it says, and ends
when its input does.
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.bench.authority.child import heard, say
from tests.bench.uvicorn_process import serve


async def _answer(request: Request) -> Response:
    await request.body()
    size = request.path_params.get("size")
    return Response(b'{"alive":true}' if size is None else b"." * size, media_type="application/json")


def main() -> None:
    """Serve."""
    routes = [Route(path, _answer, methods=["GET", "POST"]) for path in ("/", "/{size:int}")]
    serve(
        Starlette(routes=routes),
        say,
        path=next(heard())["socket"],
        http="auto",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        limit_concurrency=1_000,
    )


if __name__ == "__main__":
    main()
