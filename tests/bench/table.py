"""A table as text, and how its numbers are written."""

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


def spread(row: Row, of: int = 1) -> str:
    """The quartiles, in parentheses."""
    return f"({short(row.quartiles[0] / of)}-{short(row.quartiles[1] / of)})"


def short(number: float) -> str:
    """Three digits, or all before the point."""
    size = abs(number)
    return f"{number:.{2 if size < 9.995 else 1 if size < 99.95 else 0}f}"


def spaced(number: int) -> str:
    """All digits, in threes."""
    return f"{number:,}".replace(",", " ")
