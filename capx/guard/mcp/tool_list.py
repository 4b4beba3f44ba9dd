"""Reads the tools of a server for an operator, who makes a table of them.

Laws: the list is read as a client of no rights reads it, and nothing is called. A server that does not answer in time,
or whose list cannot be read, is a ConfigurationProblem.
"""

import asyncio
from typing import Any, Final

from msgspec import UNSET

from capx.api import remote_text
from capx.api.jsonrpc import (
    METHOD_NOT_FOUND,
    Notification,
    Object,
    Request,
    Response,
    UnreadableMessage,
    failure,
    object_or_none,
    read_message,
)
from capx.api.mcp_messages import INITIALIZE, INITIALIZED, LIST_TOOLS, PROTOCOL_PREFIX
from capx.api.relay.connection import Gone, Server
from capx.api.relay.lines import TooLong
from capx.api.relay.relay import own_id
from capx.errors import ConfigurationProblem
from capx.guard.mcp.definitions import pages, tools_in

ANSWERS_WITHIN: Final = 60.0
"""Seconds for a server to start, and to list its tools. Some are downloaded first."""
_OFFERED: Final = "2025-11-25"
_WITHOUT_SESSION: Final = "2026-07-28"
"""The version of a server that knows no session."""
_INFO: Final = {"name": "capx", "version": "1"}


async def tools_of(server: Server, seconds: float = ANSWERS_WITHIN) -> list[Object]:
    """Return the definitions of all tools of a server, in its order; raises ConfigurationProblem."""
    try:
        async with asyncio.timeout(seconds):
            return await _tools(_Asking(server))
    except TimeoutError:
        raise ConfigurationProblem(f"the server has not listed its tools within {seconds:g} seconds") from None
    except Gone as error:
        raise ConfigurationProblem(f"{error}, before it has listed its tools") from None


async def _tools(asking: "_Asking") -> list[Object]:
    offered = {"protocolVersion": _OFFERED, "capabilities": {}, "clientInfo": _INFO}
    began = await asking.ask(INITIALIZE, offered)
    meta: Object = {}
    if began.error is UNSET:
        await asking.tell(Notification(INITIALIZED))
    else:
        version = {"protocolVersion": _WITHOUT_SESSION, "clientInfo": _INFO, "clientCapabilities": {}}
        meta = {"_meta": {f"{PROTOCOL_PREFIX}{name}": value for name, value in version.items()}}

    async def lister(method: str, params: Object) -> Any:
        answer = await asking.ask(method, {**params, **meta})
        if answer.error is not UNSET:
            said = (object_or_none(answer.error) or {}).get("message")
            why = remote_text.text(said) if isinstance(said, str) else "no reason"
            raise ConfigurationProblem(f"the server does not list its tools: {why}")
        return answer.result

    return [tool async for page in pages(lister, LIST_TOOLS) for tool in tools_in(page)]


class _Asking:
    """Asks a server one thing after the other, and refuses what the server asks."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def tell(self, notification: Notification) -> None:
        await self._server.send(notification)

    async def ask(self, method: str, params: Object) -> Response:
        request = Request(own_id(), method, params)
        await self._server.send(request)
        while True:
            try:
                data = await self._server.receive()
                message = None if data is None else read_message(data)
            except (TooLong, UnreadableMessage) as error:
                raise ConfigurationProblem(f"the server has sent what is no message: {error}") from None
            if message is None:
                raise Gone(f"the server {self._server.ending()}")
            if isinstance(message, Response) and message.id == request.id:
                return message
            if isinstance(message, Request):
                await self._server.send(failure(message.id, METHOD_NOT_FOUND, "this client only lists tools"))
