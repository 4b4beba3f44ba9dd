"""The figures of the authority as tables, and what to know when reading them."""

from collections.abc import Sequence
from typing import Final

from tests.bench.authority import figures as f
from tests.bench.authority.follower import PACE
from tests.bench.authority.serving import CONNECTIONS
from tests.bench.measuring import Row
from tests.bench.report import Report
from tests.bench.table import NONE, TIMES, Table, short, spaced, spread

BARS: Final = "Figures of the authority"


def tables(report: Report) -> list[Table]:
    """All that a report holds of the authority; none when it holds nothing."""
    rows = [row for row in report.rows if row.op in {f.TASK, *f.KEEPING, *f.ASKING}]
    if not rows and not report.figures:
        return []
    return [
        _bars(report),
        _tasks(rows),
        _keeping(rows),
        _asking(rows),
        _figures(report, f.LAG, "Until everybody refuses", "followers", _LAG),
        _figures(report, f.RACE, "One budget", "processes", _RACE),
        _figures(report, f.VIEW, "The dead in memory", "dead", _VIEW),
        _figures(report, f.SERVE, "capx serve under load", "connections", _SERVE),
        _figures(report, f.RETRY, "From refusal to success", "agents", _RETRY),
    ]


_LAG: Final = (
    "From `revoke` returning to the refusal of a real call by a verifier in another process, whichever of them refuses "
    f"last, by one clock. Each process is asked every {PACE * 1000:g} ms. It looks at SQLite every 20 ms at most; "
    "PostgreSQL and `capx serve`, through whose Unix socket the revocation comes, tell it. Below zero: all refused "
    "before `revoke` had returned."
)
_RACE: Final = (
    "Processes that spend 1 at a time of one counter until there is no more, each answered durably. A bare counter is "
    "one row that as many processes count up, by the same library. *That spent*: how many of them spent "
    "anything, at least. *Off the limit*: what was spent too much or too little."
)
_VIEW: Final = (
    "A fresh process that reads all of them; what its own memory grew by, what was resident at most meanwhile, and how "
    "long it took until a verifier could judge. MB are 10⁶ bytes. `capx serve` tells them in signed pages over HTTP."
)
_SERVE: Final = (
    "The tests' own load generator, over connections that each ask again once they are answered; "
    f"{' and '.join(map(str, CONNECTIONS))} of them. It keeps to one core, what it asks to the others. The bare "
    "framework is the same uvicorn and Starlette, with an endpoint that answers a constant, asked in turn with the "
    "others; so many times as few requests are answered in a second. Each presentation is made by the generator, anew. "
    "Of those that ask for more, everybody asks for something new, which is granted, or all for what one of them was "
    "granted before."
)
_RETRY: Final = (
    "By the clock of an agent whose connections are open: an HTTP call to a FastAPI service that follows `capx serve`, "
    "each of the three a process of its own. Refused, it asks `capx serve`, is granted, and makes the call once more: "
    "three requests instead of one. A person's consent is timed from when it goes out over the Unix socket until the "
    "call of the agent that waits for it has succeeded. Each agent is of a task of its own."
)


def _bars(report: Report) -> Table:
    words = {True: "reached", False: "**not reached**", None: "not measured"}
    rows: list[list[str]] = []
    for aim in f.AIMS:
        found = f.values(aim, report.rows, report.figures)
        unit = {f.LAG: " following", f.RACE: " racing", f.VIEW: " dead"}.get(aim.of)
        told = [f"{spaced(at)}{unit}: {_told(value)}" if unit else _told(value) for at, value in found.items()]
        rows.append([aim.what, aim.limit, ", ".join(told) or NONE, words[aim.reached(found)]])
    return Table(BARS, "What the authority is to reach on one machine.", ["", "bar", "measured", ""], rows)


def _tasks(rows: Sequence[Row]) -> Table:
    names = {f.COMMITS: f"open, {f.GRANTS} grants, complete", f.COMMITS_AT_OPEN: "opened with them, complete"}
    return Table(
        "Tasks",
        f"A task with {f.GRANTS} grants, each granted while it runs ({f.COMMITS} transactions) or all when it is "
        f"opened ({f.COMMITS_AT_OPEN}), by one process on one core; in ms, quartiles in parentheses. Behind, how many "
        "times as long as as many durable commits of one row each.",
        ["", "", "tasks/s", "ms", f"times {f.BARE}"],
        [
            [row.who, names[row.at], short(1e6 / row.us), _milliseconds(row), _ratio(row, f.BARE)]
            for row in rows
            if row.op == f.TASK
        ],
    )


def _keeping(rows: Sequence[Row]) -> Table:
    note = (
        "One at a time over one connection, by the clock on the wall; in µs, quartiles in parentheses. SQLite forces "
        "what is spent to the disk, and leaves what is burnt and recorded to the operating system; PostgreSQL forces "
        "all. *commit* is the bare one of one row, forced."
    )
    return _beside_commits("What resources ask of a store", note, rows, f.KEEPING)


def _asking(rows: Sequence[Row]) -> Table:
    note = (
        "Asks for more while a task runs, of an authority in one process on one core, timed as above: each is "
        "presented, verified, burnt, answered and recorded. Something new is granted, in one transaction; for the same "
        "again the answer is read. The bare commit is the one above."
    )
    return _beside_commits("What agents ask of an authority", note, rows, f.ASKING)


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
                f"{short(row.us)} {spread(row)}",
                _ratio(row, f.BARE),
                _ratio(row, f.SQLITE),
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


def _milliseconds(row: Row) -> str:
    return f"{short(row.us / 1000)} {spread(row, 1000)}"


def _ratio(row: Row, to: str) -> str:
    return f"{short(row.ratios[to])}{TIMES}" if to in row.ratios else NONE
