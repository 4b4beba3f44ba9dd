"""The tables of a store, for somebody who can write the database and has no root key; either kind of store."""

import contextlib
import json
import sqlite3
from collections.abc import Generator
from typing import Any, Self

import psycopg

from capx.store.factory import is_postgres

Rows = list[tuple[Any, ...]]


class Behind:
    """All tables of the store at a place, behind the back of capx."""

    def __init__(self, place: str) -> None:
        self._db: Any
        if is_postgres(place):
            self._mark = "%s"
            self._db = psycopg.connect(place, autocommit=True)
            self._db.execute("SET search_path = capx")
            found = "SELECT tablename FROM pg_tables WHERE schemaname = 'capx' ORDER BY tablename"
        else:
            self._mark = "?"
            self._db = sqlite3.connect(place, isolation_level=None)
            found = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
        self.tables = [str(name) for (name,) in self._db.execute(found).fetchall()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def columns(self, table: str) -> list[str]:
        return [one[0] for one in self._db.execute(f"SELECT * FROM {table} LIMIT 0").description]

    def rows(self, table: str) -> Rows:
        return [tuple(row) for row in self._db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()]

    def do(self, statement: str, *values: object) -> None:
        """Execute a statement with `?` for each value."""
        self._db.execute(statement.replace("?", self._mark), values)

    def insert(self, table: str, row: tuple[Any, ...]) -> None:
        self.do(f"INSERT INTO {table} VALUES ({', '.join('?' for _ in row)})", *row)

    def delete(self, table: str, row: tuple[Any, ...]) -> None:
        names = self.columns(table)
        # By its first two columns: each table has its key among them.
        self.do(f"DELETE FROM {table} WHERE {names[0]} = ? AND {names[1]} = ?", *row[:2])

    def replace(self, table: str, row: tuple[Any, ...], other: tuple[Any, ...]) -> None:
        """Put another row in the place of one; an error of the database leaves the one."""
        with self._whole():
            self.delete(table, row)
            self.insert(table, other)

    def request(self, id_: str, **changes: Any) -> None:
        """Change fields of a request, in its text and in its columns."""
        ((body,),) = self._db.execute(f"SELECT body FROM requests WHERE id = {self._mark}", (id_,)).fetchall()
        changed = {**json.loads(body), **changes}
        self.do(
            "UPDATE requests SET body = ?, state = ? WHERE id = ?",
            json.dumps(changed, separators=(",", ":")),
            changed.get("state", "pending"),
            id_,
        )

    def save(self) -> dict[str, Rows]:
        return {table: self.rows(table) for table in self.tables}

    def put_back(self, saved: dict[str, Rows]) -> None:
        """Make all tables what they were."""
        with self._whole():
            for table, rows in saved.items():
                self.do(f"DELETE FROM {table}")
                for row in rows:
                    self.insert(table, row)

    @contextlib.contextmanager
    def _whole(self) -> Generator[None]:
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
