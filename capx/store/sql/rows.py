"""Reads and writes the rows of a store within one transaction, as far as both databases do this alike.

Laws: where the databases differ, each defines a column, a condition or a method of its own; the order of the statements
is the same in both. A transaction reads the head once, and writes it once, at its end.
"""

from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby
from typing import Any, ClassVar, Final

import msgspec
from msgspec import structs

from capx.crypto.base64url import is_bytes, unb64u
from capx.store.decision_index import ANY, BLOCK, Block, block_of, indexed
from capx.store.decision_query import Nonces
from capx.store.lifecycle import State
from capx.store.log import GENESIS, Event, digest, following
from capx.store.protocols import Reading
from capx.store.records import Counter, Damaged, Death, FollowerAck, Head, HookCursor, Pruned, TaskRecord
from capx.store.restore_checks import demand_empty, whole_deaths, whole_log
from capx.store.row_marks import ADOPTED, MarkedRow, task_fields
from capx.store.sql.request_rows import SqlRequestRows
from capx.store.sql.tree_rows import SqlTreeRows
from capx.tokens.chain import node_below, root_node
from capx.tokens.revocation_key import RevocationKey, revoked_until

HEAD = "SELECT epoch, position, hash, deaths, forgotten FROM capx.head"

_NONCES: Final = msgspec.json.Decoder(Nonces)
_PAGE = 1_000
_FEW = 64
"""Up to so many keys are looked up one by one. For more keys than there are deaths, all deaths are read."""
_BLOCKS = 8
"""The blocks that are read at once to be indexed."""
_MOST_FILLED = 256
"""The most blocks that one transaction indexes because it has filled so many."""
# The largest position that both databases can hold; used as "no bound".
LAST: Final = 2**63 - 1
_TASK = (
    "SELECT id, root, opened, expires, tenant, purpose, state, ended, position, principal, intent, holder "
    "FROM capx.tasks"
)
_MARKED_TASK = _TASK.replace(" FROM", ", mark FROM")
# Not `burnt`: after a restoration, a used presentation must still count as used.
_TAKEN_OVER = (
    "events",
    "tasks",
    "intents",
    "requests",
    "request_nodes",
    "answers",
    "asks",
    "grants",
    "strengths",
    "deaths",
    "counters",
    "paid",
    "sightings",
    "hooks",
    "found_in",
    "blocks",
    "tree",
    "checkpoints",
)


