"""A report as tables: the same on a terminal and on the page."""

from typing import Final

from tests.bench import ours, startup
from tests.bench.authority import tables as of_the_authority
from tests.bench.measuring import Row
from tests.bench.report import Bar, Report, bars
from tests.bench.table import NONE, TIMES, Table, short, spaced, spread

_OPERATIONS: Final = {
    "mint": (ours.CAPX, "The authority's block alone, to its text: the same at any L."),
    "attenuate": (ours.CAPX, "One more `where` to a chain of L hops, to its text. PyJWT: cannot."),
    "delegate": (ours.CAPX, "One more hop with its five caveats to a chain of L hops, to its text. PyJWT: cannot."),
    "present": (
        ours.CAPX,
        (
            "A chain of L hops bound to one call. tenuo signs a proof with the holder's key; pymacaroons appends "
            "the same bytes; the others' tokens are sent as they are."
        ),
    ),
    "decode": (
        ours.CAPX,
        (
            "The text taken apart. Nothing is verified, except that tenuo checks signatures as it decodes. Only "
            "`capx, caveats too` reads the caveats of capx."
        ),
    ),
    "verify": (
        ours.FLOOR,
        (
            "From the text to *allowed*, with a fresh presentation each time. Held: a peer's caller keeps the chain "
            "decoded, its signatures checked, and is spared its text."
        ),
    ),
    "deny": (
        ours.COLD,
        (
            "From the text to *denied*, by an argument that every hop refuses. capx and biscuit-python name every hop "
            "or check that refuses, tenuo the first refusal of the last warrant, pymacaroons no caveat at all."
        ),
    ),
}
"""The contender that others are compared with, and what to know."""


def tables(report: Report) -> list[Table]:
    """All of a report."""
    found = [_bars(bars(report))] if any(row.op == "start" for row in report.rows) else []
    for op, (base, note) in _OPERATIONS.items():
        if rows := [row for row in report.rows if row.op == op]:
            found.append(_times(report, rows, op, base, note))
        if rows and op == "verify":
            found.append(_beside_capx(report, rows))
    found += [_sizes(report), _growth(report, "caveats", "caveats a hop"), _growth(report, "deaths", "dead ids")]
    found += [_starts(report), *of_the_authority.tables(report)]
    return [table for table in found if table.rows]


def _bars(all_bars: list[Bar]) -> Table:
    words = {True: "reached", False: "**not reached**", None: "not measured"}
    rows = [
        [
            bar.demand.what,
            bar.limit,
            ", ".join(f"{place}: {short(value)}".removeprefix(": ") for place, value in bar.values.items()) or NONE,
            words[bar.reached],
        ]
        for bar in all_bars
    ]
    note = (
        "Ratios of two times, and what they are to be: at most (≤) or at least (≥) so much, wherever they are "
        "measured. They are times to verify, except in the last two rows; of a peer it is the time from the text."
    )
    return Table("Bars", note, ["", "bar", "measured", ""], rows)


def _times(report: Report, rows: list[Row], op: str, base: str, note: str) -> Table:
    ats = report.ats(op)
    names = list(dict.fromkeys(row.who for row in rows))
    return Table(
        op.capitalize(),
        f"{note} Times as long as *{base}* behind." if len(names) > 1 else note,
        ["", *([f"L = {at}" for at in ats] if ats != [0] else ["µs"])],
        [[who, *(_cell(report.row(op, at, who), base) for at in ats)] for who in names],
    )


def _beside_capx(report: Report, rows: list[Row]) -> Table:
    ats = report.ats("verify")
    names = list(dict.fromkeys(row.who for row in rows if not row.who.startswith(("capx", ours.FLOOR))))

    def cell(row: Row | None) -> str:
        if row is None:
            return NONE
        return f"{short(row.ratios[ours.COLD])}{TIMES}, {short(row.ratios[ours.WARM])}{TIMES}"

    return Table(
        "Verify, beside capx",
        "How many times as long as capx cold, and as capx with a warm prefix.",
        ["", *(f"L = {at}" for at in ats)],
        [[who, *(cell(report.row("verify", at, who)) for at in ats)] for who in names],
    )


def _sizes(report: Report) -> Table:
    ats = sorted({size.at for size in report.sizes})
    by = {(size.at, size.who): str(size.characters) for size in report.sizes}
    return Table(
        "Size",
        "Characters of text: what is sent to a resource and, for capx, what is held too.",
        ["", *(f"L = {at}" for at in ats)],
        [[who, *(by.get((at, who), NONE) for at in ats)] for who in dict.fromkeys(size.who for size in report.sizes)],
    )


def _growth(report: Report, op: str, unit: str) -> Table:
    ats = report.ats(op)
    names = dict.fromkeys(row.who for row in report.rows if row.op == op)
    note = {
        "caveats": "Three hops. Five caveats are those of every other table, each further one is a `where`.",
        "deaths": "Eight hops. The dead are in a SQLite store, which the verifier follows; none is of this chain.",
    }[op]
    return Table(
        f"Growth with {unit}",
        f"{note} Times as long as with {ats[0] if ats else 0} behind.",
        ["", *(f"{spaced(at)} {unit}" for at in ats)],
        [[who, *(_cell(report.row(op, at, who), str(ats[0])) for at in ats)] for who in names],
    )


def _starts(report: Report) -> Table:
    rows = [row for row in report.rows if row.op == "start"]
    return Table(
        "Start",
        "What a process takes of the processor, from its start to its end.",
        ["", "ms", f"times {startup.BARE}"],
        [
            [
                row.who,
                f"{short(row.us / 1000)} {spread(row, 1000)}",
                short(row.ratios.get(startup.BARE, 1.0)),
            ]
            for row in rows
        ],
    )


def _cell(row: Row | None, base: str) -> str:
    if row is None:
        return NONE
    ratio = f" {short(row.ratios[base])}{TIMES}" if base in row.ratios else ""
    return f"{short(row.us)} {spread(row)}{ratio}"
