"""Reads the arguments of a call whose action is denied, so that the denial can say what to ask for.

Laws:

- FastAPI validates the path, query and body parameters as it would for the endpoint. No dependency runs, and no header
  or cookie is read.
- Whatever goes wrong, there are no arguments. The bearer never learns why: it may not use the action, so it must not
  see the schema.
"""

import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

from fastapi import Response
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection, Request

from capx.guard.asgi.guard import passage
from capx.guard.fastapi.argument_sources import ArgumentSource
from capx_caveats import JSON

_CONNECTION: Final = "capx_connection"
"""The name of the parameter through which the function that notes the arguments gets the request."""
_FOUND: Final = "capx.found"


class DeniedArguments:
    """Reads the parameters `names` of an endpoint with this signature; `source` makes arguments of their values."""

    def __init__(self, signature: inspect.Signature, names: Collection[str], source: ArgumentSource) -> None:
        self._parameters = {name: one for name, one in signature.parameters.items() if name in names}
        self._source = source
        self._handlers: dict[frozenset[str], Callable[[Request], Awaitable[object]]] = {}

    async def read(self, connection: HTTPConnection) -> Mapping[str, JSON] | None:
        """Return the arguments that caveats would see; None if the request does not validate, or is a WebSocket's."""
        if not isinstance(connection, Request):
            return None
        try:
            await self._handler(self._parameters.keys() & connection.path_params.keys())(connection)
            taken = self._source.taken(connection.scope.pop(_FOUND))
            return (await passage(connection.scope).computed(lambda: self._source.stated(taken))).arguments
        except Exception:  # noqa: BLE001 # validators are code of the service, and the call is denied already
            return None

    def _handler(self, in_path: Collection[str]) -> Callable[[Request], Awaitable[object]]:
        """Return FastAPI's own handler for the parameters alone, with these in the path."""
        # One function can be the endpoint of several routes, with different parameters in their paths.
        key = frozenset(in_path)
        if key not in self._handlers:
            path = "/" + "/".join(f"{{{name}}}" for name in sorted(key))
            self._handlers[key] = APIRoute(path, self._noting(), response_model=None).get_route_handler()
        return self._handlers[key]

    def _noting(self) -> Callable[..., Awaitable[Response]]:
        async def note(**values: Any) -> Response:
            values.pop(_CONNECTION).scope[_FOUND] = values
            return Response()

        kind = inspect.Parameter.KEYWORD_ONLY
        connection = inspect.Parameter(_CONNECTION, kind, annotation=Request)
        parameters = [connection, *(one.replace(kind=kind) for one in self._parameters.values())]
        note.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # what FastAPI reads
        return note
