"""A service that agents call: FastAPI behind the guard, at an authority's feed. A process of its own.

It is told where the authority is and what keys it has, serves on a free port of 127.0.0.1, which it says, and ends when
its input does. It allows calls that the policy of the benchmark gives at once, on request, and by consent.
"""

from contextlib import closing

from fastapi import FastAPI

from capx import AudienceKeys
from capx.guard.fastapi import FastAPIGuard
from capx.resource.connection import connect
from tests.bench.authority.asking import AT_OPEN, BY_CONSENT, ON_REQUEST
from tests.bench.authority.child import heard, say
from tests.bench.authority.source import Source, remembering
from tests.bench.uvicorn_process import serve


def _app(guard: FastAPIGuard) -> FastAPI:
    app = FastAPI(openapi_url=None)
    guard.protect(app)
    for action in (AT_OPEN, ON_REQUEST, BY_CONSENT):

        @app.get(f"/{action}")
        @guard.action(action, tenant="Acme")
        async def answer() -> dict[str, bool]:
            return {"done": True}

    return app


def main() -> None:
    """Serve."""
    source = Source.told(next(heard()))
    with closing(connect(AudienceKeys.load(source.keys), feed=source.address)) as connection:
        serve(_app(FastAPIGuard(connection.verifier(replay=remembering()))), say)


if __name__ == "__main__":
    main()