class SqlRows(SqlRequestRows, SqlTreeRows):
    """Reads and writes the rows of a store within one transaction."""

    select_event: ClassVar[str]
    of_task: ClassVar[str]
    """The condition that an event is about a task."""
    of_task_alone: ClassVar[str]
    """The same, for an index that has events without a task, too."""
    by_mints: ClassVar[str]
    """What goes behind the table if the index `minted_in_task` must be used."""
    nonces_of: ClassVar[str]
    """The nonces of a decision, as JSON text or NULL."""
    event_task: ClassVar[str]
    """The task of an event; NULL if it has none."""
    with_text: ClassVar[str]
    """The condition that an event has a text in it."""
    of_decision: ClassVar[str]
    """The condition that a decision has an id."""
    of_capability: ClassVar[str]
    """The condition that a minted capability has an id."""
    select_death: ClassVar[str]
    select_instants: ClassVar[str]
    """Selects the keys of all revoked instants, up to which everything issued is dead."""
    forget_deaths: ClassVar[str]
    """Deletes the deaths up to a number, except lasting ones (those of root keys)."""
    forget_counters: ClassVar[str]
    """Deletes the counters of single tasks that nobody has spent from since a time."""

    forget_paid: ClassVar[str]
    """Deletes what presentations have paid before a time."""
    forget_sightings: ClassVar[str] = "DELETE FROM capx.sightings WHERE at < ?"
    """Deletes what followers knew before a time."""

    _head: Head | None
    """The head as this transaction leaves it; None until somebody asks for it."""
    _written: Head | None
    """The head that the store holds, if it was read."""

    def head(self) -> Head:
        if self._head is None:
            self._head = self._written = head_of(self._row(HEAD))
        return self._head

    def confirmation_age(self) -> float:
        return 0.0

    def keep_head(self) -> None:
        """Write the head, if it changed. Whoever commits calls this first."""
        if self._head is not None and self._head != self._written:
            self._write(
                "UPDATE capx.head SET epoch = ?, position = ?, hash = ?, deaths = ?, forgotten = ?",
                *structs.astuple(self._head),
            )

    def index_filled(self) -> None:
        """Index as many blocks as this transaction has filled, within a bound, and some that others left."""
        filled = 0 if self._written is None else self.head().position // BLOCK - self._written.position // BLOCK
        if filled > 0:
            # A revocation of very many nodes must not wait for all its blocks. Later transactions index the rest.
            self.index_blocks(min(filled, _MOST_FILLED) + _BLOCKS)

    def index_blocks(self, most: int) -> None:
        first = self.indexed_blocks()
        end = min(first + most, self.head().position // BLOCK)
        for at in range(first, end, _BLOCKS):
            below = min(at + _BLOCKS, end) * BLOCK + 1
            read = self.newest(after=at * BLOCK, before=below, limit=_BLOCKS * BLOCK)
            events = groupby(reversed(read), lambda event: block_of(event.position))
            self._put_blocks([indexed(number, within) for number, within in events])

    @abstractmethod
    def _put_blocks(self, blocks: Sequence[Block]) -> None:
        """Write what the index says of blocks that it did not have."""

    def _change_head(self, **changes: Any) -> None:
        self._head = structs.replace(self.head(), **changes)

    def task(self, id_: str) -> TaskRecord | None:
        row = self._row(f"{_MARKED_TASK} WHERE id = ?", id_)
        if row is None:
            return None
        *columns, mark = row
        task = TaskRecord(*columns)
        if self._guard is not None:
            self._guard.demand(MarkedRow("tasks", id_, task_fields(task), mark))
        return task

    def tasks_named(self, ids: Collection[str]) -> dict[str, TaskRecord]:
        if self._guard is not None:
            return {id_: task for id_ in ids if (task := self.task(id_)) is not None}
        rows = self._rows_among(f"{_TASK} WHERE id {{among}}", list(ids))
        return {task.id: task for task in (TaskRecord(*row) for row in rows)}

    def rooted(self, node: bytes) -> TaskRecord | None:
        row = self._row(f"{_TASK} WHERE node = ?", node)
        return row and TaskRecord(*row)

    def tasks(self) -> list[TaskRecord]:
        return [TaskRecord(*row) for row in self._rows(f"{_TASK} ORDER BY {self.nth}")]

    def task_page(
        self,
        *,
        limit: int,
        before: str | None = None,
        after: str | None = None,
        alive_at: int | None = None,
        principal: str | None = None,
        intent: str | None = None,
    ) -> list[TaskRecord]:
        # An intent has fewer tasks than its principal. SQLite does not know that, and must take the index of intents.
        of_principal = "principal = ?" if intent is None else f"{self.plain}principal = ?"
        chosen = [(of_principal, principal), ("intent = ?", intent)]
        conditions = ["1 = 1", *(condition for condition, value in chosen if value is not None)]
        values: list[str | int] = [value for _, value in chosen if value is not None]
        among, of = " AND ".join(conditions), tuple(values)
        for sign, id_ in (("<", before), (">", after)):
            if id_ is not None:
                # Among the same tasks: whoever sees only these must not learn where another one stands.
                place = f"SELECT {self.nth} FROM capx.tasks WHERE {among} AND id = ?"  # noqa: S608 - conditions of ours
                conditions.append(f"{self.nth} {sign} ({place})")
                values += (*of, id_)
        if alive_at is not None:
            conditions.append("state = 'active' AND expires > ?")
            values.append(alive_at)
        order = "DESC" if after is None else "ASC"
        query = f"{_TASK} WHERE {' AND '.join(conditions)} ORDER BY {self.nth} {order} LIMIT ?"
        found = [TaskRecord(*row) for row in self._rows(query, *values, limit)]
        return found[::-1] if after is None else found

    def task_count(self) -> int:
        (count,) = self._row("SELECT count(*) FROM capx.tasks")
        return int(count)

    def tasks_with(self, id_: str) -> list[str]:
        named = f"SELECT {self.event_task} FROM capx.events WHERE {self.with_text}"  # noqa: S608 - conditions of ours
        query = f"SELECT id FROM capx.tasks WHERE id IN ({named})"  # noqa: S608
        found = {task for (task,) in self._rows(query, id_)}
        if is_bytes(id_, 16):
            found.update(self._tasks_with_node(unb64u(id_)))
        return sorted(found)

    def _tasks_with_node(self, node: bytes) -> Iterator[str]:
        """The tasks with this node: decisions have only the nonces from which it is computed."""
        roots = {task: root_node(root) for task, root in self._rows("SELECT id, root FROM capx.tasks")}
        yield from (task for task, root in roots.items() if root == node)
        # Each path once: a log has very many decisions at few nodes.
        known = f"{self.event_task} IN (SELECT id FROM capx.tasks)"  # noqa: S608
        paths = f"SELECT DISTINCT {self.event_task}, {self.nonces_of} FROM capx.events WHERE kind = 'decision'"  # noqa: S608
        for task, text in self._execute(f"{paths} AND {known}"):
            if node in accumulate(_nonces(text), node_below, initial=roots[task]):
                yield task

    def overdue(self, now: int, limit: int) -> list[TaskRecord]:
        # `state` is a literal, not a parameter: the partial index `overdue` fits only then.
        query = f"{_TASK} WHERE state = 'active' AND expires <= ? ORDER BY expires LIMIT ?"
        return [TaskRecord(*row) for row in self._rows(query, now, limit)]

    def oldest_unexpired(self, now: int) -> TaskRecord | None:
        row = self._row(f"{_TASK} WHERE expires > ? ORDER BY {self.nth} LIMIT 1", now)
        return row and TaskRecord(*row)

    def last_event(self, until: int) -> int:
        query = "SELECT at FROM capx.events WHERE kind <> 'decision' AND at <= ? ORDER BY position DESC LIMIT 1"
        row = self._row(query, until)
        return 0 if row is None else int(row[0])

    def active(self) -> int:
        (count,) = self._row("SELECT count(*) FROM capx.tasks WHERE state = 'active'")
        return int(count)

    def death(self, key: RevocationKey) -> Death | None:
        row = self._row(f"{self.select_death} WHERE {self._key_column(key)} = ?", key)
        if row is None and self._guard is not None:
            self._guard.demand_deaths((key,))
        return row and self._death(row)

    def deaths_of(self, keys: Iterable[RevocationKey]) -> dict[RevocationKey, Death]:
        wanted = dict.fromkeys(keys)
        # A resource can name very many nodes, and there are few deaths at most times.
        few = len(wanted) > _FEW and self.head().deaths < len(wanted)
        rows = self._rows(self.select_death) if few else self._death_rows(list(wanted))
        found = {death.key: death for death in map(self._death, rows) if death.key in wanted}
        if self._guard is not None:
            self._guard.demand_deaths(key for key in wanted if key not in found)
        return found

    def deaths(self, *, after: int = 0, limit: int | None = None) -> Iterator[Death]:
        query = f"{self.select_death} WHERE seq > ? ORDER BY seq LIMIT ?"
        # By pages, for the reasons given in `events`.
        while limit is None or limit > 0:
            page = _PAGE if limit is None else min(limit, _PAGE)
            rows = self._rows(query, after, page)
            yield from map(self._death, rows)
            if len(rows) < page:
                return
            after = rows[-1][0]
            limit = None if limit is None else limit - len(rows)

    def revoked_until(self) -> int:
        held = revoked_until(key for (key,) in self._rows(self.select_instants))
        return held if self._guard is None else max(held, self._guard.revoked_until)

    def events(
        self,
        *,
        after: int = 0,
        limit: int | None = None,
        task: str | None = None,
        kind: str | None = None,
        naming: str | None = None,
    ) -> Iterator[Event]:
        conditions, values = ["position > ?"], list[str]()
        if task is not None:
            conditions.append(self.of_task)
            values.append(task)
        if kind is not None:
            # `kind <> 'decision'` looks redundant. The database needs it to see that the partial index `of_kind` fits.
            conditions.append("kind = ?" if kind == "decision" else "kind = ? AND kind <> 'decision'")
            values.append(kind)
        if naming is not None:
            conditions.append(f"(kind <> 'decision' OR {self.with_text})")
            values.append(naming)
        where = " AND ".join(conditions)
        query = f"{self.select_event} WHERE {where} ORDER BY position LIMIT ?"
        # By pages, for two reasons. A long log is never in memory as a whole. And if a reader stops half-way, no open
        # cursor keeps the connection at an old instant.
        while limit is None or limit > 0:
            page = _PAGE if limit is None else min(limit, _PAGE)
            rows = self._rows(query, after, *values, page)
            yield from map(self._event, rows)
            if len(rows) < page:
                return
            after = rows[-1][0]
            limit = None if limit is None else limit - len(rows)

    def newest(self, *, before: int, limit: int, after: int = 0, task: str | None = None) -> list[Event]:
        narrowed, values = ("", ()) if task is None else (f" AND {self.of_task}", (task,))
        query = f"{self.select_event} WHERE position > ? AND position < ?{narrowed} ORDER BY position DESC LIMIT ?"
        return list(map(self._event, self._rows(query, after, before, *values, limit)))

    def indexed_blocks(self) -> int:
        (last,) = self._row("SELECT max(block) FROM capx.blocks")
        return 0 if last is None else int(last) + 1

    def blocks_with(self, values: Sequence[str], *, since: int, first: int, end: int, limit: int) -> list[int]:
        parts, given = list[str](), list[str | int]()
        if since or not values:
            parts.append("SELECT block FROM capx.blocks WHERE latest >= ? AND block >= ? AND block < ?")
            given += [since, first, end]
        for value in values:
            parts.append("SELECT block FROM capx.found_in WHERE value IN (?, ?) AND block >= ? AND block < ?")
            given += [value, ANY, first, end]
        # A block of a single part can be there twice: with the value, and with `ANY`.
        found = " INTERSECT ".join(parts)
        query = f"SELECT DISTINCT block FROM ({found}) AS found ORDER BY block DESC LIMIT ?"  # noqa: S608 - ours
        return [block for (block,) in self._rows(query, *given, limit)]

    def has_indexed(self, block: int, values: Collection[str], latest: int) -> bool:
        row = self._row("SELECT latest FROM capx.blocks WHERE block = ?", block)
        query = f"SELECT value FROM capx.found_in WHERE block = {block:d} AND value {{among}}"  # noqa: S608 - a number
        found = self._rows_among(query, sorted(values))
        return row is not None and row[0] >= latest and len(found) == len(values)

    def decision(self, id_: str) -> Event | None:
        query = f"{self.select_event} WHERE kind = 'decision' AND {self.of_decision} ORDER BY position LIMIT 1"
        row = self._row(query, id_)
        return row and self._event(row)

    def minted_in(self, task: str) -> list[Event]:
        query = f"{self.select_event}{self.by_mints} WHERE kind = 'capability_minted'"
        return list(map(self._event, self._rows(f"{query} AND {self.of_task_alone} ORDER BY position", task)))

    def minted(self, capability: str) -> Event | None:
        query = f"{self.select_event} WHERE kind = 'capability_minted' AND {self.of_capability} LIMIT 1"
        row = self._row(query, capability)
        return row and self._event(row)

    def follower_acks(self) -> list[FollowerAck]:
        rows = self._rows("SELECT follower, deaths, at FROM capx.sightings ORDER BY follower")
        return [FollowerAck(*row) for row in rows]

    def hook(self, name: str) -> HookCursor | None:
        row = self._row("SELECT name, epoch, position FROM capx.hooks WHERE name = ?", name)
        return row and HookCursor(*row)

    def move_hook(self, cursor: HookCursor) -> None:
        moved = "ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch, position = excluded.position"
        self._put("hooks", structs.astuple(cursor), moved)

    def append(self, kind: str, body: bytes, *, at: int) -> Event:
        # Only this transaction may write the log, and it reads the head itself: so positions have no gaps.
        event = following(self.head().place, at=at, kind=kind, body=body)
        self._put("events", self._event_row(event))
        self._change_head(position=event.position, hash=event.hash)
        return event

    def append_all(self, kind: str, bodies: Iterable[bytes], *, at: int) -> range:
        before = self.head().position
        self._put_all("events", map(self._event_row, self._following(kind, bodies, at)))
        return range(before + 1, self.head().position + 1)

    def _following(self, kind: str, bodies: Iterable[bytes], at: int) -> Iterator[Event]:
        """The next events of the log, each as it is asked for; after the last one, the head names it."""
        position, hash_ = self.head().position, self.head().hash
        for body in bodies:
            position += 1
            hash_ = digest(hash_, position, at, kind, body)
            yield Event(position, at, kind, body, hash_)
        self._change_head(position=position, hash=hash_)

    def open_task(self, task: TaskRecord) -> None:
        mark = self._mark("tasks", task.id, task_fields(task))
        self._put_numbered("tasks", {**structs.asdict(task), "node": root_node(task.root), "mark": mark})

    def _marked_tasks(self) -> Iterator[MarkedRow]:
        for *columns, mark in self._rows(f"{_MARKED_TASK} ORDER BY {self.nth}"):
            task = TaskRecord(*columns)
            yield MarkedRow("tasks", task.id, task_fields(task), mark)

    def end_task(self, id_: str, state: State, *, at: int, position: int) -> None:
        # Only an active task: an end is final.
        query = "UPDATE capx.tasks SET state = ?, ended = ?, position = ? WHERE id = ? AND state = 'active'"
        self._write(query, state, at, position, id_)

    def kill(self, key: RevocationKey, reason: str, *, at: int, position: int) -> Death:
        # The first death stays: its number and its reason may have reached followers already.
        if first := self.death(key):
            return first
        death = Death(self.head().deaths + 1, key, reason, at, position)
        self._put("deaths", self._death_row(death))
        self._change_head(deaths=death.seq)
        return death

    def kill_all(self, positions: Mapping[RevocationKey, int], reason: str, *, at: int) -> None:
        before = self.head().deaths
        deaths = (Death(seq, key, reason, at, positions[key]) for seq, key in enumerate(positions, before + 1))
        self._put_all("deaths", map(self._death_row, deaths))
        self._change_head(deaths=before + len(positions))

    def forget(self, before: int, *, below: int | None = None) -> Pruned:
        # Deaths are forgotten only up to the first one that must stay, even if older ones come after it. So `forgotten`
        # is a single number, and a follower can compare it with the number of deaths that it knows.
        head = self.head()
        query = "SELECT seq FROM capx.deaths WHERE seq > ? AND (at >= ? OR position >= ?) ORDER BY seq LIMIT 1"
        first_kept = self._row(query, head.forgotten, before, LAST if below is None else below)
        up_to = head.deaths if first_kept is None else first_kept[0] - 1
        self._write(self.forget_deaths, up_to)
        self._change_head(forgotten=up_to)
        counters = self._execute(self.forget_counters, before).rowcount
        self._write(self.forget_paid, before)
        sightings = self._execute(self.forget_sightings, before).rowcount
        return Pruned(up_to - head.forgotten, counters, sightings, self._forget_requests(before))

    def probe(self) -> None:
        self._put("probe", (1, 1), "ON CONFLICT (only_row) DO UPDATE SET times = probe.times + 1")

    def begin_epoch(self, epoch: str) -> None:
        self._change_head(epoch=epoch)

    def clear(self) -> None:
        """Delete everything that `adopt` copies, and all that is about it, so that `adopt` finds an empty store."""
        for table in _TAKEN_OVER:
            # Not TRUNCATE: readers of an earlier instant would suddenly see empty tables.
            self._write(f"DELETE FROM capx.{table}")  # noqa: S608 - a table of ours
        self._change_head(position=0, hash=GENESIS, deaths=0, forgotten=0)

    def adopt(self, reading: Reading) -> None:
        demand_empty(self)
        self._put_all("events", map(self._event_row, whole_log(reading)))
        # Not as it is in the other store, where somebody may have changed it.
        self.index_blocks(LAST)
        for task in reading.tasks():
            self.open_task(task)
        for intent in reading.intents():
            self.keep_intent(intent)
        for answer in reading.answers():
            self.keep_answer(answer)
        for asked in reading.asks():
            self.keep_ask(asked)
        # As they are: a row that somebody changed in the file must not get a right mark here.
        for table in ADOPTED:
            for row in reading.marked_rows(table):
                self.put_mark(row, row.mark)
        self._put_all("deaths", map(self._death_row, whole_deaths(reading)))
        self._put_all("counters", map(self._counter_row, reading.counters()))
        self._change_head(**structs.asdict(reading.head()))

    @abstractmethod
    def counters(self, ids: Sequence[str] | None = None) -> list[Counter]: ...

    @abstractmethod
    def _key_column(self, key: RevocationKey) -> str:
        """The column that holds a key of this type."""

    @abstractmethod
    def _death_rows(self, keys: Sequence[RevocationKey]) -> list[Any]:
        """The rows of the deaths of these keys, in any order."""

    @abstractmethod
    def _event_row(self, event: Event) -> tuple[Any, ...]: ...

    # The default form of rows; a database that stores them in another form overrides these.
    def _event(self, row: Any) -> Event:
        return Event(*row)

    def _death(self, row: Any) -> Death:
        return Death(*row)

    def _death_row(self, death: Death) -> tuple[Any, ...]:
        return structs.astuple(death)

    def _counter_row(self, counter: Counter) -> tuple[Any, ...]:
        return structs.astuple(counter)


def _nonces(text: object) -> Sequence[str]:
    """The nonces in a decision, which a resource may have written otherwise."""
    try:
        return () if text is None else _NONCES.decode(str(text))
    except msgspec.DecodeError:
        return ()


def head_of(row: tuple[Any, ...] | None) -> Head:
    """Make a Head from its row; Damaged if there is no row."""
    if row is None:
        raise Damaged("the store has lost its head: restore it from a backup")
    return Head(*row)
