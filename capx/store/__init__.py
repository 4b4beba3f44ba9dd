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
from decimal import Decimal
from typing import Annotated, Final, Literal, Protocol

import msgspec
from msgspec import Meta, Struct

from capx.death import Death, Key
from capx.errors import StoreProblem
from capx.log import Event, Place
from capx.meter import Meter
from capx.task import FIRST, State

REPLACED = ".replaced"
"""What stands behind the epoch of a store that nobody may go on with, for another one has its place."""


class Unwritable(StoreProblem):
    """What was to be written can never be: it is too big, or no value that the store can hold."""


class NoStore(StoreProblem):
    """There is nothing at this place, or nothing that is a store of capx."""


class Damaged(StoreProblem):
    """What is there is a store, and is not what capx writes."""


class Head(Struct, frozen=True):
    """Where a store stands: its epoch, its last event, how many deaths there were, and how many are forgotten.

    An epoch is `ORIGIN.SECONDS`: which store this was when it was created, and when this epoch of it began.
    """

    epoch: str
    position: int
    hash: bytes
    deaths: int
    forgotten: int = 0

    @property
    def place(self) -> Place:
        """The place of the last event in the log."""
        return Place(self.position, self.hash)


class TaskRecord(Struct, frozen=True):
    """A task as it was opened and, once it has ended, when and at which position; times in Unix seconds.

    `principal` is who asked for it, `intent` the digest of what they asked for: both None of one opened by hand.
    """

    id: str
    root: str
    opened: int
    expires: int
    tenant: str | None = None
    purpose: str | None = None
    state: State = FIRST
    ended: int | None = None
    position: int | None = None
    principal: str | None = None
    intent: str | None = None


ATTESTED: Final = "attested: "
"""What stands before the name of who attested an intent, where another one has a signature."""


class IntentRecord(Struct, frozen=True):
    """An intent, by its digest: how many tasks were opened on it, and when it was withdrawn, if it was (Unix seconds).

    `document` is its canonical JSON, `proof` the signature, or ATTESTED and a name; they and `principal` are None of an
    intent that was withdrawn before anybody opened it.
    """

    digest: str
    principal: str | None = None
    document: str | None = None
    proof: str | None = None
    opened: int = 0
    withdrawn: int | None = None


RequestState = Literal["pending", "approved", "granted", "denied", "expired"]


class RequestRecord(Struct, frozen=True, kw_only=True):
    """What an agent asked for at run time, and what became of it; times in Unix seconds, ids in base64url.

    `ids`, `kid` and `issued` are those of the token that asked, `path` and `labels` its nodes and their labels. `args`
    is canonical JSON, None where the ask is not pinned. It was `asked` last then, and is to be answered by `until`.
    `block` is the JSON of the first block that the grant has, or would have. `excluded` are those of the approvers who
    could not consent when it was asked. `answered` is when the answer came, `signed` the time that its `signature` is
    over. `minted_under`, `nonce` and `minted` are the kid, nonce and time of its identifier, once it was granted, so
    that it can be made again; `capability` is its first id, and `earlier` are its others, by which it is revoked as
    well, and those of what was granted before.
    """

    id: str
    task: str
    audience: str
    action: str
    args: str | None
    ids: tuple[str, ...]
    kid: str
    issued: int
    path: Annotated[tuple[str, ...], Meta(min_length=1)]
    labels: tuple[str, ...]
    block: str
    asked: int
    until: int
    state: RequestState = "pending"
    approvers: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    approver: str | None = None
    answered: int | None = None
    signed: int | None = None
    signature: str | None = None
    minted_under: str | None = None
    nonce: str | None = None
    minted: int | None = None
    capability: str | None = None
    earlier: tuple[str, ...] = ()

    @property
    def node(self) -> str:
        """The node that asked."""
        return self.path[-1]

    @property
    def granted(self) -> tuple[str, ...]:
        """The ids of all that was granted to it: whichever of them dies, that was revoked."""
        return self.earlier if self.capability is None else (*self.earlier, self.capability)

    @classmethod
    def parse(cls, text: str) -> "RequestRecord":
        """The request that was kept as this text; Damaged for any other text."""
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, RecursionError):
            raise Damaged("a request of the store is none that capx wrote: restore it from a backup") from None

    def text(self) -> str:
        """It as it is kept: JSON."""
        return msgspec.json.encode(self).decode()


