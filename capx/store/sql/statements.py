"""Executes SQL statements within one transaction of a store, in words that both databases understand.

Law: a statement uses `?` for a value, and `capx.` before the name of a table. Each database replaces both by what it
needs.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar


class SqlStatements(ABC):
    """Executes statements within one transaction."""

    nth: ClassVar[str]
    """The column that numbers the rows of a table in the order of their insertion."""

    @abstractmethod
    def _execute(self, query: str, *values: object) -> Any:
        """Execute one statement, and give its cursor."""

    def _write(self, query: str, *values: object) -> None:
        """Execute one statement whose result nobody reads."""
        self._execute(query, *values)

    def _row(self, query: str, *values: object) -> Any:
        return self._execute(query, *values).fetchone()

    def _rows(self, query: str, *values: object) -> list[Any]:
        rows: list[Any] = self._execute(query, *values).fetchall()
        return rows

    def _put(self, table: str, row: tuple[object, ...], on_conflict: str = "") -> None:
        """Write one whole row."""
        self._write(f"INSERT INTO capx.{table} VALUES ({places(row)}) {on_conflict}", *row)  # noqa: S608 - ours

    def _put_numbered(self, table: str, row: Mapping[str, object], on_conflict: str = "") -> None:
        """Write one row with these columns, and the next number."""
        # Only one transaction writes at a time, so nobody else can take this number meanwhile.
        into = f"INSERT INTO capx.{table} ({self.nth}, {', '.join(row)})"
        number = f"(SELECT coalesce(max({self.nth}), 0) + 1 FROM capx.{table})"  # noqa: S608 - a table of ours
        self._write(f"{into} VALUES ({number}, {places(row)}) {on_conflict}", *row.values())

    @abstractmethod
    def _put_all(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Write many whole rows, in the fastest way that the database has."""


def places(row: Iterable[object]) -> str:
    """Return a `?` for each value."""
    return ", ".join("?" for _ in row)
