"""The route of an operation: how its request is read, and how its answer or its refusal is written.

Law: a request is read strictly before anything is done; what is done is done in a thread.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive

from capx.api.messages.base import decode_body, encode
from capx.api.operation import JSON_TYPE, Operation
from capx.api.problems import HttpRefusal, to_problem
from capx.api.query_string import NoQuery, decode_query
from capx.errors import InvalidRequest
from capx.guard.asgi.messages import MAX_BODY, Gone, TooMuch, read_body
from capx.server.service import Service
from capx.server.workers import Workers

PROBLEM_TYPE: Final = "application/problem+json"
NO_STORE: Final = {"Cache-Control": "no-store"}
BODY_SECONDS: Final = 20.0
"""Seconds within which a body has to be there."""
ROUTE: Final = "capx.route"
"""Where an ASGI scope holds the path of its operation."""

AnyOperation = Operation[..., Any]
Stream = Callable[[Service, Any], Awaitable[Response]]


def route(
    operation: AnyOperation, service: Service, acts_on: object, workers: Workers, *, stream: Stream | None = None
) -> Route:
    """The route of an operation that everybody may ask for who reaches it.

    `acts_on` is what its function gets first. `stream` makes the answer of one that was asked for as a stream.
    """

    async def answer(request: Request) -> Response:
        request.scope[ROUTE] = operation.path
        asked = await read_request(operation, request)
        if stream is not None and wants_stream(request):
            return await stream(service, asked)
        given = (acts_on,) if asked is None else (acts_on, asked)

        def done() -> Response:
            return answered(operation, perform(operation, service, *given, **request.path_params))

        # Written in the thread too: what is found may be long.
        return done() if operation.instant else await workers.run(done)

    return route_to(operation, answer)


def perform(operation: AnyOperation, service: Service, *given: Any, **named: Any) -> Any:
    """What an operation finds or does; followers hear at once of what they have to know."""
    found = operation.act(*given, **named)
    if operation.announced:
        service.wake()
    return found


def route_to(operation: AnyOperation, endpoint: Any) -> Route:
    """The route of an operation, for its own method and no other."""
    made = Route(operation.path, endpoint, methods=[operation.method])
    # Starlette adds HEAD to GET: of a stream, nobody would ever see the end.
    made.methods = {operation.method}
    return made


def answered(operation: AnyOperation, found: Any) -> Response:
    """What an operation found, as an answer."""
    body = found if operation.answers is None else encode(found)
    return Response(body, media_type=operation.media, headers=NO_STORE)


def refused(error: Exception) -> Response:
    """An error as an answer."""
    said = to_problem(error)
    headers = {**NO_STORE, **said.headers}
    return Response(encode(said.problem), said.problem.status, headers, PROBLEM_TYPE)


def wants_stream(request: Request) -> bool:
    """Whether server-sent events were asked for."""
    return "text/event-stream" in request.headers.get("accept", "")


async def read_request(operation: AnyOperation, request: Request) -> Any:
    """What a request asks for; InvalidRequest or HttpRefusal if it is not what the operation takes."""
    if not operation.has_body:
        asked = read_query(request, operation.asks or NoQuery)
        return None if operation.asks is None else asked
    read_query(request)
    demand_json(request)
    body = await whole_body(request, request.receive)
    if operation.asks is None:
        if body.strip() not in {b"", b"{}"}:
            raise InvalidRequest("nothing is asked for here: leave the body empty")
        return None
    return decode_body(body or b"{}", operation.asks)


async def whole_body(request: Request, receive: Receive, limit: int = MAX_BODY) -> bytes:
    """The body that is received; HttpRefusal when it is too large or does not come."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await read_body(request.scope, receive, limit)
    except TooMuch:
        raise HttpRefusal(413, "body_too_large", f"a body may have {limit} bytes") from None
    except TimeoutError:
        raise HttpRefusal(408, "body_too_slow", f"a body is to be there within {BODY_SECONDS:.0f} s") from None
    except Gone:
        raise HttpRefusal(400, "client_gone", "the client left before its body was read") from None


def demand_json(request: Request) -> None:
    """Raise HttpRefusal for a head that says of its body that it is something else than JSON."""
    kinds = request.headers.getlist("content-type")
    if len(kinds) > 1:
        raise InvalidRequest("the header content-type is repeated")
    said = kinds[0] if kinds else None
    if said is not None and said.partition(";")[0].strip().lower() != JSON_TYPE:
        raise HttpRefusal(415, "unsupported_media_type", f"a body is {JSON_TYPE}, not {said!r:.60}")


def read_query(request: Request, kind: type[Struct] = NoQuery) -> Any:
    """The query of a request as a form; InvalidRequest for a name that it has not, or a value of another type."""
    return decode_query(request.query_params.multi_items(), kind)
