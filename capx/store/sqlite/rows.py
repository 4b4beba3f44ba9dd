"""The rows of a SQLite store, read and written within one transaction.

Law: what was forgotten counts as burnt: a presentation whose window may already have been cleared away is not new.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from capx.crypto.base64url import b64u
from capx.store.lifecycle import State
from capx.store.log import Event, following
from capx.store.protocols import Reading
from capx.store.records import (
    REVOCATIONS,
    Burn,
    Counter,
    Damaged,
    Death,
    DecisionRecord,
    FollowerAck,
    Head,
    Pruned,
    TaskRecord,
)
from capx.store.restore_checks import demand_empty, whole_deaths, whole_log
from capx.store.sqlite.request_rows import RequestRows
from capx.tokens.binding import WINDOW_AFTER, WINDOW_BEFORE
from capx.tokens.chain import root_node
from capx.tokens.revocation_key import RevocationKey, revoked_until
from capx.verify.meter import Spend, Tally
from capx_caveats import is_amount, plus

_PAGE = 1_000
_LAST = 2**63 - 1
_FORGET_EVERY = 60
# No window that is open now reaches this far ahead.
_WINDOW = WINDOW_AFTER + WINDOW_BEFORE + 1

_TASK = "SELECT id, root, opened, expires, tenant, purpose, state, ended, position, principal, intent FROM tasks"
_EVENT = "SELECT position, at, kind, CAST(body AS BLOB), hash FROM events"
_DEATH = "SELECT seq, key, reason, at, position FROM deaths"
_COUNTER = "SELECT counter, unit, spent, last FROM counters"


class Rows(RequestRows):
    """Reading and writing within one SQLite transaction."""

    def head(self) -> Head:
        row = self._row("SELECT epoch, position, hash, deaths, forgotten FROM head")
        if row is None:
            raise Damaged("the store has lost its head: restore it from a backup")
        return Head(*row)

    def task(self, id_: str) -> TaskRecord | None:
        row = self._row(f"{_TASK} WHERE id = ?", id_)
        return row and TaskRecord(*row)

    def rooted(self, node: bytes) -> TaskRecord | None:
        row = self._row(f"{_TASK} WHERE node = ?", node)
        return row and TaskRecord(*row)

    def tasks(self) -> list[TaskRecord]:
        return [TaskRecord(*row) for row in self._db.execute(f"{_TASK} ORDER BY rowid").fetchall()]

    def overdue(self, now: int, limit: int) -> list[TaskRecord]:
        query = f"{_TASK} WHERE state = 'active' AND expires <= ? ORDER BY expires LIMIT ?"
        return [TaskRecord(*row) for row in self._rows(query, now, limit)]

    def oldest_unexpired(self, now: int) -> TaskRecord | None:
        row = self._row(f"{_TASK} WHERE expires > ? ORDER BY rowid LIMIT 1", now)
        return row and TaskRecord(*row)

    def active(self) -> int:
        (count,) = self._row("SELECT count(*) FROM tasks WHERE state = 'active'")
        return int(count)

    def death(self, key: RevocationKey) -> Death | None:
        row = self._row(f"{_DEATH} WHERE key = ?", key)
        return row and Death(*row)

    def deaths(self, *, after: int = 0) -> Iterator[Death]:
        while rows := self._rows(f"{_DEATH} WHERE seq > ? ORDER BY seq LIMIT ?", after, _PAGE):
            yield from (Death(*row) for row in rows)
            after = rows[-1][0]

    def revoked_until(self) -> int:
        return revoked_until(
            key for (key,) in self._rows("SELECT key FROM deaths WHERE key >= 'issued:' AND key < 'issued;'")
        )

    def events(
        self, *, after: int = 0, limit: int | None = None, task: str | None = None, kind: str | None = None
    ) -> Iterator[Event]:
        condition, values = _narrowed(task, kind)
        # By pages: a cursor that its reader left half-way would hold the connection to an old instant.
        while limit is None or limit > 0:
            page = _PAGE if limit is None else min(limit, _PAGE)
            query = f"{_EVENT} WHERE position > ?{condition} ORDER BY position LIMIT ?"
            rows = self._rows(query, after, *values, page)
            if not rows:
                return
            yield from (Event(*row) for row in rows)
            after = rows[-1][0]
            limit = None if limit is None else limit - len(rows)

    def decision(self, id_: str) -> Event | None:
        row = self._row(f"{_EVENT} WHERE kind = 'decision' AND json_extract(body, '$.id') = ? ORDER BY position", id_)
        return row and Event(*row)

    def counters(self, ids: Sequence[str] | None = None) -> list[Counter]:
        if ids is None:
            rows: Iterable[Any] = self._rows(f"{_COUNTER} ORDER BY counter, unit")
        else:
            rows = [row for id_ in sorted(set(ids)) for row in self._rows(f"{_COUNTER} WHERE counter = ?", id_)]
        return [Counter(counter, unit, _amount(spent), last) for counter, unit, spent, last in rows]

    def follower_acks(self) -> list[FollowerAck]:
        return [FollowerAck(*row) for row in self._rows("SELECT follower, deaths, at FROM sightings ORDER BY follower")]

    def append(self, kind: str, body: bytes, *, at: int) -> Event:
        event = following(self.head().place, at=at, kind=kind, body=body)
        self._put(event)
        self._db.execute("UPDATE head SET position = ?, hash = ?", (event.position, event.hash))
        return event

    def open_task(self, task: TaskRecord) -> None:
        self._db.execute(
            "INSERT INTO tasks (id, root, opened, expires, tenant, purpose, state, ended, position, principal, intent, "
            "node) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*msgspec.structs.astuple(task), root_node(task.root)),
        )

    def end_task(self, id_: str, state: State, *, at: int, position: int) -> None:
        self._db.execute(
            "UPDATE tasks SET state = ?, ended = ?, position = ? WHERE id = ? AND state = 'active'",
            (state, at, position, id_),
        )

    def count_revocation(self, task: str, node: bytes, *, now: int) -> tuple[int, int]:
        self._db.execute("UPDATE tasks SET revocations = revocations + 1 WHERE id = ?", (task,))
        of_task = self._row("SELECT revocations FROM tasks WHERE id = ?", task)
        of_node = self.spend([Spend(b64u(node), REVOCATIONS, Decimal(1), Decimal(1_000_000_000))], now).totals
        return int(of_node[0]), 0 if of_task is None else int(of_task[0])

    def kill(self, key: RevocationKey, reason: str, *, at: int, position: int) -> Death:
        if first := self.death(key):
            return first
        death = Death(self.head().deaths + 1, key, reason, at, position)
        self._db.execute("INSERT INTO deaths VALUES (?, ?, ?, ?, ?)", msgspec.structs.astuple(death))
        self._db.execute("UPDATE head SET deaths = ?", (death.seq,))
        return death

    def forget(self, before: int, *, below: int | None = None) -> Pruned:
        forgotten, deaths = self.head().forgotten, self.head().deaths
        first_kept = self._row(
            "SELECT seq FROM deaths WHERE seq > ? AND (at >= ? OR position >= ?) ORDER BY seq LIMIT 1",
            forgotten,
            before,
            _LAST if below is None else below,
        )
        up_to = deaths if first_kept is None else first_kept[0] - 1
        self._db.execute(
            "DELETE FROM deaths WHERE seq <= ? AND NOT (typeof(key) = 'text' AND key GLOB 'kid:*')", (up_to,)
        )
        self._db.execute("UPDATE head SET forgotten = ?", (up_to,))
        counters = self._db.execute("DELETE FROM counters WHERE last < ? AND length(counter) = 22", (before,)).rowcount
        sightings = self._db.execute("DELETE FROM sightings WHERE at < ?", (before,)).rowcount
        return Pruned(up_to - forgotten, counters, sightings, self._forget_requests(before))

    def begin_epoch(self, epoch: str) -> None:
        self._db.execute("UPDATE head SET epoch = ?", (epoch,))

    def adopt(self, reading: Reading) -> None:
        demand_empty(self)
        for event in whole_log(reading):
            self._put(event)
        for task in reading.tasks():
            self.open_task(task)
        for intent in reading.intents():
            self.keep_intent(intent)
        deaths = map(msgspec.structs.astuple, whole_deaths(reading))
        self._db.executemany("INSERT INTO deaths VALUES (?, ?, ?, ?, ?)", deaths)
        for held in reading.counters():
            self._db.execute(
                "INSERT INTO counters VALUES (?, ?, ?, ?)",
                (held.counter, held.unit, format(held.spent, "f"), held.last),
            )
        head = reading.head()
        self._db.execute(
            "UPDATE head SET epoch = ?, position = ?, hash = ?, deaths = ?, forgotten = ?",
            msgspec.structs.astuple(head),
        )

    def burn(self, presentation: bytes, until: int, now: int, remembered: tuple[bytes, int] | None) -> Burn:
        forgotten = self._forgotten(now)
        known = True
        if remembered is not None and remembered[1] >= forgotten:
            known = self._row("SELECT 1 FROM burnt WHERE presentation = ?", remembered[0]) is not None
        if until < forgotten:
            return Burn(False, known)
        inserted = self._db.execute("INSERT INTO burnt VALUES (?, ?) ON CONFLICT DO NOTHING", (presentation, until))
        return Burn(inserted.rowcount == 1, known)

    def spend(self, spends: Sequence[Spend], now: int) -> Tally:
        before = [self._spent(spend.counter, spend.unit) for spend in spends]
        after = tuple([plus(held, spend.cost) for held, spend in zip(before, spends, strict=True)])
        exhausted = tuple([at for at, spend in enumerate(spends) if after[at] > spend.limit])
        if exhausted:
            return Tally(tuple(before), exhausted)
        for spend, total in zip(spends, after, strict=True):
            self._db.execute(
                "INSERT INTO counters VALUES (?, ?, ?, ?) ON CONFLICT (counter, unit) "
                "DO UPDATE SET spent = excluded.spent, last = max(last, excluded.last)",
                (spend.counter, spend.unit, format(total, "f"), now),
            )
        return Tally(after)

    def spent(self, counters: Sequence[tuple[str, str]]) -> tuple[Decimal, ...]:
        return tuple([self._spent(counter, unit) for counter, unit in counters])

    def record(self, decisions: Sequence[DecisionRecord]) -> None:
        for one in decisions:
            # Known by its audience and its id, so that an id that another audience took first hides none.
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

    def _put(self, event: Event) -> None:
        self._db.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?)",
            (event.position, event.at, event.kind, event.body.decode(), event.hash),
        )

    def _spent(self, counter: str, unit: str) -> Decimal:
        row = self._row("SELECT spent FROM counters WHERE counter = ? AND unit = ?", counter, unit)
        return Decimal(0) if row is None else _amount(row[0])

    def _forgotten(self, now: int) -> int:
        """Up to which end of their windows presentations may be forgotten; they are cleared away when due."""
        row = self._row("SELECT until FROM forgotten")
        before: int = row[0] if row else 0
        forgotten = before
        if now >= before + _FORGET_EVERY:
            forgotten = now
            self._db.execute("DELETE FROM burnt WHERE until < ?", (now,))
        elif before > now + _WINDOW:
            # A clock was ahead, and what it cleared away is unknown. All that was presented so far ends before this.
            forgotten = now + _WINDOW
        if forgotten != before:
            self._db.execute("UPDATE forgotten SET until = ?", (forgotten,))
        return forgotten


def _amount(text: object) -> Decimal:
    if not isinstance(text, str) or not is_amount(text):
        raise Damaged(f"a counter of the store holds {text!a:.40}, which is no amount: restore it from a backup")
    return Decimal(text)


def _narrowed(task: str | None, kind: str | None) -> tuple[str, list[str]]:
    condition, values = "", list[str]()
    if task is not None:
        condition += " AND json_extract(body, '$.task') = ? AND json_extract(body, '$.task') IS NOT NULL"
        values.append(task)
    if kind is not None:
        # Said twice, so that the index of all that is no decision is used.
        condition += " AND kind = ?" if kind == "decision" else " AND kind = ? AND kind <> 'decision'"
        values.append(kind)
    return condition, values
