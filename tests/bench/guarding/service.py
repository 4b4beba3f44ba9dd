"""The route of the table of guarded requests, behind uvicorn, as a process of its own.

Its first line of input names the guard, the key file, and the store or feed.
"""

from contextlib import ExitStack
from pathlib import Path

from capx.crypto.keys import AudienceKeys
from capx.guard.fastapi import FastAPIGuard
from tests.bench.asgi_requests import BARE
from tests.bench.authority.child import heard, say
from tests.bench.guarding.requests import route, verifier
from tests.bench.uvicorn_process import serve


def main() -> None:
    """Serve."""
    told = next(heard())
    with ExitStack() as stack:
        guard = None
        if told["who"] != BARE:
            keys = AudienceKeys.load(Path(told["keys"]))
            made, _ = verifier(stack, told["who"], keys, told["place"])
            guard = FastAPIGuard(made)
        serve(route(guard), say)


if __name__ == "__main__":
    main()
