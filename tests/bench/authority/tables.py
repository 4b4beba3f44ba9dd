"""The figures of the authority as tables, and what to know when reading them."""

from collections.abc import Sequence
from typing import Final

from tests.bench.authority import figures as f
from tests.bench.authority.follower import PACE
from tests.bench.authority.load import CONNECTIONS
from tests.bench.measuring import Row
from tests.bench.report import Report
from tests.bench.table import NONE, TIMES, Table, milliseconds, short, spaced, timed, times, verdict

BARS: Final = "Figures of the authority"
LONG_LOG: Final = "A long log"


def tables(report: Report) -> list[Table]:
    """All that a report holds of the authority; none when it holds nothing."""
    rows = [row for row in report.rows if row.op in {f.TASK, *f.KEEPING, *f.ASKING}]
    if not rows and not any(one.of in f.OF_AUTHORITY for one in report.figures):
        return [_long_log(report)]
    return [
        _bars(report),
        _long_log(report),
        _tasks(rows),
        _beside_commits("What resources ask of a store", _KEEPING, rows, f.KEEPING),
        _beside_commits("What agents ask of an authority", _ASKING, rows, f.ASKING),
        _figures(report, f.LAG, "Until everybody refuses", "followers", _LAG),
        _figures(report, f.RACE, "One budget", "processes", _RACE),
        _figures(report, f.SIZE, "A decision in the log", "decisions", _SIZE),
        _figures(report, f.VIEW, "The dead in memory", "dead", _VIEW),
        _figures(report, f.SERVE, "capx serve under load", "connections", _SERVE),
        _figures(report, f.RETRY, "From refusal to success", "agents", _RETRY),
    ]


_LAG: Final = (
    "The time from the return of `revoke` until the last verifier, each in another process, denies a real call, by one "
    f"clock. Each process gets a call every {PACE * 1000:g} ms. It looks at SQLite every 20 ms at most. PostgreSQL and "
    "`capx serve` notify it; with `capx serve`, the revocation comes through its Unix socket. Below zero: all denied "
    "before `revoke` had returned."
)
_RACE: Final = (
    "Processes spend 1 at a time from one counter until nothing is left, each time durably. A bare counter is one row "
    "that as many processes count up, through the same library. *That spent*: the least number of processes that spent "
    "anything. *Off the limit*: how much too much or too little was spent."
)
_SIZE: Final = (
    "What a decision at three hops adds to a store: to the table of the log, and to the indexes of that table. The "
    "decisions are new ones, recorded 500 at once."
)
_VIEW: Final = (
    "A fresh process reads all of the dead (revoked) ids. The table shows by how much its own memory grew, how much "
    "was resident at most meanwhile, and how long it took until a verifier could judge. MB are 10⁶ bytes. `capx "
    "serve` sends the ids in signed pages over HTTP."
)
_SERVE: Final = (
    f"The tests' own load generator uses {' or '.join(map(str, CONNECTIONS))} connections. Each sends its next "
    "request when it has the answer to the last. The generator runs on one core, the server on the others. The bare "
    "framework is the same uvicorn and Starlette, with an endpoint that answers a constant, measured in turn with the "
    "others. The last column says how many times more requests that framework answers in a second. The generator "
    "makes each presentation anew. In the rows of `/agent/ask`, every request asks for something new, which is "
    "granted, or all ask for what one of them was granted before."
)
_RETRY: Final = (
    "An agent, whose connections are open, makes an HTTP call to a FastAPI service that follows `capx serve`. Each of "
    "the three is a process of its own; the agent's clock counts. If the call is denied, the agent asks `capx serve`, "
    "is granted, and makes the call once more: three requests instead of one. The time of a person's consent is from "
    "when it goes out over the Unix socket until the call of the waiting agent has succeeded. Each agent has a task "
    "of its own."
)


def _bars(report: Report) -> Table:
    rows: list[list[str]] = []
    for aim in f.AIMS:
        found = f.values(aim, report.rows, report.figures)
        unit = {f.LAG: " following", f.RACE: " racing", f.VIEW: " dead", f.SIZE: " decisions"}.get(aim.of)
        told = [f"{spaced(at)}{unit}: {_told(value)}" if unit else _told(value) for at, value in found.items()]
        rows.append([aim.what, aim.limit, ", ".join(told) or NONE, verdict(aim.reached(found))])
    return Table(BARS, "What the authority should reach on one machine.", ["", "bar", "measured", ""], rows)


