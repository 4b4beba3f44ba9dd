"""Reads and writes the rows of a SQLite store within one transaction.

Law: forgotten presentations count as burnt. If the store may have cleared a presentation away already, it is not new.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import chain
from typing import Any

from capx.crypto.base64url import b64u
from capx.store.decision_index import Block
from capx.store.events import GivenBack
from capx.store.log import Event
from capx.store.records import (
    GIVEN_BACK,
    NOTHING_PAID,
    PAID_ELSEWHERE,
    REVOCATIONS,
    Burn,
    Counter,
    Damaged,
    DecisionRecord,
    Unwritable,
)
from capx.store.row_marks import RowGuard
from capx.store.sql.rows import SqlRows
from capx.tokens.binding import CLOCKS_APART, OPEN_WINDOWS
from capx.tokens.revocation_key import RevocationKey
from capx.verify.meter import Paid, Payer, Spend, Tally
from capx_caveats import is_amount, plus, rest_of, shown_amount

_FORGET_EVERY = 60
# The most values of one query: older builds of SQLite take 999.
_MOST_VALUES = 500

_COUNTER = "SELECT counter, unit, spent, last FROM counters"


class Rows(SqlRows):
    """Reads and writes the rows of a store within one SQLite transaction."""

    nth = "rowid"
    select_event = "SELECT position, at, kind, CAST(body AS BLOB), hash FROM events"
    # The second condition follows from the first one. It repeats the condition of the partial index `of_task`, so that
    # no version of SQLite has to work out that the index fits.
    of_task = "json_extract(body, '$.task') = ? AND json_extract(body, '$.task') IS NOT NULL"
    event_task = "json_extract(body, '$.task')"
    nonces_of = "CASE json_type(body, '$.nonces') WHEN 'array' THEN json_extract(body, '$.nonces') END"
    without_body = (
        "body = json_object('archived', json('true'), 'id', json_extract(body, '$.id'), "
        "'audience', json_extract(body, '$.audience'))"
    )
    with_text = "instr(body, ?) > 0"
    of_task_alone = "json_extract(body, '$.task') = ?"
    by_mints = " INDEXED BY minted_in_task"
    of_decision = "json_extract(body, '$.id') = ?"
    of_capability = "json_extract(body, '$.ids[1]') = ?"
    of_request = "json_extract(e.body, '$.request')"
    plain = "+"
    task_of = "json_extract(e.body, '$.task')"
    of_intent = "json_extract(e.body, '$.intent')"
    select_death = "SELECT seq, key, reason, at, position FROM deaths"
    # A range and not LIKE, so that the index of the keys is used; `;` is the character after `:`.
    select_instants = "SELECT key FROM deaths WHERE key >= 'issued:' AND key < 'issued;'"
    forget_deaths = "DELETE FROM deaths WHERE seq <= ? AND NOT (typeof(key) = 'text' AND key GLOB 'kid:*')"
    forget_paid = "DELETE FROM paid WHERE at < ?"
    # 22 characters are OF_ONE_TASK. Other names may be shared.
    forget_counters = "DELETE FROM counters WHERE last < ? AND length(counter) = 22"

    def __init__(self, connection: sqlite3.Connection, guard: RowGuard | None = None) -> None:
        self._db = connection
        self._guard = guard
        self._head = self._written = None

    def counters(self, ids: Sequence[str] | None = None) -> list[Counter]:
        if ids is None:
            rows: Iterable[Any] = self._rows(f"{_COUNTER} ORDER BY counter, unit")
        else:
            rows = [row for id_ in sorted(set(ids)) for row in self._rows(f"{_COUNTER} WHERE counter = ?", id_)]
        return [Counter(counter, unit, _amount(spent), last) for counter, unit, spent, last in rows]

    def count_revocation(self, task: str, node: bytes, *, now: int) -> tuple[int, int]:
        self._db.execute("UPDATE tasks SET revocations = revocations + 1 WHERE id = ?", (task,))
        of_task = self._row("SELECT revocations FROM tasks WHERE id = ?", task)
        of_node = plus(self._spent(b64u(node), REVOCATIONS), Decimal(1))
        self._keep_spent(b64u(node), REVOCATIONS, of_node, now)
        return int(of_node), 0 if of_task is None else int(of_task[0])

    def burn_all(
        self, presented: Sequence[tuple[bytes, int]], now: int, remembered: tuple[bytes, int] | None
    ) -> tuple[Burn, ...]:
        forgotten = self._forgotten(now)
        known = True
        # An id whose window was cleared away is not in the table, and says nothing about a loss. For the same reason a
        # presentation with such a window is not new: it may have been used, and cleared away since.
        if remembered is not None and remembered[1] >= forgotten:
            known = self._row("SELECT 1 FROM burnt WHERE presentation = ?", remembered[0]) is not None
        return tuple([Burn(until >= forgotten and self._is_new(id_, until), known) for id_, until in presented])

    def _is_new(self, presentation: bytes, until: int) -> bool:
        inserted = self._db.execute("INSERT INTO burnt VALUES (?, ?) ON CONFLICT DO NOTHING", (presentation, until))
        return inserted.rowcount == 1

    def spend(self, payer: Payer, spends: Sequence[Spend], now: int) -> Tally:
        self._demand_may_pay(payer)
        before = [self._paid(payer, spend) for spend in spends]
        paid = [cost or Decimal(0) for cost in before]
        others = [rest_of(self._spent(one.counter, one.unit), cost) for one, cost in zip(spends, paid, strict=True)]
        costs = [max(one.cost, cost) for one, cost in zip(spends, paid, strict=True)]
        totals = list(map(plus, others, costs))
        # All counters are checked before any is written, so a call that exceeds one budget costs nothing. A cost that
        # was paid before passed this check then. It still passes, even if presentations with higher limits have spent
        # more since.
        exhausted = [nth for nth, spend in enumerate(spends) if costs[nth] != before[nth] and totals[nth] > spend.limit]
        if exhausted:
            return Tally(tuple(others), tuple(exhausted))
        for spend, cost, total in zip(spends, costs, totals, strict=True):
            self._keep_spent(spend.counter, spend.unit, total, now)
            self._db.execute(
                "INSERT INTO paid VALUES (?, ?, ?, ?, ?, ?, ?, NULL) ON CONFLICT (presentation, counter, unit) "
                "DO UPDATE SET cost = excluded.cost, at = max(at, excluded.at)",
                (
                    payer.presentation,
                    spend.counter,
                    spend.unit,
                    payer.admission,
                    payer.audience,
                    format(cost, "f"),
                    now,
                ),
            )
        return Tally(tuple(totals))

    def give_back(self, payer: Payer, decision: str, reason: str, now: int) -> tuple[Paid, ...]:
        query = (
            "SELECT counter, unit, cost, given FROM paid WHERE presentation = ? AND admission = ? AND audience = ? "
            "ORDER BY counter, unit"
        )
        rows = self._rows(query, payer.presentation, payer.admission, payer.audience)
        if not rows:
            raise Unwritable(NOTHING_PAID)
        paid = tuple([Paid(counter, unit, _amount(cost)) for counter, unit, cost, _ in rows])
        if any(given is not None for *_, given in rows):
            return paid
        for one in paid:
            left = rest_of(self._spent(one.counter, one.unit), one.cost)
            self._keep_spent(one.counter, one.unit, left, now)
        self._db.execute(
            "UPDATE paid SET given = ?, at = max(at, ?) WHERE presentation = ?", (now, now, payer.presentation)
        )
        minted = self.minted(b64u(payer.capability))
        GivenBack(
            task=None if minted is None else minted.facts().get("task"),
            audience=payer.audience,
            decision=decision,
            presentation=b64u(payer.presentation),
            given=paid,
            reason=reason,
        ).write(self, at=now)
        return paid

    def spent(self, counters: Sequence[tuple[str, str]]) -> tuple[Decimal, ...]:
        return tuple([self._spent(counter, unit) for counter, unit in counters])

    def record(self, decisions: Sequence[DecisionRecord]) -> None:
        for one in decisions:
            # A decision is identified by its audience and its id. By the id only, one audience could use up the ids of
            # another one, and so keep its decisions out of the log.
            there = self._row(
                "SELECT 1 FROM events WHERE kind = 'decision' AND json_extract(body, '$.id') = ? "
                "AND json_extract(body, '$.audience') IS json_extract(?, '$.audience')",
                one.id,
                one.body.decode(),
            )
            if there is None:
                self.append("decision", one.body, at=one.at)

    def sighted(self, follower: str, deaths: int, now: int) -> None:
        self._db.execute(
            "INSERT INTO sightings VALUES (?, ?, ?) ON CONFLICT (follower) "
            "DO UPDATE SET deaths = excluded.deaths, at = excluded.at",
            (follower, deaths, now),
        )

    def _execute(self, query: str, *values: object) -> sqlite3.Cursor:
        # SQLite has no schema `capx`: its tables go without a prefix.
        return self._db.execute(query.replace("capx.", ""), values)

    def _put_blocks(self, blocks: Sequence[Block]) -> None:
        rows = sorted((value, block.number) for block in blocks for value in block.values)
        self._db.executemany("INSERT INTO found_in VALUES (?, ?) ON CONFLICT DO NOTHING", rows)
        self._put_all("blocks", ((block.number, block.latest) for block in blocks))

    def _put_all(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        rest = iter(rows)
        if (first := next(rest, None)) is not None:
            # Keys come in no order: with its own 2 MB, SQLite would write and read the pages of their index many times.
            self._db.execute("PRAGMA cache_size = -16000")
            places = ", ".join("?" for _ in first)
            self._db.executemany(f"INSERT INTO {table} VALUES ({places})", chain([first], rest))  # noqa: S608 - a table of ours

    def _key_column(self, key: RevocationKey) -> str:  # noqa: ARG002 - one column holds all kinds of keys
        return "key"

    def _death_rows(self, keys: Sequence[RevocationKey]) -> list[Any]:
        return self._rows_among(f"{self.select_death} WHERE key {{among}}", keys)

    def _rows_among(self, query: str, keys: Sequence[RevocationKey]) -> list[Any]:
        parts = (keys[at : at + _MOST_VALUES] for at in range(0, len(keys), _MOST_VALUES))
        return [row for part in parts for row in self._rows(query.format(among=_among(part)), *part)]

    def _event_row(self, event: Event) -> tuple[Any, ...]:
        return event.position, event.at, event.kind, event.body.decode(), event.hash

    def _counter_row(self, counter: Counter) -> tuple[Any, ...]:
        return counter.counter, counter.unit, shown_amount(counter.spent), counter.last

    def _spent(self, counter: str, unit: str) -> Decimal:
        row = self._row("SELECT spent FROM counters WHERE counter = ? AND unit = ?", counter, unit)
        return Decimal(0) if row is None else _amount(row[0])

    def _keep_spent(self, counter: str, unit: str, total: Decimal, now: int) -> None:
        self._db.execute(
            "INSERT INTO counters VALUES (?, ?, ?, ?) ON CONFLICT (counter, unit) "
            "DO UPDATE SET spent = excluded.spent, last = max(last, excluded.last)",
            (counter, unit, format(total, "f"), now),
        )

    def _demand_may_pay(self, payer: Payer) -> None:
        row = self._row("SELECT admission, given FROM paid WHERE presentation = ? LIMIT 1", payer.presentation)
        if row is not None and row[0] != payer.admission:
            raise Unwritable(PAID_ELSEWHERE)
        # All rows of a presentation are given back together.
        if row is not None and row[1] is not None:
            raise Unwritable(GIVEN_BACK)

    def _paid(self, payer: Payer, spend: Spend) -> Decimal | None:
        """The amount that this presentation has paid into this counter; None if it has not paid."""
        query = "SELECT cost FROM paid WHERE presentation = ? AND counter = ? AND unit = ?"
        row = self._row(query, payer.presentation, spend.counter, spend.unit)
        return None if row is None else _amount(row[0])

    def _forgotten(self, now: int) -> int:
        """Clear old presentations away when it is time; gives the second before which windows may be forgotten."""
        row = self._row("SELECT until FROM forgotten")
        before: int = row[0] if row else 0
        forgotten = before
        # The window of a presentation may still be open for a process whose clock is behind this one.
        passed = now - CLOCKS_APART
        # Not at every call: one deletion in a minute costs less than one for each presentation.
        if passed >= before + _FORGET_EVERY:
            forgotten = passed
            self._db.execute("DELETE FROM burnt WHERE until < ?", (passed,))
        elif before > now + OPEN_WINDOWS:
            # A clock was ahead, and nobody knows which open windows it cleared away. All windows that are open now at
            # any process end before now + OPEN_WINDOWS, so after that time nothing can be missing.
            forgotten = now + OPEN_WINDOWS
        if forgotten != before:
            self._db.execute("UPDATE forgotten SET until = ?", (forgotten,))
        return forgotten


def _among(keys: Sequence[object]) -> str:
    return f"IN ({', '.join('?' for _ in keys)})"


def _amount(text: object) -> Decimal:
    # Strict, because Decimal itself accepts NaN, signs and exponents, which capx never writes.
    if not isinstance(text, str) or not is_amount(text):
        raise Damaged(f"a counter of the store holds {text!a:.40}, which is not an amount: restore it from a backup")
    return Decimal(text)
