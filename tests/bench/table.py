"""A table as text, and how its numbers are written."""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from tests.bench.measuring import Row

NONE: Final = "-"
TIMES: Final = "\N{MULTIPLICATION SIGN}"


class Table(Struct, frozen=True):
    """A title, what to know when reading it, a head and rows."""

    title: str
    note: str
    head: list[str]
    rows: list[list[str]]


def timed(row: Row, of: int = 1) -> str:
    """What it took, with quartiles in parentheses: in µs, or in as many of them as are one."""
    return f"{short(row.us / of)} ({short(row.quartiles[0] / of)}-{short(row.quartiles[1] / of)})"


def milliseconds(row: Row) -> str:
    """What it took, in ms."""
    return timed(row, 1000)


def times(row: Row, to: str) -> str:
    """How many times as long it took as what is called `to`."""
    return f"{short(row.ratios[to])}{TIMES}" if to in row.ratios else NONE


def beside(row: Row | None, to: str) -> str:
    """What it took, and how many times as long as what is called `to`, if it was compared."""
    if row is None:
        return NONE
    return f"{timed(row)} {times(row, to)}" if to in row.ratios else timed(row)


def bold(text: str, *, is_good: bool) -> str:
    """A value that is beyond its bar is bold."""
    return text if is_good else f"**{text}**"


def verdict(reached: bool | None) -> str:
    """Whether a bar is reached, in words."""
    return {True: "reached", False: "**not reached**", None: "not measured"}[reached]


def names(rows: Iterable[Row]) -> list[str]:
    """Those who have a row, each once."""
    return list(dict.fromkeys(row.who for row in rows))


def by_length(ats: Iterable[int], *before: str) -> list[str]:
    """The head of a table with a column for each length."""
    return ["", *before, *(f"L = {at}" for at in ats)]


def short(number: float) -> str:
    """Three digits, or all before the point."""
    size = abs(number)
    return f"{number:.{2 if size < 9.995 else 1 if size < 99.95 else 0}f}"


def spaced(number: int) -> str:
    """All digits, in threes."""
    return f"{number:,}".replace(",", " ")
