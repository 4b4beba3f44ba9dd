"""The gate in front of an MCP server: which requests pass, and what of the answers.

Laws:

- A request passes if its method is open, if its call was allowed, or if a guarded function will judge its call. Any
  other method is unknown. Lists show only what the token's allowlists have.
- For a stranger, nothing is looked up: whoever presents nothing gets one denial, and whoever presents what is not
  authentic gets another one, whatever the request names.
- The first denial of a request is final. No answer leaves whose call nobody has allowed, except the list of what the
  bearer may use and errors of validation before the function.
- The server sees no member of capx, and none that nobody judges (capx.guard.mcp.closed_params). A tool that is refused
  is not called. No answer to a bearer may be kept for another one.
- The gate knows no transport and no SDK. It reads the server's own list of tools through a function that it is given.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from capx.api.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS, Object, list_or_empty, object_or_none
from capx.api.mcp_messages import (
    CALL,
    LIST_PROMPTS,
    LIST_TOOLS,
    LISTS,
    OPEN,
    PRESENTATION,
    TOOLS_CHANGED,
    bound_request,
    names_version,
    without_own,
    without_own_in_result,
)
from capx.errors import ConfigurationProblem, InvalidCaveat, InvalidRequest
from capx.guard.call_facts import unjudgeable
from capx.guard.guarded_request import SMALL_BODY, GuardedRequest
from capx.guard.mcp.arguments import Schema
from capx.guard.mcp.closed_params import demand_judged, passing_params
from capx.guard.mcp.definitions import KEPT, Definitions, Lister, definition_digest
from capx.guard.mcp.member_names import name_problem
from capx.guard.mcp.requested_call import RequestedCall, Unserved, requested_call
from capx.guard.mcp.table import ToolSpec, ToolTable
from capx.guard.observer import LOGGER, Observer, OnDecision
from capx.tokens.binding import McpRequest
from capx.verify.admitted import Admitted
from capx.verify.decision import NO_TOKEN, Denied
from capx.verify.verifier import Authentic, Verifier
from capx_caveats import JSON

__all__ = ["Entered", "Gate", "Unserved"]

_log = logging.getLogger(LOGGER)

_NOT_PRESENTED: Final = replace(NO_TOKEN, wanted=f"a presentation in `_meta`, as {PRESENTATION}")
_PRIVATE: Final = {"ttlMs": 0, "cacheScope": "private"}
"""What says that a client may use an answer once, and for one bearer."""
_UNKNOWN: Final = Schema(None)


class Entered(Struct, frozen=True, eq=False):
    """A request that was let in. Send `params` to the server, unless `result` is the answer already."""

    method: str
    params: Object | None = None
    current: GuardedRequest | None = None
    by_function: bool = False
    shown: Callable[[Any], Object] | None = None
    """Returns what the bearer may see of a page of a list."""
    result: Object | None = None

    def leaving(self, result: Any) -> Any:
        """Return the part of the server's result that the client may see; raises Denied or Unserved if nothing may."""
        current = self.current
        if current is not None and current.denied is not None:
            raise current.denied
        unjudged = self.by_function and current is not None and current.allowed is None
        # An error of validation comes before the function, and the action was screened.
        if unjudged and (object_or_none(result) or {}).get("isError") is not True:
            raise self._withheld("its function did not judge the call")
        if self.method not in LISTS:
            clean = without_own_in_result(result)
            return clean if current is None else _uncached(clean)
        if self.shown is None:
            raise self._withheld("it was not admitted")
        return self.shown(result)

    def _withheld(self, why: str) -> Unserved:
        _log.error("withheld the answer to %s: %s", self.method, why)
        return Unserved("this server cannot answer: its log says why", INTERNAL_ERROR)


