"""The middleware of a guarded server: it puts each request of a client through the gate. Needs mcp.

Laws: the middleware is the outermost one, so it sees a request as it came, before anything of it is validated, and an
answer as it leaves. A denial is answered with the denial itself, whatever the server made of it.
"""

from collections.abc import Awaitable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, cast

import msgspec
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from msgspec import UNSET

from capx.api.jsonrpc import Object, object_or_none
from capx.api.mcp_messages import (
    CALL,
    meta_of,
    names_version,
    refusal,
    without_own_in_error,
)
from capx.errors import Unavailable
from capx.guard.guarded_request import SMALL_BODY
from capx.guard.mcp.closed_params import client_meta
from capx.guard.mcp.functions import GuardedFunction, ServedRequest, serving
from capx.guard.mcp.gate import Entered, Gate, Unserved
from capx.verify.decision import Denied


class GateMiddleware:
    """Puts each request of a client through the gate."""

    def __init__(self, owner: object, gate: Gate, functions: Mapping[str, GuardedFunction]) -> None:
        self._owner = owner
        self._gate = gate
        self._functions = functions

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Serve one message of a client."""
        if ctx.request_id is None:
            return await call_next(ctx)
        try:
            return cast("HandlerResult", await self._served(ctx, call_next))
        except Unserved as error:
            raise MCPError(error.code, str(error)) from None
        except (Denied, Unavailable) as error:
            told = refusal(ctx.method, error, typed=names_version(ctx.params))
        # Out of the block: what is raised does not carry the denial as its context.
        if told.result is not None:
            return told.result
        raise MCPError(told.code, told.message, None if told.data is UNSET else told.data)

    async def _served(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> Any:
        async def lister(method: str, params: Object) -> Any:
            # Lists of the guard are of the version of MCP that the request is of, which its `_meta` may say.
            return await call_next(_passing(ctx, method, {**params, **client_meta(ctx.params)}))

        entered = await self._gate.enter(ctx.method, ctx.params, lister, size=_size(ctx.params))
        if entered.result is not None:
            return entered.result
        with self._serving(entered):
            result = await _answered(entered, call_next(_passing(ctx, ctx.method, entered.params)))
        return entered.leaving(result)

    def _serving(self, entered: Entered) -> Any:
        if (current := entered.current) is None:
            return nullcontext()
        params = entered.params or {}
        if entered.method != CALL:
            return serving(ServedRequest(self._owner, current))
        arguments = object_or_none(params.get("arguments")) or {}
        return serving(ServedRequest(self._owner, current, self._functions.get(params["name"]), arguments))


async def _answered(entered: Entered, work: Awaitable[HandlerResult]) -> Any:
    try:
        return _dumped(await work)
    except Exception as error:
        denied = None if entered.current is None else entered.current.denied
        if denied is None:
            if isinstance(error, MCPError):
                raise MCPError(error.code, error.message, without_own_in_error(error.data)) from error
            raise
    raise denied


def _passing(ctx: ServerRequestContext[Any, Any], method: str, params: Object | None) -> Any:
    """Return the request with these params, and of its `_meta`, which the SDK has read already, what they have."""
    passing = meta_of(params)
    # The SDK has a name of its own for one member.
    names = {*passing, "progress_token"} if "progressToken" in passing else passing.keys()
    meta: Any = None if ctx.meta is None else {name: value for name, value in ctx.meta.items() if name in names}
    return replace(ctx, method=method, params=params, meta=meta)


def _dumped(result: HandlerResult) -> Any:
    """Return a result as the wire has it. Middleware inside may return a model."""
    if result is None or isinstance(result, dict):
        return result
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)


def _size(params: Mapping[str, Any] | None) -> int:
    """Return how long the params are; if they cannot be written, that is too long."""
    try:
        return len(msgspec.json.encode(params))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return SMALL_BODY + 1
