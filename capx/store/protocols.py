"""The interfaces of a store: tasks, deaths, the log, spent budgets and used presentations.

A *death* is one entry in the list of revocations: a task that ended, or a revoked id, root key or instant. To *burn* a
presentation is to mark its id as used.

There are two interfaces. The authority uses `Store`: transactions over everything. A resource uses `ResourceStore`: it
can burn presentations, spend budgets, record decisions and follow deaths, and nothing else.

Laws:

- Everything happens in a transaction. A reader sees one instant. Only one writer at a time writes the log.
- When a transaction ends without an error, everything it wrote survives any crash. Otherwise nothing of it is kept. If
  it was begun with `durable=False`, a crash of the machine may lose what it wrote.
- Each event takes the next position within the transaction that writes it. So positions have no gaps, and no reader
  sees a later position before an earlier one. Deaths are numbered in the same way.
- A store holds neither tokens nor keys. A row guard, which has keys, is given for one transaction
  (capx.store.row_marks).
- Every failure is a StoreProblem.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from capx.store.lifecycle import State
from capx.store.log import Event
from capx.store.records import (
    AskedArguments,
    Burn,
    CheckpointRecord,
    Counter,
    Death,
    DecisionRecord,
    FollowerAck,
    GrantRecord,
    Head,
    HookCursor,
    IntentRecord,
    News,
    Pruned,
    RequestCounts,
    RequestRecord,
    SignedAnswer,
    Standbys,
    TaskRecord,
    WaitingGroup,
)
from capx.store.row_marks import MarkedRow, RowGuard, Table
from capx.tokens.revocation_key import RevocationKey
from capx.verify.meter import Meter


class Reading(Protocol):
    """Read access to one instant of a store."""

    def head(self) -> Head:
        """The epoch, the last event and the number of deaths."""
        ...

    def confirmation_age(self) -> float:
        """Seconds since the server that is read confirmed a write of this process; 0 where a look is its own proof."""
        ...

    def tasks_named(self, ids: Collection[str]) -> dict[str, TaskRecord]:
        """The tasks with these ids, by id; one that does not exist is not in the answer."""
        ...

    def task(self, id_: str) -> TaskRecord | None:
        """The task with this id; None if there is none."""
        ...

    def rooted(self, node: bytes) -> TaskRecord | None:
        """The task whose root is this node of the execution graph (16 bytes); None if there is none."""
        ...

    def tasks(self) -> list[TaskRecord]:
        """All tasks, in the order of their opening."""
        ...

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
        """At most `limit` tasks, in the order of their opening.

        They are the first ones after the task with the id `after`. Without `after` they are the newest ones: of all, or
        of those before the task with the id `before`. `alive_at` leaves out those that have ended or expired then.

        `principal` and `intent` (its digest) select the tasks of one person and on one intent, which indexes find. The
        tasks with the ids `before` and `after` must be among them. There are none before or after any other id.
        """
        ...

    def task_count(self) -> int:
        """The number of tasks."""
        ...

    def tasks_with(self, id_: str) -> list[str]:
        """The ids of the tasks of which an event has this text (the id of a node or capability) in it, sorted.

        The database looks through the whole log, without decoding it. A resource may have written the id anywhere.
        """
        ...

    def overdue(self, now: int, limit: int) -> list[TaskRecord]:
        """At most `limit` active tasks that have expired at `now` (Unix seconds)."""
        ...

    def active(self) -> int:
        """The number of active tasks."""
        ...

    def oldest_unexpired(self, now: int) -> TaskRecord | None:
        """The first opened task that has not expired at `now` (Unix seconds), whether it has ended or not."""
        ...

    def last_event(self, until: int) -> int:
        """The time of the newest event dated until then, without those of resources (Unix seconds); 0 if none."""
        ...

    def death(self, key: RevocationKey) -> Death | None:
        """The death of exactly this key, not of a node or task above it; None if there is none."""
        ...

    def deaths_of(self, keys: Iterable[RevocationKey]) -> dict[RevocationKey, Death]:
        """The deaths of exactly these keys, as `death` gives them; a key without one is not in the answer."""
        ...

    def deaths(self, *, after: int = 0, limit: int | None = None) -> Iterator[Death]:
        """The kept deaths with a `seq` above `after`, in order, up to `limit` of them."""
        ...

    def revoked_until(self) -> int:
        """The latest second (Unix) up to which all issued tokens are dead; -1 if there is none."""
        ...

    def events(
        self,
        *,
        after: int = 0,
        limit: int | None = None,
        task: str | None = None,
        kind: str | None = None,
        naming: str | None = None,
    ) -> Iterator[Event]:
        """The events above position `after`, in order; `task` and `kind` select those of one task or one kind.

        With `naming`, the decisions without this text (an id) in their bodies are left out. The database
        looks, without decoding them.
        """
        ...

    def newest(self, *, before: int, limit: int, after: int = 0, task: str | None = None) -> list[Event]:
        """The newest events between two positions, without these, the newest first, at most `limit`.

        `task` selects those of one task, which an index finds.
        """
        ...

    def indexed_blocks(self) -> int:
        """The number of blocks, the first ones of the log, that are in the index of decisions (decision_index)."""
        ...

    def blocks_with(self, values: Sequence[str], *, since: int, first: int, end: int, limit: int) -> list[int]:
        """The last blocks from `first` on, below `end`, in which the index has all of these values, the last first.

        At most `limit`; without those whose decisions were all made before `since` (Unix seconds).
        """
        ...

    def has_indexed(self, block: int, values: Collection[str], latest: int) -> bool:
        """Whether `blocks_with` finds a block by each of these values, and by this time."""
        ...

    def first_event(self, since: int) -> int | None:
        """The position of the first event from this second on, without those of resources; None if there is none."""
        ...

    def unarchived(self, *, after: int, until: int) -> int | None:
        """The position of the first decision between two positions whose body is here; None if there is none."""
        ...

    def event_hashes(self, *, after: int, limit: int) -> list[bytes]:
        """The hashes (32 bytes) of the events above position `after`, in order, at most `limit`."""
        ...

    def kept_runs(self, level: int, *, first: int, limit: int) -> list[bytes]:
        """The kept hashes of full runs of 2**level events, from number `first` up to a gap, at most `limit`."""
        ...

    def kept_run_count(self, level: int) -> int:
        """How many full runs of this level have a hash that is kept."""
        ...

    def checkpoint(self, size: int | None = None) -> CheckpointRecord | None:
        """The last checkpoint, or the first one of at least `size` events; None if there is none."""
        ...

    def checkpoints(self) -> Iterator[CheckpointRecord]:
        """All checkpoints, the smallest first."""
        ...

    def decision(self, id_: str) -> Event | None:
        """The first event that recorded a decision with this id; each audience may have recorded one."""
        ...

    def minted(self, capability: str) -> Event | None:
        """The event that minted a capability; None if this authority did not mint it.

        `capability` is its id with the authority's block and no other (base64url). The id before that one covers the
        identifier only, and anybody who holds the audience's key can put another block behind it.
        """
        ...

    def minted_in(self, task: str) -> list[Event]:
        """The events that minted the capabilities of a task, in order."""
        ...

    def counters(self, ids: Sequence[str] | None = None) -> list[Counter]:
        """The counters with these ids, or all counters, ordered by id and unit."""
        ...

    def follower_acks(self) -> list[FollowerAck]:
        """The last acknowledgement of each follower."""
        ...

    def hook(self, name: str) -> HookCursor | None:
        """Up to which event the hook with this name was told; None if nobody has said so."""
        ...

    def intent(self, digest: str) -> IntentRecord | None:
        """The intent with this digest; None if there is none."""
        ...

    def intents(self) -> list[IntentRecord]:
        """All intents, in the order in which the store first kept them."""
        ...

    def request(self, id_: str) -> RequestRecord | None:
        """The request with this id; None if there is none."""
        ...

    def requests(
        self, *, task: str | None = None, pending: bool = False, principal: str | None = None
    ) -> list[RequestRecord]:
        """The requests of one task or of all tasks, in the order in which they were first made.

        `pending`: only those that wait for a person. `principal`: only those of the tasks of one principal; no others
        are decoded.
        """
        ...

    def requests_due(self, now: int) -> list[RequestRecord]:
        """The requests that wait for a person though their time has run out at `now` (Unix seconds)."""
        ...

    def waiting_count(self, principal: str) -> int:
        """How many requests wait for people in the tasks of one principal."""
        ...

    def waiting(self) -> tuple[WaitingGroup, ...]:
        """The requests that wait for people, in groups."""
        ...

    def oldest_waiting(self, wanted: Sequence[tuple[Sequence[WaitingGroup], int]]) -> list[RequestRecord]:
        """The oldest requests that wait in some groups of one principal, at most so many; the oldest of all first.

        Each pair is for another principal.
        """
        ...

    def requests_for(self, nodes: Sequence[str], calls: Sequence[str]) -> list[RequestRecord]:
        """The requests that these nodes (base64url) have made for these calls (`RequestRecord.call`).

        With a row guard, a single changed row hides none of them.
        """
        ...

    def answers(self, task: str | None = None) -> list[SignedAnswer]:
        """What people have signed in a task or in all, in the order of the log, also of requests that are forgotten."""
        ...

    def asks(self, task: str | None = None) -> list[AskedArguments]:
        """What agents have asked for in a task or in all, in the order of the log, also in requests now forgotten."""
        ...

    def request_counts(self, path: Sequence[str], audience: str) -> list[RequestCounts]:
        """For each node (base64url) of a path, how many requests count at it, and how many of them for the audience."""
        ...

    def granted_by(self, keys: Iterable[RevocationKey]) -> dict[RevocationKey, list[bytes]]:
        """The capabilities (first ids, 16 bytes) granted because of a token that the death of each key covers.

        The death does not cover these capabilities by itself: they have ids of their own, may have another kid, and
        were issued later. The asking token has this id in its chain, has this kid, or was issued up to this instant
        (and the capability after it). For a task there is none: the death of a task covers all its capabilities. A key
        without any is not in the answer.
        """
        ...

    def marked_rows(self, table: Table) -> Iterator[MarkedRow]:
        """All rows of a table, with their marks; no row guard checks them."""
        ...

    def check_columns(self, revocations: Mapping[str, int]) -> None:
        """Raise ChangedRow for a row whose columns beside its text, by which it is found, say something else.

        Also for a task whose agents have made another number of revocations than `revocations` says, and for a group
        that counts other requests than wait.
        """
        ...


class Writing(Reading, Protocol):
    """A writing transaction: no other one can write the log meanwhile."""

    def append(self, kind: str, body: bytes, *, at: int) -> Event:
        """Write the next event of the log; `body` is a JSON object, whose `task` names the task of the event."""
        ...

    def append_all(self, kind: str, bodies: Iterable[bytes], *, at: int) -> range:
        """Write several events of one kind, as `append` writes one, and give their positions."""
        ...

    def open_task(self, task: TaskRecord) -> None:
        """Keep a new task."""
        ...

    def end_task(self, id_: str, state: State, *, at: int, position: int) -> None:
        """Keep the end of an active task; for a task that has ended, change nothing."""
        ...

    def count_revocation(self, task: str, node: bytes, *, now: int) -> tuple[int, int]:
        """Count one revocation that an agent made.

        Gives how many the node (16 bytes) of this agent has made now, and how many all agents of its task.
        """
        ...

    def kill(self, key: RevocationKey, reason: str, *, at: int, position: int) -> Death:
        """Keep a death and give it; a key dies once, so for a dead key this gives its first death and keeps nothing."""
        ...

    def kill_all(self, positions: Mapping[RevocationKey, int], reason: str, *, at: int) -> None:
        """Keep the deaths of several keys, none of which is dead, with the positions of their events."""
        ...

    def keep_intent(self, intent: IntentRecord) -> None:
        """Keep an intent; it replaces the earlier row of the same intent."""
        ...

    def keep_request(self, request: RequestRecord) -> None:
        """Keep a request; it replaces the earlier row of the same request."""
        ...

    def count_request(self, request: RequestRecord) -> None:
        """Count a request at each node of its path. One that counts already is only found there by its new call.

        Called for each request that is new or made again.
        """
        ...

    def uncount_requests(self, nodes: Sequence[str]) -> None:
        """Let the requests that count at one of these nodes (base64url) count no more at the nodes above it."""
        ...

    def keep_answer(self, answer: SignedAnswer) -> None:
        """Keep what a person has signed; called once for the event of each answer."""
        ...

    def keep_ask(self, asked: AskedArguments) -> None:
        """Keep what an agent has asked for; called once for the event of each ask."""
        ...

    def keep_grant(self, grant: GrantRecord) -> None:
        """Keep the token because of which a capability was granted; called once for each capability."""
        ...

    def index_blocks(self, most: int) -> None:
        """Put the next full blocks of the log into the index of decisions, at most so many."""
        ...

    def take_out_decisions(self, *, after: int, until: int) -> int:
        """Take the bodies of the decisions between two positions out of the log, and give how many; hashes stay.

        An archive has them.
        """
        ...

    def keep_runs(self, level: int, first: int, hashes: Sequence[bytes]) -> None:
        """Keep the hashes of full runs of a level, from number `first` on, of which none is kept yet."""
        ...

    def keep_checkpoint(self, checkpoint: CheckpointRecord) -> None:
        """Keep a checkpoint; it replaces the one of the same size."""
        ...

    def move_hook(self, cursor: HookCursor) -> None:
        """Keep up to which event a hook was told; it replaces the earlier cursor of this hook."""
        ...

    def put_mark(self, row: MarkedRow, mark: bytes | None) -> None:
        """Give a row another mark."""
        ...

    def probe(self) -> None:
        """Write one row that says nothing. If the transaction is kept, the store can be written."""
        ...

    def forget(self, before: int, *, below: int | None = None) -> Pruned:
        """Forget rows that are older than `before` (Unix seconds).

        The age of a death counts from when it happened, of a counter from when it was last spent from, of sightings and
        grants from when they were made, and of a request from when it was last asked.

        Deaths are forgotten from the first one on, without gaps. Two kinds stay: deaths of root keys, and deaths whose
        event is at position `below` or later. Counters with a chosen name stay too: only counters whose id is 16 bytes
        belong to one task.
        """
        ...

    def begin_epoch(self, epoch: str) -> None:
        """Begin a new epoch; each follower of the store then starts over."""
        ...

    def adopt(self, reading: Reading) -> None:
        """Copy what another store holds: its epoch, log, tasks, intents, deaths and counters.

        The transaction may go on afterwards. Sightings, burnt presentations, requests, grants and the counts of
        revocations are not copied: everything that they are about is dead in the new epoch. Nor are the cursors of
        hooks: in the new epoch, a hook begins at the head. StoreProblem if this store is not empty, or the other one is
        not whole.
        """
        ...


class DeathSource(Protocol):
    """A place to ask what has died: a store, a feed or a snapshot."""

    def news(self, known: Head | None) -> News:
        """Return what died since `known`; StoreProblem if the source cannot be read or trusted.

        The source is refused if it is not the one that `known` came from, if it is behind `known`, or if it holds
        another event at that position. If the same source is in a later epoch, the news holds all deaths again.
        """
        ...

    def close(self) -> None:
        """Close files and connections."""
        ...


class ResourceStore(Meter, Protocol):
    """The operations that a resource may use; safe with several threads and processes."""

    def burn(self, presentation: bytes, *, until: int, now: int, remembered: tuple[bytes, int] | None = None) -> Burn:
        """Mark a presentation's id (16 bytes) as used until its window has passed.

        The result says that the id is not new if it was there, or may have been there. `until` is the last second of
        its window. `remembered` is an id that was burnt earlier, with the last second of its window: a store that has
        lost this id may have lost others too.
        """
        ...

    def burn_all(
        self,
        presented: Sequence[tuple[bytes, int]],
        *,
        now: int,
        remembered: tuple[bytes, int] | None = None,
        wait: bool = True,
    ) -> tuple[Burn, ...] | None:
        """Burn several presentations in one transaction, each with the last second of its window, as `burn` does.

        Without `wait`, if the store would have to wait for a disk, a network or another transaction, it burns nothing
        and returns None.
        """
        ...

    def record(self, decisions: Sequence[DecisionRecord]) -> None:
        """Write decisions to the log, in their order; skip one whose id its audience has recorded already."""
        ...

    def sighted(self, follower: str, deaths: int, *, now: int) -> None:
        """Keep how many deaths a follower knows, and when it said so (`now`, Unix seconds)."""
        ...

    def authority(self) -> str:
        """The id of the authority whose store this is: 16 bytes in base64url."""
        ...

    def source(self) -> DeathSource:
        """A source of the deaths in this store, with its own connection."""
        ...

    def close(self) -> None:
        """Close files and connections; transactions under way in other threads end first."""
        ...


class Store(ResourceStore, Protocol):
    """Transactions over everything in one store; safe with several threads and processes."""

    @property
    def place(self) -> str:
        """The path or URL of the store, without a password."""
        ...

    def read(self, guard: RowGuard | None = None) -> AbstractContextManager[Reading]:
        """A transaction that reads one instant.

        With a row guard, `task`, `intent`, `request`, `requests` and `requests_for` raise ChangedRow as
        capx.store.row_marks says.
        """
        ...

    def standbys(self) -> Standbys | None:
        """For how many standbys each commit waits; None if the store is a file."""
        ...

    def beating(self) -> AbstractContextManager[None]:
        """A block in which this process has the store confirm a write in each second, if a look is no proof."""
        ...

    def write(self, guard: RowGuard | None = None, *, durable: bool = True) -> AbstractContextManager[Writing]:
        """A writing transaction: it is kept when its block ends, and undone when the block raises.

        With a row guard, it reads as `read` does, and marks what it writes. Nothing is minted from what was written
        without one.

        If it need not be `durable`, others wait less for it. A SQLite file then keeps it as it keeps decisions: it
        survives the end of the process, but a crash of the machine may lose it.
        """
        ...