def _long_log(report: Report) -> Table:
    grown = [row for row in report.rows if f.LONG in row.ratios]
    most = max((row.at for row in grown), default=0)
    rows = [row for row in grown if row.at == most]
    return Table(
        LONG_LOG,
        f"The same on an empty store and on one with {spaced(most)} decisions, in turn. Each search finds its first "
        "page. Apart from `--denied` and `--task`, what it looks for is in one decision in the middle of the log, or "
        "in the newest ones. `record` writes 100 decisions. Times are in ms, with quartiles in parentheses.",
        ["", "", "ms", f"times {f.LONG}", "bar", ""],
        [
            [row.who, _long_op(row), milliseconds(row), times(row, f.LONG), *_long_bar(row)]
            for row in sorted(rows, key=lambda row: (row.who != f.SQLITE, list(f.LONG_BARS).index(_long_op(row))))
        ],
    )


def _long_op(row: Row) -> str:
    return row.op.removeprefix(f.LONG_LOG)


def _long_bar(row: Row) -> tuple[str, str]:
    most = f.LONG_BARS[_long_op(row)]
    reached = row.us / 1000 <= f.FOUND_MS if most is None else row.ratios[f.LONG] <= most
    shown = f"≤ {f.FOUND_MS} ms" if most is None else f"≤ {most:g}{TIMES}"
    return shown, verdict(reached)


def _tasks(rows: Sequence[Row]) -> Table:
    names = {f.COMMITS: f"open, {f.GRANTS} grants, complete", f.COMMITS_AT_OPEN: "opened with them, complete"}
    return Table(
        "Tasks",
        f"A task with {f.GRANTS} grants. Each is granted while the task runs ({f.COMMITS} transactions), or all when "
        f"it is opened ({f.COMMITS_AT_OPEN}), by one process on one core. Times are in ms, with quartiles in "
        "parentheses. The last column compares with the same number of durable commits of one row each.",
        ["", "", "tasks/s", "ms", f"times {f.BARE}"],
        [
            [row.who, names[row.at], short(1e6 / row.us), milliseconds(row), times(row, f.BARE)]
            for row in rows
            if row.op == f.TASK
        ],
    )


_KEEPING: Final = (
    "One at a time over one connection, by the clock on the wall. Times are in µs, with quartiles in parentheses. "
    "SQLite forces spending to the disk, and leaves burning and recording to the operating system. PostgreSQL "
    "forces all of them. *commit* is the bare commit of one row, forced."
)
_ASKING: Final = (
    "Agents ask an authority for more while a task runs, in one process on one core, timed as above. Each ask is "
    "presented, verified, burnt, answered and recorded. Something new is granted in one transaction. If the same "
    "is asked again, the answer is read. The bare commit is the one above."
)


def _beside_commits(title: str, note: str, rows: Sequence[Row], ops: Sequence[str]) -> Table:
    return Table(
        title,
        note,
        ["", "", "a second", "µs", f"times {f.BARE}", f"times {f.SQLITE}"],
        [
            [
                row.who,
                row.op if row.op != "record" else f"record, {row.at} at once",
                short(row.at * 1e6 / row.us),
                timed(row),
                times(row, f.BARE),
                times(row, f.SQLITE),
            ]
            for row in sorted((row for row in rows if row.op in ops), key=lambda row: (ops.index(row.op), row.at))
        ],
    )


def _figures(report: Report, of: str, title: str, unit: str, note: str) -> Table:
    found = [one for one in report.figures if one.of == of]
    names = list(dict.fromkeys(name for one in found for name in one.values))
    return Table(
        title,
        note,
        ["", unit, *names],
        [
            [one.who, spaced(one.at), *(_told(one.values[name]) if name in one.values else NONE for name in names)]
            for one in found
        ],
    )


def _told(value: float) -> str:
    """A number, without digits behind the point where it is whole."""
    return spaced(int(value)) if value == int(value) else short(value)
