"""Reads and writes the rows of a PostgreSQL store within one transaction.

Law: a transaction reads the row of the head first; a writer locks it (`FOR UPDATE`). A writer keeps its changes of the
head in memory, and writes the row once, at the end.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from typing import Any, cast

import msgspec
import psycopg
from msgspec import Struct

from capx.crypto.base64url import b64u
from capx.store.decision_index import Block
from capx.store.log import Event
from capx.store.postgres.connection import Link
from capx.store.protocols import Reading
from capx.store.records import REVOCATIONS, Counter, Death, GrantRecord, Head, Pruned, RequestRecord, Unwritable
from capx.store.row_marks import RowGuard
from capx.store.sql.request_rows import RECOUNTED
from capx.store.sql.rows import HEAD, SqlRows, head_of
from capx.tokens.revocation_key import RevocationKey

CHANNEL = "capx"
"""The channel of notifications that wake followers when something has died."""

READ = f"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; {HEAD}"
# The timeout: a writer holds the lock of the log. If its process hangs within the transaction, the server ends it, so
# that the other writers can go on.
WRITE = (
    f"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = '15s'; {HEAD} FOR UPDATE"
)

_FEW = 20
"""From so many rows on, COPY takes less time than single inserts, which wait for nobody."""

_COUNTER = "SELECT counter, unit, spent, last FROM capx.counters"


class Rows(SqlRows):
    """Reads and writes the rows of a store within one transaction; `head` is the row that its first statement gave."""

    nth = "nth"
    select_event = "SELECT position, at, kind, body, hash FROM capx.events"
    of_task = "task = ?"
    event_task = "task"
    nonces_of = r"""substring(body FROM '"nonces"\s*:\s*(\[[^]]*\])')"""
    without_body = (
        "body = '{\"archived\":true,\"id\":' || coalesce(to_json(decision)::text, 'null') "
        "|| ',\"audience\":' || coalesce(to_json(audience)::text, 'null') || '}', task = NULL"
    )
    with_text = "strpos(body, ?) > 0"
    of_task_alone = "task = ?"
    by_mints = ""
    of_decision = "decision = ?"
    of_capability = "capability = ?"
    of_request = "e.subject"
    plain = ""
    task_of = "e.task"
    of_intent = "e.subject"
    select_death = "SELECT seq, id, name, reason, at, position FROM capx.deaths"
    select_instants = "SELECT name FROM capx.deaths WHERE name >= 'issued:' AND name < 'issued;'"
    forget_deaths = "DELETE FROM capx.deaths WHERE seq <= ? AND (name LIKE 'kid:%%') IS NOT TRUE"
    # SKIP LOCKED: a counter that a service is spending from now is not forgotten. To wait for its lock could end in a
    # deadlock with that service.
    forget_counters = (
        "DELETE FROM capx.counters c USING (SELECT counter, unit FROM capx.counters WHERE last < ? "
        "AND length(counter) = 22 "
        "FOR UPDATE SKIP LOCKED) AS old WHERE c.counter = old.counter AND c.unit = old.unit"
    )

    forget_paid = (
        "DELETE FROM capx.paid p USING (SELECT presentation, counter, unit FROM capx.paid WHERE at < ? "
        "FOR UPDATE SKIP LOCKED) AS old "
        "WHERE p.presentation = old.presentation AND p.counter = old.counter AND p.unit = old.unit"
    )

    # A role may hold the lock of its own row.
    forget_sightings = (
        "DELETE FROM capx.sightings s USING (SELECT follower FROM capx.sightings WHERE at < ? "
        "FOR UPDATE SKIP LOCKED) AS old WHERE s.follower = old.follower"
    )

    def __init__(
        self,
        link: Link,
        head: tuple[Any, ...] | None,
        guard: RowGuard | None = None,
        confirmation_age: Callable[[str], float] | None = None,
    ) -> None:
        self._db = link
        self._guard = guard
        self._confirmation_age = confirmation_age
        self._head = self._written = head_of(head)

    def confirmation_age(self) -> float:
        return super().confirmation_age() if self._confirmation_age is None else self._confirmation_age(self._db.server)

    def counters(self, ids: Sequence[str] | None = None) -> list[Counter]:
        # A resource may report a counter that PostgreSQL cannot even look for.
        sought = None if ids is None else [id_ for id_ in ids if "\0" not in id_]
        narrowed, values = ("", ()) if sought is None else (" WHERE counter = ANY (?::text[])", (sought,))
        return [Counter(*row) for row in self._rows(f"{_COUNTER}{narrowed} ORDER BY counter, unit", *values)]

    def count_revocation(self, task: str, node: bytes, *, now: int) -> tuple[int, int]:
        of_task = self._row(
            "UPDATE capx.tasks SET revocations = revocations + 1 WHERE id = ? RETURNING revocations", task
        )
        (of_node,) = self._row(
            "INSERT INTO capx.counters AS held VALUES (?, ?, 1, ?) ON CONFLICT (counter, unit) "
            "DO UPDATE SET spent = held.spent + 1, last = greatest(held.last, excluded.last) RETURNING spent",
            b64u(node),
            REVOCATIONS,
            now,
        )
        return int(of_node), 0 if of_task is None else int(of_task[0])

    def forget(self, before: int, *, below: int | None = None) -> Pruned:
        with self._db.patient():
            return super().forget(before, below=below)

    def adopt(self, reading: Reading) -> None:
        with self._db.patient():
            super().adopt(reading)

    def wake(self) -> None:
        """Wake followers after the commit, if something died, was forgotten, or an epoch began.

        Errors are ignored: followers look every second anyway. A full queue of notifications, which any session can
        cause, is such an error.
        """
        # Not within the transaction: there a failed notification would undo the revocation. And not synced, because
        # after a crash of the server there is nobody to wake.
        if _for_followers(self._head) != _for_followers(self._written):
            with contextlib.suppress(psycopg.Error):
                self._db.execute("SELECT set_config('synchronous_commit', 'off', true), pg_notify(%s, '')", (CHANNEL,))

    def _execute(self, query: str, *values: object) -> psycopg.Cursor[tuple[Any, ...]]:
        return self._db.execute(query.replace("?", "%s"), values)

    def _write(self, query: str, *values: object) -> None:
        self._db.later(query.replace("?", "%s"), values)

    def count_request(self, request: RequestRecord) -> None:
        nodes = "unnest(?::text[]) WITH ORDINALITY AS path (node, nth)"
        query = f"INSERT INTO capx.request_nodes SELECT node, ?, ?, nth - 1, ? FROM {nodes} {RECOUNTED}"  # noqa: S608
        self._write(query, request.audience, request.id, request.call, list(request.path))

    def _put_strengths(self, grant: GrantRecord) -> None:
        query = "INSERT INTO capx.strengths SELECT id, ? FROM unnest(?::bytea[]) AS id"
        self._write(query, grant.capability, list(grant.ids))

    def _put_blocks(self, blocks: Sequence[Block]) -> None:
        rows = sorted((value, block.number) for block in blocks for value in block.values)
        into = "INSERT INTO capx.found_in SELECT * FROM unnest(?::text[], ?::bigint[]) ON CONFLICT DO NOTHING"
        self._write(into, [value for value, _ in rows], [number for _, number in rows])
        self._put_all("blocks", ((block.number, block.latest) for block in blocks))

    def _put_all(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        coming = iter(rows)
        few = list(islice(coming, _FEW))
        if len(few) < _FEW:
            for row in few:
                self._put(table, row)
            return
        # COPY does not go with other statements: first what is to be written before it.
        self._db.send()
        # It is many times faster than single inserts, and a log may have a million events.
        with self._db.cursor().copy(f"COPY capx.{table} FROM STDIN".encode()) as copy:
            for row in chain(few, coming):
                copy.write_row(row)

    def _key_column(self, key: RevocationKey) -> str:
        return "id" if isinstance(key, bytes) else "name"

    def _death_rows(self, keys: Sequence[RevocationKey]) -> list[Any]:
        ids = [key for key in keys if isinstance(key, bytes)]
        names = [key for key in keys if isinstance(key, str)]
        # Both in one statement, because each one waits for its answer. In binary form, as below.
        of_names = f"{self.select_death} WHERE name = ANY (%b::text[])"
        return self._rows(f"{self.select_death} WHERE id = ANY (%b::bytea[]) UNION ALL {of_names}", ids, names)

    def _rows_among(self, query: str, keys: Sequence[bytes] | Sequence[str]) -> list[Any]:
        if not keys:
            return []
        of_type = "bytea" if isinstance(keys[0], bytes) else "text"
        # `%b`: in binary form, many keys take psycopg a fraction of the time.
        return self._rows(query.format(among=f"= ANY (%b::{of_type}[])"), list(keys))

    def _event(self, row: Any) -> Event:
        position, at, kind, body, hash_ = row
        return Event(position, at, kind, body.encode(), hash_)

    def _event_row(self, event: Event) -> tuple[Any, ...]:
        try:
            named = msgspec.json.decode(event.body, type=_Named)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Unwritable(f"the store cannot hold this: {error}") from error
        decided = event.kind == "decision"
        decision, audience = (_named(named.id), _named(named.audience)) if decided else (None, None)
        capability = _second(named.ids) if event.kind == "capability_minted" else None
        task = _named(named.task)
        subject = None if decided else _named(named.intent if event.kind == "intent_withdrawn" else named.request)
        columns = decision, audience, task, capability, subject
        return event.position, event.at, event.kind, text(event.body), event.hash, *columns

    def _death(self, row: Any) -> Death:
        seq, id_, name, reason, at, position = row
        return Death(seq, name if id_ is None else id_, reason, at, position)

    def _death_row(self, death: Death) -> tuple[Any, ...]:
        id_, name = (death.key, None) if isinstance(death.key, bytes) else (None, death.key)
        return death.seq, id_, name, death.reason, death.at, death.position


class _Named(Struct):
    """The fields of a body that have columns of their own, because queries look for them."""

    id: Any = None
    audience: Any = None
    task: Any = None
    ids: Any = None
    request: Any = None
    intent: Any = None


def text(body: bytes) -> str:
    """The body of an event as text; Unwritable if it is not UTF-8."""
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Unwritable(f"the store cannot hold this: {error}") from error


def _named(value: object) -> str | None:
    # As `capx.facts` does with the character that PostgreSQL holds in no text.
    return value.replace("\0", "\ufffd") if isinstance(value, str) else None


def _second(ids: object) -> str | None:
    found = cast("list[object]", ids) if isinstance(ids, list) else []
    return _named(found[1]) if len(found) > 1 else None


def _for_followers(head: Head | None) -> tuple[str, int, int] | None:
    return None if head is None else (head.epoch, head.deaths, head.forgotten)