class GrantRecord(Struct, frozen=True):
    """On the strength of which token a capability was granted.

    `capability` is the first id of what was granted, `at` when; `ids`, `kid` and `issued` are those of the token that
    asked. Ids are 16 bytes, times Unix seconds.
    """

    capability: bytes
    ids: tuple[bytes, ...]
    kid: str
    issued: int
    at: int


class RequestCounts(Struct, frozen=True):
    """How many requests there are of one node, and of one task, and how many of these wait for a person."""

    of_node: int
    of_task: int
    waiting_of_node: int
    waiting_of_task: int


REVOCATIONS: Final = "-"
"""The unit, which no budget can have, in which the counter of a node counts what its agent has revoked."""


class Counter(Struct, frozen=True):
    """One counter, and when it was last spent from, in Unix seconds."""

    counter: str
    unit: str
    spent: Decimal
    last: int


class Sighting(Struct, frozen=True):
    """How many deaths a follower said it knows, and when it said so, in Unix seconds."""

    follower: str
    deaths: int
    at: int


class Pruned(Struct, frozen=True):
    """How much was forgotten: deaths and requests of what has expired long since, counters, and old sightings."""

    deaths: int
    counters: int
    sightings: int
    requests: int = 0


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

    def death(self, key: Key) -> Death | None:
        """The death of this very key, not of what it lies below."""
        ...

    def deaths(self, *, after: int = 0) -> Iterator[Death]:
        """The deaths that are kept and whose `seq` is above `after`, in order."""
        ...

    def horizon(self) -> int:
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

    def sightings(self) -> list[Sighting]:
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

    def asked(self, task: str, node: str) -> RequestCounts:
        """How many requests there are of this task, and of this node (base64url) of it."""
        ...

    def granted_by(self, key: Key) -> list[bytes]:
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

    def kill(self, key: Key, reason: str, *, at: int, position: int) -> Death:
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


class Burn(Struct, frozen=True):
    """Whether a presentation's id was new, and whether the store still had the one it was asked about."""

    new: bool
    remembered: bool = True


class Record(Struct, frozen=True):
    """A decision on its way into the log: its id, when it was made (Unix seconds), and its body, a JSON object."""

    id: str
    at: int
    body: bytes


class News(Struct, frozen=True):
    """What a follower had not seen: the head, and the reason of each death after the head it knew, in their order.

    `anew`: the deaths are all that there are, and replace what was known; the first `lasting` of them are those that
    are never forgotten, of before `head.forgotten`. `at` is when the authority said so, in Unix seconds by its own
    clock; None when it was read from the store itself.
    """

    head: Head
    deaths: dict[Key, str]
    anew: bool = False
    lasting: int = 0
    at: float | None = None


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

    def record(self, decisions: Sequence[Record]) -> None:
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


def succeeding(known: Head | None, head: Head, hash_there: bytes | None) -> Head | None:
    """What a follower goes on from: `known`, or None when it must start over; StoreProblem when it may do neither.

    `hash_there` is the hash of the event that stands at the position of `known`, None if there is none. A later epoch
    of the same store is started over with, and so is one that has forgotten deaths that the follower never saw.
    """
    if head.epoch.endswith(REPLACED):
        raise StoreProblem(
            "the store was damaged and a backup took its place: this is what was there before, open what is there now"
        )
    if known is None:
        return None
    if head.epoch != known.epoch:
        _demand_later(known.epoch, head.epoch)
        return None
    if head.position < known.position or head.deaths < known.deaths or head.forgotten < known.forgotten:
        raise StoreProblem(
            f"the store went back from position {known.position} to {head.position}: an older copy was put in its place"
        )
    if known.position > 0 and hash_there != known.hash:
        raise StoreProblem(f"the store tells another history than before at position {known.position}")
    return None if head.forgotten > known.deaths else known


def demand_whole(known: Head | None, news: News) -> News:
    """The news, if no death is missing between `known`, as `succeeding` gave it, and their head; else StoreProblem."""
    since = news.head.forgotten if known is None else max(known.deaths, news.head.forgotten)
    found, told = len(news.deaths) - news.lasting, news.head.deaths - since
    if found != told:
        raise StoreProblem(f"the store counts {told} new deaths and holds {found}: it is damaged")
    return news


def _demand_later(known: str, found: str) -> None:
    origin, _, began = found.partition(".")
    known_origin, _, known_began = known.partition(".")
    if origin != known_origin:
        raise StoreProblem("the store was replaced by another one: restart its services to follow it")
    if not began.isdecimal() or not known_began.isdecimal() or int(began) <= int(known_began):
        raise StoreProblem("the store is of an epoch that ended: an older copy was put in its place")
