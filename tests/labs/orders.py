"""A small FastAPI application with orders, and the functions with which tests start it and call it."""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import httpx
from fastapi import (
    FastAPI,
    Request,
)
from pydantic import BaseModel

from capx.agent import httpx_client
from capx.guard.asgi.messages import Message
from capx.tokens.bundle import Bundle
from tests.labs.serving import served

ROWS = {1: "Acme", 2: "Other"}
REGIONS = {1: "EU", 2: "EU", 3: "US"}


class Order(BaseModel):
    sku: str
    amount: int = 1


class Filters(BaseModel):
    limit: int = 10


ran: list[str] = []


def noted() -> str:
    ran.append("dependency")
    return "noted"


def paged(page: int = 1) -> int:
    return page


Agent = Callable[..., httpx.Client]


def code(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/problem+json", response.text
    return str(response.json()["code"])


def refusal(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, code(response)


def bare(response: httpx.Response) -> tuple[Any, ...]:
    """All of an answer but the decision's id and the time."""
    body = response.json()
    del body["decision"]
    headers = {name: value for name, value in response.headers.items() if name not in ("capx-decision", "date")}
    return response.status_code, body, headers


async def awaited(name: str) -> str:
    return name


async def reading(request: Request) -> Any:
    return await request.json()


def started(app: FastAPI) -> list[Message]:
    """The messages of the application when a server starts it and stops it again."""
    return _run(app, {"type": "lifespan", "state": {}})


def asked(app: FastAPI, path: str, authorization: str) -> tuple[int, bytes]:
    headers = [(b"authorization", authorization.encode())]
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "headers": headers}
    start, body = _run(app, scope | {"query_string": b"", "root_path": ""})
    return start["status"], body["body"]


def _run(app: FastAPI, scope: dict[str, Any]) -> list[Message]:
    told: list[Message] = []
    messages = iter([{"type": "http.request"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Message:
        return next(messages)

    async def send(message: Message) -> None:
        told.append(message)

    asyncio.run(asyncio.wait_for(app(scope, receive, send), 5))
    return told


@contextmanager
def client_of(app: FastAPI, bundle: Bundle) -> Generator[httpx.Client]:
    """A client of an application that is served, which presents this bundle to it."""
    with served(app) as origin, httpx_client.client({origin: "crm"}, bundle, base_url=origin) as client:
        yield client
