"""The two faces of an authority: ASGI applications over one service.

    operators(service)     everything an authority does; for a socket that only the user can open
    everybody(service)     agents, people, resources and monitoring; for the network

Laws:

- Every answer is the answer of an operation, or a problem (RFC 9457).
- No traceback leaves the process. An unexpected failure is logged.
- Requests are counted by the path of their operation, never by text that a client sent.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from capx.api import person_auth
from capx.api.operation import JSON_TYPE
from capx.api.person_auth import UnprovenPerson
from capx.api.problems import HttpRefusal
from capx.api.resource_auth import SCHEME, UnauthenticatedReport
from capx.authority.remote import operations
from capx.errors import CapxError, InvalidRequest
from capx.guard.asgi.messages import UnreadableHead
from capx.server import openapi
from capx.server.faces import agents, health, people, resources, statements
from capx.server.faces import operators as operators_
from capx.server.faces.redaction import redacted_error
from capx.server.operation import ROUTE, refused
from capx.server.service import Service

_log = logging.getLogger("capx.serve")

_PATH: Final = "/openapi.json"
_STREAM = b"text/event-stream"


def _whole(error: Exception) -> Exception:
    return error


def operators(service: Service) -> ASGIApp:
    """The face of operators, who may do everything."""
    described = openapi.document(
        "capx serve: operators",
        "All that an authority does. On a Unix socket, for the user whose authority it is.",
        operations.OPERATIONS,
    )
    return face("operators", [*operators_.routes(service), _document(described)], service)


def everybody(service: Service) -> ASGIApp:
    """The face of agents, people, resources and monitoring."""
    # Operations of operators are not routes here at all, so no request can reach them (decision 23).
    offered = (
        *agents.OPERATIONS,
        *people.OPERATIONS,
        *statements.OPERATIONS,
        *resources.OPERATIONS,
        *health.OPERATIONS,
    )
    described = openapi.document(
        "capx serve: agents, people and resources",
        "Agents present their authority capability; people sign each request; resources follow the feed and report "
        "their decisions.",
        offered,
    )
    routes = [
        *agents.routes(service),
        *people.routes(service),
        *statements.routes(service),
        *resources.routes(service),
        *health.routes(service),
        _document(described),
    ]
    return face("everybody", routes, service, tell=redacted_error)


def face(
    name: str, routes: Sequence[Route], service: Service, *, tell: Callable[[Exception], Exception] = _whole
) -> ASGIApp:
    """A face with these routes, counted by its name. `tell` turns an error into the one that the caller gets."""

    async def refuse(request: Request, error: Exception) -> Response:
        del request
        return _refusal(tell(error))

    app = Starlette(
        routes=routes,
        exception_handlers={CapxError: refuse, HTTPException: _unknown, Exception: _failed},
    )
    # A redirect would answer a path that is not in the OpenAPI document, and name the Host that the client sent.
    app.router.redirect_slashes = False
    return _Counted(app, name, service)


def _document(described: bytes) -> Route:
    async def answer(request: Request) -> Response:
        request.scope[ROUTE] = _PATH
        return Response(described, media_type=JSON_TYPE)

    return Route(_PATH, answer, methods=["GET"])


def _refusal(error: Exception) -> Response:
    if isinstance(error, UnauthenticatedReport):
        response = refused(HttpRefusal(401, "unproven_report", str(error)))
        response.headers["WWW-Authenticate"] = SCHEME
        return response
    if isinstance(error, UnprovenPerson):
        response = refused(HttpRefusal(401, "unproven_person", str(error)))
        response.headers["WWW-Authenticate"] = person_auth.SCHEME
        return response
    if isinstance(error, UnreadableHead):
        return refused(InvalidRequest(str(error)))
    response = refused(error)
    if response.status_code == 500:
        _log.error("a request failed unexpectedly: please report this with the traceback", exc_info=error)
    return response


async def _unknown(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 400
    # The path, not the URL: the URL contains the Host header, which the client chose.
    path: str = request.scope["path"]
    if status == 404:
        return refused(HttpRefusal(404, "not_found", f"there is nothing at {path!r:.80}: {_PATH} lists all paths"))
    if status == 405:
        response = refused(
            HttpRefusal(405, "method_not_allowed", f"{path} does not take this method: the header Allow names its own")
        )
        headers: Mapping[str, str] = (isinstance(error, HTTPException) and error.headers) or {}
        response.headers["Allow"] = headers.get("Allow", "GET")
        return response
    return refused(HttpRefusal(status, "bad_request", "this request cannot be read"))


async def _failed(request: Request, error: Exception) -> Response:
    # No logging here: Starlette raises the error again, and uvicorn logs it.
    del request
    return refused(error)


class _Counted:
    """Counts answers and measures their time. A stream is counted when it begins, and not measured."""

    def __init__(self, app: ASGIApp, face: str, service: Service) -> None:
        self._app = app
        self._face = face
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(scope, message)
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                self._time(scope, time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, counted)

    def _count(self, scope: Scope, message: Message) -> None:
        streams = any(name == b"content-type" and value.startswith(_STREAM) for name, value in message["headers"])
        scope["capx.streams"] = streams
        method = scope["method"] if scope["method"] in {"GET", "POST"} else "other"
        self._service.metrics.count(self._face, scope.get(ROUTE, "other"), method, message["status"])

    def _time(self, scope: Scope, seconds: float) -> None:
        if not scope.get("capx.streams"):
            self._service.metrics.seconds.labels(self._face, scope.get(ROUTE, "other")).observe(seconds)
