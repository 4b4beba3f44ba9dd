"""Where the authority keeps what must outlive it: tasks, deaths, the log, what was spent, and what was presented.

Two sides. `Store` is the authority's: transactions over everything. `ResourceStore` is what a resource may do: burn,
spend, record, hear of deaths, and nothing else.

Laws: everything happens in a transaction; a reader sees one instant, a writer is alone with the log. What a transaction
wrote is there after any crash, once it was left without an error; of one that was not left so, nothing is there. Every
write to the log takes the next position in the transaction that writes it, so positions have no gaps and no reader sees
a later one before an earlier one; deaths are numbered in the same way. Neither tokens nor keys are stored. Every
failure is a StoreProblem.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from capx.store.lifecycle import State
from capx.store.log import Event
from capx.store.records import (
    Burn,
    Counter,
    Death,
    DecisionRecord,
    FollowerAck,
    GrantRecord,
    Head,
    IntentRecord,
    News,
    Pruned,
    RequestCounts,
    RequestRecord,
    TaskRecord,
)
from capx.tokens.revocation_key import RevocationKey
from capx.verify.meter import Meter


class Reading(Protocol):
    """One instant of a store."""

    def head(self) -> Head:
        """The place where the store stands."""
        ...

    def task(self, id_: str) -> TaskRecord | None:
        """The task with this id."""
        ...

    def rooted(self, node: bytes) -> TaskRecord | None:
        """The task whose root is this node of the execution graph (16 bytes)."""
        ...

    def tasks(self) -> list[TaskRecord]:
        """All tasks, in the order in which they were opened."""
        ...

    def overdue(self, now: int, limit: int) -> list[TaskRecord]:
        """Tasks that nobody ended and whose time has run out at `now` (Unix seconds), at most `limit`."""
        ...

    def active(self) -> int:
        """How many tasks nobody has ended."""
        ...

    def oldest_unexpired(self, now: int) -> TaskRecord | None:
        """Of the tasks whose time has not run out at `now` (Unix seconds), ended or not, the one opened first."""
        ...

    def death(self, key: RevocationKey) -> Death | None:
        """The death of this very key, not of what it lies below."""
        ...

    def deaths(self, *, after: int = 0) -> Iterator[Death]:
        """The deaths that are kept and whose `seq` is above `after`, in order."""
        ...

    def revoked_until(self) -> int:
        """The last second (Unix) up to which all that was issued is dead; -1 when there is none."""
        ...

    def events(
        self, *, after: int = 0, limit: int | None = None, task: str | None = None, kind: str | None = None
    ) -> Iterator[Event]:
        """The events whose position is above `after`, in order: all, or those that name a task, or are of a kind."""
        ...

    def decision(self, id_: str) -> Event | None:
        """The first event that recorded a decision with this id; each audience may have recorded one."""
        ...

    def counters(self, ids: Sequence[str] | None = None) -> list[Counter]:
        """The counters of these ids, or all, ordered by id and unit."""
        ...

    def follower_acks(self) -> list[FollowerAck]:
        """What followers said that they know."""
        ...

    def intent(self, digest: str) -> IntentRecord | None:
        """The intent with this digest."""
        ...

    def intents(self) -> list[IntentRecord]:
        """All intents, in the order in which they became known."""
        ...

    def request(self, id_: str) -> RequestRecord | None:
        """The request with this id."""
        ...

    def requests(
        self, *, task: str | None = None, node: str | None = None, pending: bool = False
    ) -> list[RequestRecord]:
        """The requests, of one task or of all, in the order in which they were first made.

        `node`: those alone of this node (base64url) of the task; `pending`: those alone that wait for a person.
        """
        ...

    def request_counts(self, task: str, node: str) -> RequestCounts:
        """How many requests there are of this task, and of this node (base64url) of it."""
        ...

    def granted_by(self, key: RevocationKey) -> list[bytes]:
        """The capabilities (first ids, 16 bytes) that die with what this death kills, and would not by themselves.

        They were granted on the strength of a token that has this id in its chain, has this kid, or was issued up to
        this instant, and themselves after it. There are none of a task: its death kills all that is of it.
        """
        ...


class Writing(Reading, Protocol):
    """A transaction that is alone with the log."""

    def append(self, kind: str, body: bytes, *, at: int) -> Event:
        """Write the next event of the log; `body` is a JSON object, whose `task` is the task that it names."""
        ...

    def open_task(self, task: TaskRecord) -> None:
        """Keep a task that is new."""
        ...

    def end_task(self, id_: str, state: State, *, at: int, position: int) -> None:
        """Keep the end of a task that is active."""
        ...

    def count_revocation(self, task: str, node: bytes, *, now: int) -> tuple[int, int]:
        """How often this node (16 bytes), and how often all agents of its task, have revoked, this time included."""
        ...

    def kill(self, key: RevocationKey, reason: str, *, at: int, position: int) -> Death:
        """Keep a death; a key dies once, so for a dead one its first death is given."""
        ...

    def keep_intent(self, intent: IntentRecord) -> None:
        """Keep an intent, in the place of what was kept of it before."""
        ...

    def keep_request(self, request: RequestRecord) -> None:
        """Keep a request, in the place of what was kept of it before."""
        ...

    def keep_grant(self, grant: GrantRecord) -> None:
        """Keep on the strength of which token a capability was granted, once."""
        ...

    def forget(self, before: int, *, below: int | None = None) -> Pruned:
        """Forget what is older than `before` (Unix seconds).

        That is deaths by when they happened, counters by when they were last spent from, sightings and grants by when
        they were made, and requests by when they were last asked. Deaths are forgotten from the first on, without gaps,
        but those that last, and none that stands in the log at `below` or after it. Counters that somebody named are
        kept: only ids of 16 bytes are of one task alone.
        """
        ...

    def begin_epoch(self, epoch: str) -> None:
        """Begin an epoch: whoever follows the store starts over."""
        ...

    def adopt(self, reading: Reading) -> None:
        """Take over what another store holds: its epoch, log, tasks, intents, deaths and counters.

        The transaction may go on. Sightings, burnt presentations, requests, grants and the counts of revocations stay
        behind: what they are about is dead in the new epoch. StoreProblem if this store is not empty, or the other one
        is not whole.
        """
        ...


class DeathSource(Protocol):
    """Something that tells, when it is asked, what has died."""

    def news(self, known: Head | None) -> News:
        """What died since `known`; StoreProblem when there is nothing trustworthy to be had.

        A source that is another one than `known` came from, that lies behind it, or that holds another event at its
        position, is refused; a later epoch of the same one is told anew.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


