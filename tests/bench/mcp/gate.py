"""One tool call: what presenting it costs an agent, and what the gate costs a server, without any transport.

Laws: each call has a presentation of its own; where the gate is timed, it is made before the clock runs. The time is
that of the processor, in all threads of this process.
"""

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from capx.api.jsonrpc import Object
from capx.api.mcp_messages import CALL, OwnMeta, bound_request, with_own
from capx.guard.mcp.gate import Gate
from capx.guard.mcp.table import ToolSpec, ToolTable
from capx.tokens.bundle import Bundle
from capx.verify.verifier import Verifier
from tests.bench.authority.figures import SQLITE
from tests.bench.authority.places import AUDIENCE, Places
from tests.bench.guarding.requests import MEMORY, verifier
from tests.bench.mcp.http_server import ACTION, ECHO
from tests.bench.measuring import Contender, Run
from tests.bench.timing import repeated

GATE: Final = "a tool call of MCP"
PRESENTING: Final = "presenting"
_CALL: Final = {"name": ECHO, "arguments": {"message": "hello"}}
_TOOLS: Final = {"tools": [{"name": ECHO, "inputSchema": {"properties": {"message": {"type": "string"}}}}]}


@contextmanager
def gate_contenders(folder: Path) -> Generator[list[Contender]]:
    """Presenting, and the gate in memory and on a store."""
    folder.mkdir()
    with ExitStack() as stack:
        place = stack.enter_context(Places(folder, stack).authority(SQLITE))
        bundle = place.authority.open(allow=[f"{ACTION}@{AUDIENCE}"], expires="1h").bundle
        found = [Contender(GATE, 1, PRESENTING, partial(repeated, lambda: _shown(bundle)))]
        for who in (MEMORY, SQLITE):
            made, flush = verifier(stack, replace(place.source, who=who))
            run = _entering(made, bundle, flush)
            found.append(Contender(GATE, 1, who, run, {PRESENTING: (GATE, 1, PRESENTING)}))
        yield found


def _shown(bundle: Bundle) -> Object:
    return with_own(_CALL, OwnMeta(bundle.present(AUDIENCE, bound_request(CALL, _CALL)).text))


def _entering(made: Verifier, bundle: Bundle, flush: Callable[[], object]) -> Run:
    table = ToolTable(AUDIENCE)
    table.name(ECHO, ToolSpec(ACTION))
    gate = Gate(made, table)

    async def lister(method: str, params: Object) -> Any:
        del method, params
        return _TOOLS

    async def entered(requests: list[Object]) -> float:
        began = time.process_time()
        for params in requests:
            found = await gate.enter(CALL, params, lister)
            found.leaving({"content": []})
        flush()
        return time.process_time() - began

    return lambda count: asyncio.run(entered([_shown(bundle) for _ in range(count)]))
