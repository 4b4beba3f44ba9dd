"""What MCP costs with capx, as tables."""

from tests.bench.authority.figures import P50, P99, Figure
from tests.bench.mcp.gate import GATE
from tests.bench.mcp.http import HTTP, MOST_TIMES, PRESENTED, TIMES
from tests.bench.mcp.stdio import ADDED, BOTH, MOST_ADDED, STDIO
from tests.bench.report import Report
from tests.bench.table import NONE, Table, bold, short, timed


def tables(report: Report) -> list[Table]:
    """All of them; one without rows if its part was not measured."""
    return [
        Table(
            "A tool call of MCP",
            "The processor time of one `tools/call`, without any transport: presenting it, and letting it through the "
            "gate, from its `_meta` to its answer. The token has one hop. What waits to be written is written before "
            "the clock stops.",
            ["", "µs"],
            [[row.who, timed(row)] for row in report.of(GATE)],
        ),
        Table(
            "MCP over standard input and output",
            "A call of a tool that answers at once, by the clock on the wall, in ms: at a server without a guard, and "
            "through the proxies, each a process. *More* is the median of what a call takes longer than the unguarded "
            f"one of its round. Both proxies together may add {MOST_ADDED:g} ms; **more** is bold.",
            ["", P50, P99, "more", "bar"],
            [_row(one, ADDED, MOST_ADDED if one.who == BOTH else None) for one in _of(report, STDIO)],
        ),
        Table(
            "MCP over HTTP",
            "The same of a server of the mcp SDK behind uvicorn, each a process, whose guard is in it. *Times* is the "
            "ratio of medians. The client has presented before the clock runs, but in the last row. The guard may "
            f"cost {MOST_TIMES:g} times the unguarded call; **more** is bold.",
            ["", P50, P99, "times", "bar"],
            [_row(one, TIMES, None if one.who == PRESENTED else MOST_TIMES) for one in _of(report, HTTP)],
        ),
    ]


def _of(report: Report, what: str) -> list[Figure]:
    return [one for one in report.figures if one.of == what]


def _row(one: Figure, name: str, most: float | None) -> list[str]:
    value = one.values.get(name)
    told = NONE if value is None else short(value)
    bar = NONE if value is None or most is None else f"≤ {most:g}"
    is_good = value is None or most is None or value <= most
    return [one.who, short(one.values[P50]), short(one.values[P99]), bold(told, is_good=is_good), bar]
