"""The route of an operation: reads the request, calls the operation, writes its answer or its error.

Laws:

- The whole request is read and checked before the operation runs. Unless it never waits, it runs in a thread.
- An operation that has not begun when its client leaves is left out. One that has begun always finishes.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import anyio
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive

from capx.api.messages.base import decode_body, encode
from capx.api.operation import JSON_TYPE, Operation
from capx.api.problems import HttpRefusal, to_problem
from capx.api.query_string import NoQuery, decode_query, demand_short
from capx.errors import InvalidRequest
from capx.guard.asgi.messages import BODY_SECONDS, MAX_BODY, Gone, TooMuch, TooSlow, read_body, until_gone
from capx.guard.asgi.slots import NoSlot, Slots
from capx.server.service import Service
from capx.server.workers import Shared, Workers

T = TypeVar("T")

PROBLEM_TYPE: Final = "application/problem+json"
NO_STORE: Final = {"Cache-Control": "no-store"}
ROUTE: Final = "capx.route"
"""The key of an ASGI scope that holds the path of the operation."""

AnyOperation = Operation[..., Any]
Stream = Callable[[Service, Any], Awaitable[Response]]


def route(
    operation: AnyOperation,
    service: Service,
    acts_on: object,
    workers: Workers | Shared | None,
    *,
    stream: Stream | None = None,
) -> Route:
    """The route of an operation that needs no proof of the caller.

    `acts_on` is the first argument of its function. Without workers it runs in the event loop. `stream` makes the
    answer if the caller asks for a stream.
    """

    async def answer(request: Request) -> Response:
        request.scope[ROUTE] = operation.path
        asked = await read_request(operation, request)
        if stream is not None and wants_stream(request):
            return await stream(service, asked)
        given = (acts_on,) if asked is None else (acts_on, asked)

        def done() -> Response:
            return answered(operation, perform(operation, service, *given, **request.path_params))

        # The thread also writes the answer, because a long one would block the event loop.
        return done() if workers is None else await unless_gone(request, workers.run(done))

    return route_to(operation, answer)


def perform(operation: AnyOperation, service: Service, *given: Any, **named: Any) -> Any:
    """Call an operation. If it may have ended or revoked something, wake the followers at once."""
    found = operation.act(*given, **named)
    if operation.announced:
        service.wake()
    return found


def route_to(operation: AnyOperation, endpoint: Any) -> Route:
    """The route of an operation, only for its own method."""
    made = Route(operation.path, endpoint, methods=[operation.method])
    # Starlette adds HEAD to GET. A HEAD on a stream would never end.
    made.methods = {operation.method}
    return made


def answered(operation: AnyOperation, found: Any) -> Response:
    """The result of an operation as an HTTP response."""
    body = found if operation.answers is None else encode(found)
    return Response(body, operation.status, media_type=operation.media, headers=NO_STORE)


def refused(error: Exception) -> Response:
    """An error as an HTTP response with problem details."""
    answer = to_problem(error)
    headers = {**NO_STORE, **answer.headers}
    return Response(encode(answer.problem), answer.problem.status, headers, PROBLEM_TYPE)


def wants_stream(request: Request) -> bool:
    """Whether the caller accepts server-sent events."""
    return "text/event-stream" in request.headers.get("accept", "")


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Wait for some work. If the client leaves before it has begun, it is cancelled; raises HttpRefusal."""
    with anyio.CancelScope() as scope:
        leaving = asyncio.create_task(until_gone(request.receive))
        leaving.add_done_callback(lambda task: None if task.cancelled() else scope.cancel())
        try:
            return await work
        finally:
            leaving.cancel()
    raise HttpRefusal(400, "client_gone", "the client closed the connection before the answer")


async def read_request(operation: AnyOperation, request: Request) -> Any:
    """Read the query or body of a request; InvalidRequest or HttpRefusal if the operation does not take it."""
    if not operation.has_body:
        asked = read_query(request, operation.asks or NoQuery)
        return None if operation.asks is None else asked
    read_query(request)
    demand_json(request)
    body = await whole_body(request, request.receive)
    if operation.asks is None:
        if body.strip() not in {b"", b"{}"}:
            raise InvalidRequest("this operation takes no arguments: leave the body empty")
        return None
    return decode_body(body or b"{}", operation.asks)


async def whole_body(request: Request, receive: Receive, limit: int = MAX_BODY) -> bytes:
    """Read the whole body; HttpRefusal if it is too large, too slow, or incomplete."""
    try:
        return await read_body(request.scope, receive, limit)
    except TooMuch:
        raise HttpRefusal(413, "body_too_large", f"a body may have at most {limit} bytes") from None
    except TooSlow:
        raise HttpRefusal(408, "body_too_slow", f"the body did not arrive within {BODY_SECONDS:.0f} s") from None
    except Gone:
        raise HttpRefusal(400, "client_gone", "the client closed the connection before the end of its body") from None


@asynccontextmanager
async def body_of(caller: bytes, request: Request, room: Slots, limit: int = MAX_BODY) -> AsyncGenerator[bytes]:
    """The whole body of a caller whose head was proven. It takes room while the block runs.

    HttpRefusal if it is too large, too slow, or incomplete, or if there is no room.
    """
    # Of a request without a length, the server reads no body (capx.server.net.heads).
    declared = min(int(request.headers.get("content-length", "0")), limit)
    try:
        with room.taken(caller, declared):
            yield await whole_body(request, request.receive, limit)
    except NoSlot as error:
        raise HttpRefusal(503, "unavailable", str(error)) from None


def demand_json(request: Request) -> None:
    """Raise HttpRefusal if the content type of the body is not JSON."""
    kinds = request.headers.getlist("content-type")
    if len(kinds) > 1:
        raise InvalidRequest("the header content-type is repeated")
    kind = kinds[0] if kinds else None
    if kind is not None and kind.partition(";")[0].strip().lower() != JSON_TYPE:
        raise HttpRefusal(415, "unsupported_media_type", f"the body must be {JSON_TYPE}, not {kind!r:.60}")


def read_query(request: Request, kind: type[Struct] = NoQuery) -> Any:
    """Read the query of a request; InvalidRequest for one that is too long, an unknown name, or a wrong type."""
    demand_short(request.scope["query_string"], kind)
    return decode_query(request.query_params.multi_items(), kind)
