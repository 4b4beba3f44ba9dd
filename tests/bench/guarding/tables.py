"""What a guard costs a FastAPI route, as tables."""

from tests.bench.guarding.routes import BARE, HOLD, LARGE, MOST_MS, MOST_TIMES
from tests.bench.measuring import Row
from tests.bench.report import Report
from tests.bench.table import TIMES, Table, short, spaced, spread


def tables(report: Report) -> list[Table]:
    """Both tables; one without rows if its part was not measured."""
    hold, large = ([row for row in report.rows if row.op == op and not row.who.endswith(BARE)] for op in (HOLD, LARGE))
    return [
        Table(
            "What one request may hold up",
            "The processor time of one request to a FastAPI application, in all threads: so long, at most, it can hold "
            "the event loop. Its token has as "
            "many hops as the table says, and the call is the largest that is judged at all: together they use the "
            f"whole budget, each in another way. At most {MOST_MS:g} ms are allowed; **more** is bold.",
            ["", "hops", "ms", "ms without a guard"],
            [[row.who, str(row.at), _bold(row.us / 1000, MOST_MS, _ms(row)), _bare_ms(report, row)] for row in hold],
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
                    _ms(row),
                    _bare_ms(report, row),
                    _bold(row.ratios[BARE], MOST_TIMES, f"{short(row.ratios[BARE])}{TIMES}"),
                ]
                for row in large
            ],
        ),
    ]


def _bare_ms(report: Report, row: Row) -> str:
    bare = report.row(row.op, row.at, f"{row.who}, {BARE}")
    return "" if bare is None else _ms(bare)


def _ms(row: Row) -> str:
    return f"{short(row.us / 1000)} {spread(row, 1000)}"


def _bold(value: float, most: float, text: str) -> str:
    return text if value <= most else f"**{text}**"
