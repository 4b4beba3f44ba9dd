"""Requests to an ASGI application without a server: timed alike here and in the environment of the peers.

Law: it needs the standard library only. What a client does, such as to make a presentation, is done before the clock
runs.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from typing import Any, Final

App = Callable[[Any, Any, Any], Awaitable[None]]
Message = MutableMapping[str, Any]

REQUEST: Final = "request"
BARE: Final = "the same route without a guard"
HOPS: Final = 3
PATH, QUERY, PATTERN = "/accounts/a-17", "limit=5", "/accounts/{account}"
"""The route has a parameter in its path and one in its query."""


def answered(
    app: App,
    heads: Iterable[dict[str, str]],
    at_once: int,
    *,
    target: tuple[str, str, str] = ("GET", PATH, QUERY),
    body: bytes = b"",
    statuses: Collection[int] = (200,),
) -> float:
    """Send a request with each of these heads, so many of them at once; gives the processor time of this process."""
    scopes = iter([_scope(head, *target) for head in heads])

    async def one() -> None:
        for scope in scopes:
            status = await _answered(app, scope, body)
            if status not in statuses:
                raise AssertionError(f"answered {status}")

    async def run() -> float:
        began = time.process_time()
        await asyncio.gather(*(one() for _ in range(at_once)))
        return time.process_time() - began

    return asyncio.run(run())


async def _answered(app: App, scope: dict[str, Any], body: bytes) -> int:
    answers: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        answers.append(message)

    await app(scope, receive, send)
    status: int = answers[0]["status"]
    return status


def _scope(head: dict[str, str], method: str, path: str, query: str) -> dict[str, Any]:
    sent = {"host": "crm.example", "accept": "application/json", **head}
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
    }
