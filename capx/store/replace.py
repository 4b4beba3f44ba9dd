"""A survey of a store before a backup replaces it, for any kind of store.

Laws:

- A store that was used is only replaced by one of the same authority, because its services follow no other.
- If a part of the store cannot be read, the survey says `unread`. It never counts as an empty store.
- If the store has not gone on from the backup, but in another way, the survey says since when.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from capx.crypto.keys import is_kid
from capx.errors import ConfigurationProblem
from capx.intents.epoch import authority_of, began, is_epoch
from capx.store.events import revoked_agent_keys
from capx.store.protocols import Reading, Writing
from capx.store.records import Damaged, Head
from capx.tokens.revocation_key import KID, is_lasting


class StoreSurvey(Struct, frozen=True):
    """The facts about a store that a restoration needs: its head, its revoked keys, and its latest time.

    `kids` are those of revoked root keys. `agent_keys` are the public keys of agents that were ever revoked.

    `newest` is the last time at which the authority itself wrote something, in Unix seconds. Decisions do not count,
    because resources date them by their own clocks. `unread`: something is there, and it could not be read completely.
    `parted` is the last position up to which its log and that of a backup are the same, if both go on differently; None
    if one goes on from the other.
    """

    head: Head | None = None
    kids: tuple[str, ...] = ()
    newest: int = 0
    unread: bool = False
    parted: int | None = None
    agent_keys: tuple[str, ...] = ()


Begin = Callable[[Writing, StoreSurvey], None]
"""Writes into a store after it has taken over another store's content, and before anybody can see it."""


class Replaceable(Protocol):
    """A place where a store is, or where a restoration may put one."""

    @property
    def shown(self) -> str:
        """The place as people may read it, without a password."""
        ...

    def look(self, backup: Reading) -> StoreSurvey:
        """Survey what is there beside a backup, as far as it can be read."""
        ...

    def would_keep(self, there: StoreSurvey, now: int) -> Path | None:
        """The path at which `put` would keep the present content; None if it would keep nothing."""
        ...

    def put(self, reading: Reading, begin: Begin, now: int) -> Path | None:
        """Put another store's content there, all of it or nothing; gives the path at which the old content is kept."""
        ...


def survey(reading: Reading, backup: Reading | None = None) -> StoreSurvey:
    """Survey a store that can be read, beside a backup; Damaged if its head has no valid epoch."""
    head = reading.head()
    if not is_epoch(head.epoch):
        raise Damaged("the head of the store has no valid epoch: restore the store from a backup")
    kids = [str(death.key)[len(KID) :] for death in reading.deaths() if is_lasting(death.key)]
    newest = max((event.at for event in reading.events() if event.kind != "decision"), default=0)
    # A new epoch has to begin later than everything in here, so its own beginning counts even without an event.
    parted = None if backup is None else _parted(reading, backup)
    return StoreSurvey(
        head,
        tuple(filter(is_kid, kids)),
        max(newest, began(head.epoch)),
        parted=parted,
        agent_keys=tuple(dict.fromkeys(revoked_agent_keys(reading))),
    )


def _parted(there: Reading, backup: Reading) -> int | None:
    differs = min(there.head().position, backup.head().position)
    if _hash_at(there, differs) == _hash_at(backup, differs):
        return None
    same = 0
    # Each hash covers all events before it. So what is the same comes first.
    while differs - same > 1:
        middle = (same + differs) // 2
        if _hash_at(there, middle) == _hash_at(backup, middle):
            same = middle
        else:
            differs = middle
    return same


def _hash_at(reading: Reading, position: int) -> bytes | None:
    event = next(reading.events(after=position - 1, limit=1), None) if position else None
    return None if event is None else event.hash


def demand_authority(head: Head, there: StoreSurvey) -> None:
    """Refuse to replace a used store by one of another authority."""
    if (
        there.head is not None
        and there.head.position > 0
        and authority_of(there.head.epoch) != authority_of(head.epoch)
    ):
        raise ConfigurationProblem(
            "this backup is of another store than the one that is there, and the services of that one would never "
            "accept it: give a backup of this store, or restore into another home or database"
        )
