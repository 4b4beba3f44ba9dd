"""A report as tables: the same on a terminal and on the page."""

import math
from collections.abc import Callable
from typing import Final

from tests.bench import approvals, ours, startup
from tests.bench.authority import tables as of_the_authority
from tests.bench.earlier import Earlier
from tests.bench.guarding import tables as of_the_guard
from tests.bench.mcp import tables as of_mcp
from tests.bench.measuring import Row
from tests.bench.report import Report, bars
from tests.bench.table import (
    NONE,
    TIMES,
    Table,
    beside,
    bold,
    by_length,
    milliseconds,
    names,
    short,
    spaced,
    times,
    verdict,
)

EARLIER: Final = "Beside the earlier commit"
_OPERATIONS: Final = {
    "mint": (ours.CAPX, "From nothing to the text of the authority's block. This is the same at any L."),
    "attenuate": (ours.CAPX, "Append one more `where` to a chain of L hops, to its text. PyJWT cannot do this."),
    "delegate": (
        ours.CAPX,
        "Append one more hop with its five caveats to a chain of L hops, to its text. PyJWT cannot do this.",
    ),
    "present": (
        ours.CAPX,
        (
            "Bind a chain of L hops to one call. tenuo signs a proof with the holder's key. pymacaroons appends the "
            "same bytes as capx. The tokens of the others are sent as they are."
        ),
    ),
    "decode": (
        ours.CAPX,
        (
            "Take the text apart. Nothing is verified, except that tenuo checks signatures while it decodes. Only "
            "`capx, caveats too` reads the caveats of capx."
        ),
    ),
    "verify": (
        ours.FLOOR,
        (
            "From the text to *allowed*, with a fresh presentation each time. *Held*: the caller of that library keeps "
            "the chain decoded, with its signatures checked, so its text is not read again."
        ),
    ),
    "deny": (
        ours.COLD,
        (
            "From the text to *denied*, by an argument that every hop refuses. capx and biscuit-python name every hop "
            "or check that refuses. tenuo names the first refusal of the last warrant, pymacaroons no caveat."
        ),
    ),
}
"""The contender that others are compared with, and what to know."""


def tables(report: Report) -> list[Table]:
    """All of a report."""
    found = [_bars(report)] if any(row.op == startup.OP for row in report.rows) else []
    for op, (base, note) in _OPERATIONS.items():
        found.append(_times(report, op, base, note))
        if op == "verify":
            found += [_beside_capx(report), _signed(report)]
    found += [
        approvals.table(report),
        _sizes(report),
        _growth(report, "caveats", "caveats a hop"),
        _growth(report, "deaths", "dead ids"),
        _starts(report),
        *of_the_guard.tables(report),
        *of_mcp.tables(report),
        *of_the_authority.tables(report),
        *map(_earlier, report.earlier),
    ]
    return [table for table in found if table.rows]


def _bars(report: Report) -> Table:
    note = (
        "Each row is the ratio of two times. The bar says what it must be, at most (≤) or at least (≥), wherever it "
        "is measured. The times are those of a verification, except in the last two rows; for other libraries, from "
        "the text on."
    )
    rows: list[list[str]] = []
    for bar in bars(report):
        told = [f"{place}: {short(value)}".removeprefix(": ") for place, value in bar.values.items()]
        rows.append([bar.demand.what, bar.demand.limit, ", ".join(told) or NONE, verdict(bar.reached)])
    return Table("Bars", note, ["", "bar", "measured", ""], rows)


def _times(report: Report, op: str, base: str, note: str) -> Table:
    ats = report.ats(op)
    who = names(report.of(op))
    return Table(
        op.capitalize(),
        f"{note} The factor ({TIMES}) compares with *{base}*." if len(who) > 1 else note,
        by_length(ats) if ats != [0] else ["", "µs"],
        [[one, *(beside(report.row(op, at, one), base) for at in ats)] for one in who],
    )


def _beside_capx(report: Report) -> Table:
    ats = report.ats("verify")
    others = [who for who in names(report.of("verify")) if not who.startswith(("capx", ours.FLOOR, ours.CHECK))]

    def cell(row: Row | None) -> str:
        return NONE if row is None else f"{times(row, ours.COLD)}, {times(row, ours.WARM)}"

    return Table(
        "Verify, beside capx",
        "How many times as long as capx takes, first cold, then with a warm prefix.",
        by_length(ats),
        [[who, *(cell(report.row("verify", at, who)) for at in ats)] for who in others],
    )


