"""The rows of a PostgreSQL store, read and written within one transaction.

Law: the row of the head is read first, by a writer for update, and written last, once: what a transaction changed in it
stands in `Rows` until then.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import psycopg
from msgspec import Struct, structs

from capx.crypto.base64url import b64u
from capx.store.lifecycle import State
from capx.store.log import Event, following
from capx.store.postgres.connection import Link
from capx.store.postgres.request_rows import RequestRows
from capx.store.protocols import Reading
from capx.store.records import REVOCATIONS, Counter, Damaged, Death, FollowerAck, Head, Pruned, TaskRecord, Unwritable
from capx.store.restore_checks import demand_empty, whole_deaths, whole_log
from capx.tokens.chain import root_node
from capx.tokens.revocation_key import RevocationKey, revoked_until

CHANNEL = "capx"
"""Where followers are woken when something has died."""

_PAGE = 1_000
_LAST = 2**63 - 1
_HEAD = "SELECT epoch, position, hash, deaths, forgotten FROM capx.head"
READ = f"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; {_HEAD}"
# Whoever waits in the middle of a transaction is alone with the log: no process that hangs may keep that up for ever.
WRITE = (
    f"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = '15s'; {_HEAD} FOR UPDATE"
)

_TASK = "SELECT id, root, opened, expires, tenant, purpose, state, ended, position, principal, intent FROM capx.tasks"
_EVENT = "SELECT position, at, kind, body, hash FROM capx.events"
_DEATH = "SELECT seq, id, name, reason, at, position FROM capx.deaths"
_COUNTER = "SELECT counter, unit, spent, last FROM capx.counters"


class Rows(RequestRows):
    """Reading and writing within one transaction, whose first statement gave the row of the head."""

    def __init__(self, link: Link, head: tuple[Any, ...] | None) -> None:
        if head is None:
            raise Damaged("the store has lost its head: restore it from a backup")
        super().__init__(link)
        self._head = self._written = Head(*head)
        self._wake = False

    def head(self) -> Head:
        return self._head

    def task(self, id_: str) -> TaskRecord | None:
        row = self._row(f"{_TASK} WHERE id = %s", id_)
        return row and TaskRecord(*row)

    def rooted(self, node: bytes) -> TaskRecord | None:
        row = self._row(f"{_TASK} WHERE node = %s", node)
        return row and TaskRecord(*row)

    def tasks(self) -> list[TaskRecord]:
        return [TaskRecord(*row) for row in self._rows(f"{_TASK} ORDER BY nth")]

    def overdue(self, now: int, limit: int) -> list[TaskRecord]:
        query = f"{_TASK} WHERE state = 'active' AND expires <= %s ORDER BY expires LIMIT %s"
        return [TaskRecord(*row) for row in self._rows(query, now, limit)]

    def oldest_unexpired(self, now: int) -> TaskRecord | None:
        row = self._row(f"{_TASK} WHERE expires > %s ORDER BY nth LIMIT 1", now)
        return row and TaskRecord(*row)

    def active(self) -> int:
        (count,) = self._row("SELECT count(*) FROM capx.tasks WHERE state = 'active'")
        return int(count)

    def death(self, key: RevocationKey) -> Death | None:
        row = self._row(f"{_DEATH} WHERE {_column(key)} = %s", key)
        return row and _death(row)

    def deaths(self, *, after: int = 0) -> Iterator[Death]:
        while rows := self._rows(f"{_DEATH} WHERE seq > %s ORDER BY seq LIMIT %s", after, _PAGE):
            yield from map(_death, rows)
            after = rows[-1][0]

    def revoked_until(self) -> int:
        rows = self._rows("SELECT name FROM capx.deaths WHERE name >= 'issued:' AND name < 'issued;'")
        return revoked_until(key for (key,) in rows)

    def events(
        self, *, after: int = 0, limit: int | None = None, task: str | None = None, kind: str | None = None
    ) -> Iterator[Event]:
        condition, values = _narrowed(task, kind)
        # By pages, so that a long log is never in memory as a whole.
        while limit is None or limit > 0:
            page = _PAGE if limit is None else min(limit, _PAGE)
            query = f"{_EVENT} WHERE position > %s{condition} ORDER BY position LIMIT %s"
            rows = self._rows(query, after, *values, page)
            if not rows:
                return
            yield from map(_event, rows)
            after = rows[-1][0]
            limit = None if limit is None else limit - len(rows)

    def decision(self, id_: str) -> Event | None:
        row = self._row(f"{_EVENT} WHERE kind = 'decision' AND decision = %s ORDER BY position LIMIT 1", id_)
        return row and _event(row)

    def counters(self, ids: Sequence[str] | None = None) -> list[Counter]:
        narrowed, values = ("", ()) if ids is None else (" WHERE counter = ANY (%s::text[])", (list(ids),))
        return [Counter(*row) for row in self._rows(f"{_COUNTER}{narrowed} ORDER BY counter, unit", *values)]

    def follower_acks(self) -> list[FollowerAck]:
        rows = self._rows("SELECT follower, deaths, at FROM capx.sightings ORDER BY follower")
        return [FollowerAck(*row) for row in rows]

    def append(self, kind: str, body: bytes, *, at: int) -> Event:
        event = following(self._head.place, at=at, kind=kind, body=body)
        self._db.execute("INSERT INTO capx.events VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", _event_row(event))
        self._head = structs.replace(self._head, position=event.position, hash=event.hash)
        return event

    def open_task(self, task: TaskRecord) -> None:
        self._db.execute(
            "INSERT INTO capx.tasks VALUES ((SELECT coalesce(max(nth), 0) + 1 FROM capx.tasks), "
            "%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (*structs.astuple(task), root_node(task.root)),
        )

    def end_task(self, id_: str, state: State, *, at: int, position: int) -> None:
        self._db.execute(
            "UPDATE capx.tasks SET state = %s, ended = %s, position = %s WHERE id = %s AND state = 'active'",
            (state, at, position, id_),
        )

    def count_revocation(self, task: str, node: bytes, *, now: int) -> tuple[int, int]:
        of_task = self._row(
            "UPDATE capx.tasks SET revocations = revocations + 1 WHERE id = %s RETURNING revocations", task
        )
        (of_node,) = self._row(
            "INSERT INTO capx.counters AS held VALUES (%s, %s, 1, %s) ON CONFLICT (counter, unit) "
            "DO UPDATE SET spent = held.spent + 1, last = greatest(held.last, excluded.last) RETURNING spent",
            b64u(node),
            REVOCATIONS,
            now,
        )
        return int(of_node), 0 if of_task is None else int(of_task[0])

    def kill(self, key: RevocationKey, reason: str, *, at: int, position: int) -> Death:
        if first := self.death(key):
            return first
        death = Death(self._head.deaths + 1, key, reason, at, position)
        self._db.execute("INSERT INTO capx.deaths VALUES (%s, %s, %s, %s, %s, %s)", _death_row(death))
        self._head = structs.replace(self._head, deaths=death.seq)
        self._wake = True
        return death

    def forget(self, before: int, *, below: int | None = None) -> Pruned:
        forgotten, deaths = self._head.forgotten, self._head.deaths
        query = "SELECT seq FROM capx.deaths WHERE seq > %s AND (at >= %s OR position >= %s) ORDER BY seq LIMIT 1"
        with self._db.patient():
            first_kept = self._row(query, forgotten, before, _LAST if below is None else below)
            up_to = deaths if first_kept is None else first_kept[0] - 1
            self._db.execute("DELETE FROM capx.deaths WHERE seq <= %s AND (name LIKE 'kid:%%') IS NOT TRUE", (up_to,))
            # What is being spent from just now is not forgotten; to wait for it could mean to wait for each other.
            counters = self._db.execute(
                "DELETE FROM capx.counters c USING (SELECT counter, unit FROM capx.counters WHERE last < %s "
                "AND length(counter) = 22 "
                "FOR UPDATE SKIP LOCKED) AS old WHERE c.counter = old.counter AND c.unit = old.unit",
                (before,),
            ).rowcount
            sightings = self._db.execute("DELETE FROM capx.sightings WHERE at < %s", (before,)).rowcount
            requests = self._forget_requests(before)
        self._head = structs.replace(self._head, forgotten=up_to)
        self._wake = self._wake or up_to > forgotten
        return Pruned(up_to - forgotten, counters, sightings, requests)

    def begin_epoch(self, epoch: str) -> None:
        self._head = structs.replace(self._head, epoch=epoch)
        self._wake = True

    def adopt(self, reading: Reading) -> None:
        demand_empty(self)
        with self._db.patient():
            events = map(_event_row, whole_log(reading))
            self._copy("events (position, at, kind, body, hash, decision, audience, task)", events)
            for task in reading.tasks():
                self.open_task(task)
            for intent in reading.intents():
                self.keep_intent(intent)
            self._copy("deaths (seq, id, name, reason, at, position)", map(_death_row, whole_deaths(reading)))
            self._copy("counters (counter, unit, spent, last)", map(structs.astuple, reading.counters()))
        self._head, self._wake = reading.head(), True

    def keep_head(self) -> None:
        """Write what changed in the head."""
        if self._head != self._written:
            self._db.execute(
                "UPDATE capx.head SET epoch = %s, position = %s, hash = %s, deaths = %s, forgotten = %s",
                structs.astuple(self._head),
            )

    def wake(self) -> None:
        """Wake followers once the transaction is kept, if it is for them.

        It may fail, as it does while anybody's session keeps the server's queue of notifications full: they look by
        themselves too. It need not be on the disk.
        """
        if self._wake:
            with contextlib.suppress(psycopg.Error):
                self._db.execute("SELECT set_config('synchronous_commit', 'off', true), pg_notify(%s, '')", (CHANNEL,))

    def _copy(self, target: str, rows: Iterable[tuple[Any, ...]]) -> None:
        with self._db.cursor().copy(f"COPY capx.{target} FROM STDIN".encode()) as copy:
            for row in rows:
                copy.write_row(row)


class _Named(Struct):
    """What is looked for in bodies."""

    id: Any = None
    audience: Any = None
    task: Any = None


def text(body: bytes) -> str:
    """The body of an event as text; Unwritable if it is none."""
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Unwritable(f"the store cannot hold this: {error}") from error


def _event(row: Any) -> Event:
    position, at, kind, body, hash_ = row
    return Event(position, at, kind, body.encode(), hash_)


def _event_row(event: Event) -> tuple[object, ...]:
    try:
        named = msgspec.json.decode(event.body, type=_Named)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unwritable(f"the store cannot hold this: {error}") from error
    decided = event.kind == "decision"
    decision, audience = (_named(named.id), _named(named.audience)) if decided else (None, None)
    return event.position, event.at, event.kind, text(event.body), event.hash, decision, audience, _named(named.task)


def _named(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _death(row: Any) -> Death:
    seq, id_, name, reason, at, position = row
    return Death(seq, name if id_ is None else id_, reason, at, position)


def _death_row(death: Death) -> tuple[object, ...]:
    id_, name = (death.key, None) if isinstance(death.key, bytes) else (None, death.key)
    return death.seq, id_, name, death.reason, death.at, death.position


def _column(key: RevocationKey) -> str:
    return "id" if isinstance(key, bytes) else "name"


def _narrowed(task: str | None, kind: str | None) -> tuple[str, list[str]]:
    condition, values = "", list[str]()
    if task is not None:
        condition += " AND task = %s"
        values.append(task)
    if kind is not None:
        # Said twice, so that the index of all that is no decision is used.
        condition += " AND kind = %s" if kind == "decision" else " AND kind = %s AND kind <> 'decision'"
        values.append(kind)
    return condition, values
