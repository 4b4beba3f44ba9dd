"""A guarded service as a process of its own: it executes a call by a line in a file, and then answers.

`main` gets the files of the keys, the store and the executed calls, and says its port on standard output.
"""

import os
from contextlib import closing
from pathlib import Path

from fastapi import FastAPI

from capx.crypto.keys import AudienceKeys
from capx.guard.fastapi import FastAPIGuard
from capx.resource.connection import connect
from tests.bench.authority.child import say
from tests.bench.uvicorn_process import serve


def main(keys: str, store: str, executed: str) -> None:
    """Serve until the input ends."""
    with closing(connect(AudienceKeys.load(Path(keys)), store=store)) as connection:
        app, guard = FastAPI(openapi_url=None), FastAPIGuard(connection.verifier())
        guard.protect(app)
        file = os.open(executed, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

        @app.get("/accounts/{account}")
        @guard.action("crm.read")
        async def read(account: str) -> str:
            os.write(file, f"{account}\n".encode())
            return account

        serve(app, say)
