"""The route of the table of guarded requests, behind uvicorn, as a process of its own.

Its first line of input names the guard, the key file, and the store or feed.
"""

from contextlib import ExitStack

from capx.guard.fastapi import FastAPIGuard
from tests.bench.asgi_requests import BARE
from tests.bench.authority.child import heard, say
from tests.bench.authority.source import Source
from tests.bench.guarding.requests import route, verifier
from tests.bench.uvicorn_process import serve


def main() -> None:
    """Serve."""
    source = Source.told(next(heard()))
    with ExitStack() as stack:
        serve(route(None if source.who == BARE else FastAPIGuard(verifier(stack, source)[0])), say)


if __name__ == "__main__":
    main()
