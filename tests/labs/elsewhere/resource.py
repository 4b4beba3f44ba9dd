"""A service in a place of its own: it follows the feed, and knows nothing of the authority but keys and a URL.

python -m tests.labs.elsewhere.resource    with CAPX_FEED, CAPX_KEY_FILE and CAPX_AUDIENCE; says its port
"""

from typing import Annotated

from fastapi import Body, FastAPI

from capx.guard.fastapi import FastAPIGuard
from tests.bench.authority.child import say
from tests.bench.uvicorn_process import serve


def main() -> None:
    """Serve until the input ends."""
    app, guard = FastAPI(openapi_url=None), FastAPIGuard.from_env()
    guard.protect(app)

    @app.post("/refunds")
    @guard.action("billing.refund", tenant="Acme")
    async def refund(amount: Annotated[int, Body(embed=True)]) -> int:
        return amount

    serve(app, say)
    if guard.connection is not None:
        guard.connection.close()


if __name__ == "__main__":
    main()