def _signed(report: Report) -> Table:
    ats = [at for at in report.ats("verify") if report.row("verify", at, ours.SIGNED_WARM) is not None]

    def taken(who: str) -> list[str]:
        return [who, NONE, *(beside(report.row("verify", at, who), "") for at in ats)]

    def told(what: str, most: float, value: Callable[[int], float]) -> list[str]:
        values = map(value, ats)
        cells = [NONE if math.isnan(one) else bold(short(one), is_good=one <= most) for one in values]
        return [what, f"≤ {most:g}", *cells]

    # What else runs on the machine slows code in Python more than a check: hence the lower quartiles.
    def least(at: int, who: str) -> float:
        row = report.row("verify", at, who)
        return math.nan if row is None else row.quartiles[0]

    def more(at: int, signed: str, bearer: str, checks: int) -> float:
        return (least(at, signed) - least(at, bearer)) / least(at, ours.CHECK) / checks

    def tenuo(at: int) -> str:
        row = report.row("verify", at, "tenuo, held")
        ratio = None if row is None else row.ratios.get(ours.SIGNED_WARM)
        return NONE if ratio is None else bold(short(ratio), is_good=ratio >= 1.5)

    return Table(
        "Signed tokens",
        "Each hop and each presentation is signed (Ed25519), by keys that the verifier has seen before. *More than a "
        "bearer's* says how much longer a verification takes than that of the same chain without keys, in checks of "
        "one signature. With a warm prefix only the presentation is checked. Cold, each hop is checked as well, and "
        "the number is that for each signature. These numbers and *warm, to L = 1* are made of the lower quartiles. "
        "**Bold** is beyond the bar.",
        by_length(ats, "bar"),
        [
            taken(ours.CHECK),
            taken(ours.SIGNED_WARM),
            told("warm, more than a bearer's", 1.4, lambda at: more(at, ours.SIGNED_WARM, ours.WARM, 1)),
            told("warm, to L = 1", 1.3, lambda at: least(at, ours.SIGNED_WARM) / least(ats[0], ours.SIGNED_WARM)),
            taken(ours.SIGNED_COLD),
            told("cold, more than a bearer's", 1.4, lambda at: more(at, ours.SIGNED_COLD, ours.COLD, at + 1)),
            ["tenuo, held, to capx, signed, warm", "≥ 1.5 at 8", *map(tenuo, ats)],
        ]
        if ats
        else [],
    )


def _sizes(report: Report) -> Table:
    ats = sorted({size.at for size in report.sizes})
    by = {(size.at, size.who): str(size.characters) for size in report.sizes}
    return Table(
        "Size",
        "Characters of the text that is sent to a resource; for capx, of the text that is held too.",
        by_length(ats),
        [[who, *(by.get((at, who), NONE) for at in ats)] for who in dict.fromkeys(size.who for size in report.sizes)],
    )


def _growth(report: Report, op: str, unit: str) -> Table:
    ats = report.ats(op)
    least = str(ats[0]) if ats else "0"
    note = {
        "caveats": (
            "The chain has three hops. Five caveats are those of every other table; each further one is a `where`."
        ),
        "deaths": (
            "The chain has eight hops. The dead (revoked) ids are in a SQLite store, which the verifier follows. None "
            "of them is in the chain."
        ),
    }[op]
    return Table(
        f"Growth with {unit}",
        f"{note} The factor ({TIMES}) compares with {least}.",
        ["", *(f"{spaced(at)} {unit}" for at in ats)],
        [[who, *(beside(report.row(op, at, who), least) for at in ats)] for who in names(report.of(op))],
    )


def _starts(report: Report) -> Table:
    return Table(
        "Start",
        "The processor time that a process takes, from its start to its end.",
        ["", "ms", f"times {startup.BARE}"],
        [[row.who, milliseconds(row), short(row.ratios.get(startup.BARE, 1.0))] for row in report.of(startup.OP)],
    )


def _earlier(earlier: Earlier) -> Table:
    turns = [f"{earlier.rounds} short turns of two processes on one core"] if earlier.rounds else []
    runs = [f"{earlier.pairs} quick runs of each"] if earlier.pairs else []
    where = "[Decision 59](decisions/0059-writes-go-out-with-the-commit.md)"
    about = (
        "Requests and revocations have the runs, all else the turns. A request to `capx serve` is timed by requests/s, "
        f"a revocation by its p99. {where} says where the time of a task, an ask and `POST /tasks` goes. "
    )
    return Table(
        f"{EARLIER} {earlier.commit}",
        f"How many times as long each takes as in that commit: the median of {', or of '.join(turns + runs)}, in turn, "
        f"with quartiles in parentheses. {about if runs else ''}What is the same in both commits, such as *commit*, "
        "*bare framework* and *bare MACs*, says how much of a change is noise.",
        ["", "", "", "times as long"],
        [
            [one.op, one.who, spaced(one.at), f"{short(one.times)} ({'-'.join(map(short, one.quartiles))})"]
            for one in earlier.changes
        ],
    )
