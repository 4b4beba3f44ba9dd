"""Where the authority keeps what must outlive it: tasks, deaths, the log, and what was presented.

Laws: everything happens in a transaction; a reader sees one instant, a writer is alone. What a durable transaction
wrote is there after any crash, once it was left without an error; of one that was not left so, nothing is there. Every
write to the log takes the next position in the transaction that writes it, so positions have no gaps and no reader sees
a later one before an earlier one. Neither tokens nor keys are stored. Every failure is a StoreProblem.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from msgspec import Struct

from capx.errors import StoreProblem
from capx.log import Event, Place
from capx.task import FIRST, State


class Unwritable(StoreProblem):
    """What was to be written can never be: it is too big, or no value that the store can hold."""


class Head(Struct, frozen=True):
    """Where a store stands: its epoch, its last event, and how many deaths it knows."""

    epoch: str
    position: int
    hash: bytes
    deaths: int

    @property
    def place(self) -> Place:
        """The place of the last event in the log."""
        return Place(self.position, self.hash)


class TaskRecord(Struct, frozen=True):
    """A task as it was opened and, once it has ended, when and at which position; times in Unix seconds."""

    id: str
    root: str
    opened: int
    expires: int
    tenant: str | None = None
    purpose: str | None = None
    state: State = FIRST
    ended: int | None = None
    position: int | None = None


class Death(Struct, frozen=True):
    """What is dead: a node or capability id as its 16 bytes, a task as its id; `seq` counts deaths from 1."""

    seq: int
    key: bytes | str
    reason: str
    at: int
    position: int


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

    def death(self, key: bytes | str) -> Death | None:
        """The death of this very node, capability or task, not of what it lies below."""
        ...

    def deaths(self, *, after: int = 0) -> Iterator[Death]:
        """The deaths whose `seq` is above `after`, in order."""
        ...

    def events(self, *, after: int = 0, limit: int | None = None) -> Iterator[Event]:
        """The events whose position is above `after`, in order."""
        ...

    def decision(self, id_: str) -> Event | None:
        """The event that recorded the decision with this id."""
        ...


class Writing(Reading, Protocol):
    """A transaction that is alone with the store."""

    def append(self, kind: str, body: bytes, *, at: int) -> Event:
        """Write the next event of the log; `body` is a JSON object."""
        ...

    def open_task(self, task: TaskRecord) -> None:
        """Keep a task that is new."""
        ...

    def end_task(self, id_: str, state: State, *, at: int, position: int) -> None:
        """Keep the end of a task that is active."""
        ...

    def kill(self, key: bytes | str, reason: str, *, at: int, position: int) -> Death:
        """Keep a death; a key dies once, so for a dead one its first death is given."""
        ...

    def burn(self, presentation: bytes, *, until: int, now: int) -> bool:
        """Keep a presentation's id until its window has passed; False if it was there, or may have been."""
        ...


class Store(Protocol):
    """Transactions over one place where things are kept; safe with several threads and processes."""

    def read(self) -> AbstractContextManager[Reading]:
        """One instant to read from."""
        ...

    def write(self, *, durable: bool = True) -> AbstractContextManager[Writing]:
        """A transaction: kept when its block is left, undone when the block raises.

        One that is not durable survives the death of every process, but the last of them may be lost when the machine
        itself goes down: right for presentations and decisions, wrong for deaths.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections; what is under way in other threads ends first."""
        ...


class News(Struct, frozen=True):
    """What a follower had not seen: the head, and the reason of each death after the head it knew."""

    head: Head
    deaths: dict[bytes | str, str]


class DeathSource(Protocol):
    """Something that tells a follower what has died since it last looked."""

    def news(self, known: Head | None) -> News:
        """What died since `known`; StoreProblem when there is nothing trustworthy to be had.

        A source that is another one than `known` came from, that lies behind it, or that holds another event at its
        position, is refused.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
