"""What a guard costs a FastAPI route, as tables."""

from collections.abc import Mapping

from tests.bench.asgi_requests import BARE, HOPS, REQUEST
from tests.bench.authority.figures import P50, P99, REQUESTS
from tests.bench.guarding.requests import CROWD, TIMES_BARE
from tests.bench.guarding.routes import HOLD, LARGE, MOST_MS, MOST_TIMES
from tests.bench.guarding.serving import SERVED
from tests.bench.guarding.serving import TIMES as TIMES_SERVED
from tests.bench.measuring import Row
from tests.bench.report import Report
from tests.bench.table import NONE, TIMES, Table, bold, milliseconds, short, spaced, timed


def tables(report: Report) -> list[Table]:
    """All of them; one without rows if its part was not measured."""
    hold, large = ([row for row in report.of(op) if not row.who.endswith(BARE)] for op in (HOLD, LARGE))
    return [
        _requests(report),
        _served(report),
        Table(
            "What one request may hold up",
            "The processor time of one request to a FastAPI application, in all threads: so long, at most, it can hold "
            "the event loop. Its token has as "
            "many hops as the table says, and the call is the largest that is judged at all: together they use the "
            f"whole budget, each in another way. At most {MOST_MS:g} ms are allowed; **more** is bold.",
            ["", "hops", "ms", "ms without a guard"],
            [
                [
                    row.who,
                    str(row.at),
                    bold(milliseconds(row), is_good=row.us / 1000 <= MOST_MS),
                    _bare_ms(report, row),
                ]
                for row in hold
            ],
        ),
        Table(
            "A large body",
            "The time until a FastAPI application has answered a body of JSON over HTTP, by the clock on the wall. The "
            "token leaves the body free. The same route without a guard has its turn in the same round. At most "
            f"{MOST_TIMES:g} times as long is allowed; **more** is bold.",
            ["", "bytes", "ms", "ms without a guard", f"times {BARE}"],
            [
                [
                    row.who,
                    spaced(row.at),
                    milliseconds(row),
                    _bare_ms(report, row),
                    _within(row.ratios[BARE], MOST_TIMES),
                ]
                for row in large
            ],
        ),
    ]


def _requests(report: Report) -> Table:
    rows = report.of(REQUEST)
    crowd = {row.who: row for row in rows if row.at == CROWD}
    return Table(
        "A guarded request",
        "The processor time of one request to a FastAPI route with a parameter in its path and one in its query, "
        "without a server around it: alone, and with "
        f"{CROWD} at once. The token has {HOPS} hops, its chain was seen before, and each request has a presentation "
        "of its own. capx is measured by where it burns presentations, records decisions and learns of revocations. "
        "What waits to be written is written before the clock stops; a database and `capx serve` are processes of "
        "their own, whose time does not count. PyJWT is a dependency of ten lines that checks one EdDSA signature, "
        "and neither a chain nor a replay; tenuo's guard checks the chain and a proof of possession. Both run in an "
        "environment of their own, and are compared with the bare route there. A bar is what a guarded request may "
        "cost at most, in times the bare route; **more** is bold. [Decision "
        "61](decisions/0061-a-guarded-request-waits-for-no-thread.md) says where the time goes, and what stands in the "
        "way of the bars.",
        ["", "bar", "µs", TIMES, f"µs, {CROWD} at once", TIMES],
        [_request(row, crowd.get(row.who)) for row in rows if row.at == 1],
    )


def _served(report: Report) -> Table:
    found = {(one.who, one.at): one.values for one in report.figures if one.of == SERVED}
    return Table(
        "A guarded request over HTTP",
        "The same routes, each behind uvicorn in a process of its own, with one connection and with "
        f"{CROWD}: each sends its next request when it has the answer to the last. The load generator runs on one "
        "core, the services on the others, and each has its turn in each round. Latencies are in ms. *Times* says how "
        "many times more requests the bare route answers in a second, in the same environment. The bars are those of "
        f"the table above; **more** is bold with {CROWD} connections.",
        ["", "connections", "requests/s", "p50", "p99", "times"],
        [
            [who, str(at), *(short(values[name]) for name in (REQUESTS, P50, P99)), _times(who, at, values)]
            for (who, at), values in found.items()
        ],
    )


def _times(who: str, at: int, values: Mapping[str, float]) -> str:
    if TIMES_SERVED not in values:
        return NONE
    return _within(values[TIMES_SERVED], TIMES_BARE.get(who) if at == CROWD else None)


def _request(row: Row, crowd: Row | None) -> list[str]:
    most = TIMES_BARE.get(row.who)
    cells = [cell for one in (row, crowd) for cell in _request_cells(one, most)]
    return [row.who, NONE if most is None else f"≤ {most:g}", *cells]


def _request_cells(row: Row | None, most: float | None) -> list[str]:
    if row is None:
        return [NONE, NONE]
    return [timed(row), _within(row.ratios[BARE], most) if BARE in row.ratios else NONE]


def _within(ratio: float, most: float | None) -> str:
    return bold(f"{short(ratio)}{TIMES}", is_good=most is None or ratio <= most)


def _bare_ms(report: Report, row: Row) -> str:
    bare = report.row(row.op, row.at, f"{row.who}, {BARE}")
    return "" if bare is None else milliseconds(bare)
