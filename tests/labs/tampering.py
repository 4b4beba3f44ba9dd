"""The tables of a store, for somebody who can write the database and has no root key; either kind of store."""

import contextlib
import json
import sqlite3
from collections.abc import Generator
from dataclasses import dataclass, field
from os import urandom
from random import Random
from typing import Any, Self

import psycopg

from capx.crypto.base64url import b64u
from capx.store.events import TASK_ENDS
from capx.store.factory import is_postgres
from capx.store.lifecycle import FIRST
from capx.store.protocols import Reading

Row = tuple[Any, ...]
Rows = list[Row]

MARKED = ("tasks", "intents", "requests", "answers", "grants")
MINTED_FROM = (*MARKED, "request_nodes", "strengths", "counters", "deaths", "events", "head")
"""The tables that the authority reads when it mints."""
_OWN = {"nth", "id", "digest", "root", "node", "request", "capability", "counter", "seq", "key", "name", "position"}
"""The columns in which a row that is made up differs from all others."""

_UNSAID = {
    "head": {"epoch", "forgotten"},
    "events": {"decision", "audience", "task", "capability", "subject"},
}
"""The columns in which `store check` sees no change, besides the numbers of rows."""
_TRIES = 5


@dataclass(frozen=True)
class Change:
    """One row that somebody changed: as it was, and as it is now; None if there is no row."""

    table: str
    old: Row | None
    new: Row | None
    columns: frozenset[str]
    """The columns that differ; all of them for a row that was made up or deleted."""
    whole: dict[str, Rows] = field(repr=False)
    """The store as it was."""

    @property
    def is_overlooked(self) -> bool:
        """Whether `store check` cannot see it: no event says it, and no mark covers it."""
        if self.table in {"counters", "request_nodes"} or self.columns <= _UNSAID.get(self.table, {"nth"}):
            return True
        # What belongs to a task that has ended may have been forgotten. What was made up for no grant belongs to none.
        return (self.table, self.new) in {("requests", None), ("grants", None)} or (self.table, self.old) == (
            "strengths",
            None,
        )


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

    def insert(self, table: str, row: Row) -> None:
        self.do(f"INSERT INTO {table} VALUES ({', '.join('?' for _ in row)})", *row)

    def delete(self, table: str, row: Row) -> None:
        key = zip(self.columns(table), row[: _key(table)], strict=False)
        known = [(name, value) for name, value in key if value is not None]
        self.do(f"DELETE FROM {table} WHERE {' AND '.join(f'{name} = ?' for name, _ in known)}", *dict(known).values())

    def replace(self, table: str, row: Row, other: Row) -> None:
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

    def change(self, dice: Random, earlier: list[dict[str, Rows]]) -> Change | None:
        """Change one row; None if the database refuses all tries."""
        whole = self.save()
        tries = (self._drawn(dice, whole, earlier) for _ in range(_TRIES))
        return next((change for change in tries if self._took(change)), None)

    def _drawn(self, dice: Random, whole: dict[str, Rows], earlier: list[dict[str, Rows]]) -> Change:
        table = dice.choice([name for name in (*MARKED, *MINTED_FROM) if whole[name]])
        log = "".join(row[3] for row in whole["events"])
        rows, names = _in_order(whole[table], log), self.columns(table)
        row, at = dice.choice(rows), dice.choice(range(len(names)))
        made_up = tuple(_another(value) if name in _OWN else value for name, value in zip(names, row, strict=True))
        changed = (*row[:at], dice.choice([*others(at, row, rows), _another(row[at])]), *row[at + 1 :])
        older = dice.choice(
            [row, *(one for store in earlier for one in _in_order(store[table], log) if one not in rows)]
        )
        now = next((one for one in rows if one[: _key(table)] == older[: _key(table)]), None)
        old, new = dice.choice([*[(row, changed)] * 6, (now, older), (row, None), (None, made_up)])
        return Change(table, old, new, _differing(names, old, new), whole)

    def _took(self, change: Change) -> bool:
        """Whether the database took this change."""
        # SQLite gives a number to a row that has none.
        if change.old == change.new or (change.new is not None and change.new[0] is None):
            return False
        try:
            self._turn(change.table, change.old, change.new)
        except (sqlite3.Error, psycopg.Error):
            return False
        return True

    def _turn(self, table: str, old: Row | None, new: Row | None) -> None:
        """Make a row another one; None stands for no row."""
        with self._whole():
            if old is not None:
                self.delete(table, old)
            if new is not None:
                self.insert(table, new)

    def undo(self, change: Change, reading: Reading) -> bool:
        """Put the row back; what capx has written into it since stays. False if something else is in its place."""
        old, new = change.old, change.new
        rows, key = self.rows(change.table), _key(change.table)
        if new is None and old is not None and "nth" in change.columns:
            # Another row may have taken its number since.
            old = (max(row[0] for row in [(0,), *rows]) + 1, *old[1:])
        elif old is not None and new is not None:
            (now,) = [row for row in rows if row[:key] == new[:key]]
            old = tuple(was if is_ == put else is_ for was, put, is_ in zip(old, new, now, strict=True))
            new = now
        try:
            self._turn(change.table, new, old)
        except (sqlite3.Error, psycopg.Error):
            return False
        if change.table == "tasks" and old is not None:
            self._end_as_logged(str(old[self.columns("tasks").index("id")]), reading)
        return True

    def _end_as_logged(self, task: str, reading: Reading) -> None:
        # While its row was another, the end of the task could not be written there.
        ends = [
            (event.position, event.at, state)
            for state, fact in TASK_ENDS.items()
            for event in reading.events(task=task, kind=fact.kind)
        ]
        position, ended, state = max(ends, default=(None, None, FIRST))
        self.do("UPDATE tasks SET state = ?, ended = ?, position = ? WHERE id = ?", state, ended, position, task)

    @contextlib.contextmanager
    def _whole(self) -> Generator[None]:
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _key(table: str) -> int:
    """How many of the first columns tell the rows of a table apart."""
    return 3 if table in {"request_nodes", "paid"} else 2


def others(at: int, row: Row, rows: Rows) -> list[Any]:
    """What somebody may write into one column of a row: what other rows have there, nothing, or another number."""
    known = [one[at] for one in rows if one[at] != row[at]][:2]
    made_up: list[Any] = [None]
    if isinstance(row[at], int):
        made_up += [row[at] + 1, row[at] - 1, 0]
    return [*known, *made_up]


def _differing(names: list[str], old: Row | None, new: Row | None) -> frozenset[str]:
    if old is None or new is None:
        return frozenset(names)
    return frozenset(name for name, was, is_ in zip(names, old, new, strict=True) if was != is_)


def _another(value: Any) -> Any:
    if isinstance(value, int):
        return value + 1_000
    return urandom(len(value)) if isinstance(value, bytes) else value and b64u(urandom(16))


def _in_order(rows: Rows, log: str) -> Rows:
    """The rows in an order that is the same each time that the same happens, whatever ids there are."""

    def place(value: Any) -> int:
        if isinstance(value, int):
            return value
        return log.find(b64u(value) if isinstance(value, bytes) else str(value))

    return sorted(rows, key=lambda row: list(map(place, row)))