class ResourceStore(Meter, Protocol):
    """What a resource may do with a store; safe with several threads and processes."""

    def burn(self, presentation: bytes, *, until: int, now: int, remembered: tuple[bytes, int] | None = None) -> Burn:
        """Keep a presentation's id (16 bytes) until its window has passed; not new if it was there, or may have been.

        `until` is the last second of its window. `remembered` is an earlier id with the last second of its own: a
        store that has lost it has lost others too.
        """
        ...

    def record(self, decisions: Sequence[DecisionRecord]) -> None:
        """Write decisions to the log, in their order; one whose id is there already for its audience is passed over."""
        ...

    def sighted(self, follower: str, deaths: int, *, now: int) -> None:
        """Keep that a follower knows so many deaths."""
        ...

    def source(self) -> DeathSource:
        """What tells of the deaths in this store, over a connection of its own."""
        ...

    def close(self) -> None:
        """Let go of files and connections; what is under way in other threads ends first."""
        ...


class Store(ResourceStore, Protocol):
    """Transactions over one place where things are kept; safe with several threads and processes."""

    @property
    def place(self) -> str:
        """Where it is, as people write it, without a password."""
        ...

    def read(self) -> AbstractContextManager[Reading]:
        """One instant to read from."""
        ...

    def write(self) -> AbstractContextManager[Writing]:
        """A transaction: durable when its block is left, undone when the block raises."""
        ...