class Gate:
    """Admits and judges the requests of one server; `on_decision` gets each decision.

    `kept` is for how many seconds it uses a definition of a tool that it has read; 0 if the tools can change without a
    word. ConfigurationProblem unless verifier and table are of one audience.
    """

    def __init__(
        self, verifier: Verifier, table: ToolTable, *, on_decision: OnDecision | None = None, kept: float = KEPT
    ) -> None:
        if verifier.audience != table.audience:
            raise ConfigurationProblem(
                f"the verifier is for {verifier.audience}, and the table for {table.audience}: they must agree"
            )
        self._verifier = verifier
        self._table = table
        self._observer = Observer(on_decision)
        self._definitions = Definitions(lambda name: table.spec("tool", name) is not None, kept)

    @property
    def verifier(self) -> Verifier:
        """The verifier of the server."""
        return self._verifier

    def noted(self, method: str) -> None:
        """Note a notification of the server."""
        if method == TOOLS_CHANGED:
            self._definitions.forget()

    async def enter(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        lister: Lister,
        *,
        size: int = 0,
        token: Authentic | None = None,
    ) -> Entered:
        """Let a request in; raises Denied or Unserved.

        `size` is its length in bytes, if it is known, and `token` that of its presentation, if its MAC was checked.
        """
        try:
            sent, own = without_own(params)
        except InvalidRequest as error:
            raise Unserved(str(error), INVALID_PARAMS) from None
        if method in OPEN:
            return Entered(method, passing_params(method, sent))
        typed = names_version(params)
        current = GuardedRequest(self._verifier, self._observer, public=False)
        current.large = size > SMALL_BODY
        if own.presentation is None:
            if method in LISTS:
                # Not an error: clients list by themselves.
                return Entered(method, result=_private({LISTS[method]: []}, typed=typed))
            # Before anything is looked up: a stranger must not learn what there is.
            denied = self._verifier.denial(_NOT_PRESENTED)
            current.keep(denied)
            raise denied
        try:
            authentic = token or self._verifier.authenticate(own.presentation)
            received = _bound(method, sent)
            admitted = current.admitted = await self._verifier.admit_async(authentic, received)
        except Denied as denied:
            current.keep(denied)
            raise
        # Only now, because it takes long for a large request, and a presentation may be another's. Whoever has seen a
        # presentation that was used must not learn what there is either.
        if (why := await current.computed(lambda: name_problem(received.params))) is not None:
            raise Unserved(f"this request is not served: {why}", INVALID_PARAMS)
        demand_judged(method, sent or {})
        passing = passing_params(method, sent)
        meant = None if method in LISTS else requested_call(self._table, method, sent or {})
        if meant is None:
            shown = self._page_filter(method, admitted, asks=own.asks, typed=typed)
            return Entered(method, passing, current=current, shown=shown)
        spec = meant.spec
        if spec.judged_by_function:
            await current.screen_naming(spec.action, _returning(meant.sent))
        elif method == CALL:
            await self._judge_tool(current, meant, lister)
        else:
            # Nobody says of which types these arguments are, so each may be of any.
            await _judge_as_sent(current, meant, _UNKNOWN)
        return Entered(method, passing, current=current, by_function=spec.judged_by_function)

    async def _judge_tool(self, current: GuardedRequest, meant: RequestedCall, lister: Lister) -> None:
        spec, name = meant.spec, meant.name
        await current.screen_naming(spec.action, _returning(meant.sent))
        definition = await self._definitions.get(name, lister)
        if definition is None:
            raise Unserved(f"Unknown tool: {name!r:.80}", INVALID_PARAMS)
        if spec.definition not in (None, definition.digest):
            raise Unserved(
                f"the definition of the tool {name!r:.80} has changed since it was approved: an operator has to look "
                "at it, and then run capx mcp map --update",
                INVALID_PARAMS,
            )
        await _judge_as_sent(current, meant, definition.schema)

    def _page_filter(self, method: str, admitted: Admitted, *, asks: bool, typed: bool) -> Callable[[Any], Object]:
        reading = self._definitions.reading()

        def shown(page: Any) -> Object:
            if method == LIST_TOOLS:
                reading.learn(page)
            return self._shown_list(method, page, admitted, asks=asks, typed=typed)

        return shown

    def _shown_list(self, method: str, result: Any, admitted: Admitted, *, asks: bool, typed: bool) -> Object:
        """Return a page of a list without what the bearer may not use, nor ask for."""
        clean = object_or_none(without_own_in_result(result)) or {}
        member = LISTS[method]
        shown = [item for item in list_or_empty(clean.get(member)) if self._is_shown(method, item, admitted, asks=asks)]
        return _private({**clean, member: shown}, typed=typed)

    def _is_shown(self, method: str, item: Any, admitted: Admitted, *, asks: bool) -> bool:
        name = (object_or_none(item) or {}).get("name")
        spec: ToolSpec | None = self._table.resource_spec()
        if method == LIST_TOOLS:
            spec = self._table.spec("tool", name) if isinstance(name, str) else None
            if spec is not None and spec.definition is not None:
                spec = spec if spec.definition == definition_digest(object_or_none(item) or {}) else None
        elif method == LIST_PROMPTS:
            spec = self._table.spec("prompt", name) if isinstance(name, str) else None
        return spec is not None and (asks or admitted.permits(spec.action))


def _bound(method: str, params: Object | None) -> McpRequest:
    try:
        return bound_request(method, params)
    except (InvalidRequest, InvalidCaveat) as error:
        raise Unserved(f"this request cannot be presented: {error}", INVALID_PARAMS) from None


async def _judge_as_sent(current: GuardedRequest, meant: RequestedCall, schema: Schema) -> None:
    why = await current.computed(lambda: schema.problem(meant.arguments, meant.spec.texts))
    if why is not None:
        current.deny(meant.spec.action, unjudgeable(why, "unambiguous values"), sent=True)
    await current.judge_call_async(meant.facts(schema.defaults(meant.arguments)))


def _private(result: Object, *, typed: bool) -> Object:
    """A list that nobody may keep for another bearer."""
    return {**result, "resultType": "complete", **_PRIVATE} if typed else _uncached(result)


def _uncached(result: Any) -> Any:
    """Return an answer so that nobody keeps it for another bearer."""
    found = object_or_none(result) or {}
    return result if found.keys().isdisjoint(_PRIVATE) else {**found, **_PRIVATE}


def _returning(args: Mapping[str, JSON]) -> Any:
    async def stated() -> Mapping[str, JSON]:
        return args

    return stated
