"""What is known of a store whose place another one takes, whatever kind of store it is.

Laws: a store that was used is replaced by one of the same origin alone, whose services would follow no other. What
cannot be read of it any more is said to be unread, and never taken for nothing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from capx.crypto.keys import is_kid
from capx.errors import ConfigurationProblem
from capx.intents.epoch import began, is_epoch, origin_of
from capx.store.protocols import Reading, Writing
from capx.store.records import Damaged, Head
from capx.tokens.revocation_key import KID, is_lasting


class StoreSurvey(Struct, frozen=True):
    """What is known of a store: its head, the keys that were revoked in it, and the last second that it knows of.

    `newest` is the last time at which the authority itself did something in it, in Unix seconds: what resources report
    happened by clocks of their own. `unread`: there is something, and it could not be read to its end.
    """

    head: Head | None = None
    kids: tuple[str, ...] = ()
    newest: int = 0
    unread: bool = False


Begin = Callable[[Writing, StoreSurvey], None]
"""What is written into a store after it took over another one's content, and before anybody sees it."""


class Replaceable(Protocol):
    """A place where a store is, or may be put."""

    @property
    def shown(self) -> str:
        """The place as people may read it."""
        ...

    def look(self) -> StoreSurvey:
        """What is there, as far as it can be read."""
        ...

    def would_keep(self, there: StoreSurvey, now: int) -> Path | None:
        """Where what is there would be kept; None if nothing would be."""
        ...

    def put(self, reading: Reading, begin: Begin, now: int) -> Path | None:
        """Put another store's content there, all of it or nothing; gives where what was there is kept."""
        ...


def survey(reading: Reading) -> StoreSurvey:
    """What there is to know of a store that can be read; Damaged if its head says nothing that can be so."""
    head = reading.head()
    if not is_epoch(head.epoch):
        raise Damaged("the head of the store names no epoch: restore it from a backup")
    kids = [str(death.key)[len(KID) :] for death in reading.deaths() if is_lasting(death.key)]
    newest = max((event.at for event in reading.events() if event.kind != "decision"), default=0)
    return StoreSurvey(head, tuple(filter(is_kid, kids)), max(newest, began(head.epoch)))


def demand_origin(head: Head, there: StoreSurvey) -> None:
    """Refuse to replace a store that was used by one of another origin."""
    if there.head is not None and there.head.position > 0 and origin_of(there.head.epoch) != origin_of(head.epoch):
        raise ConfigurationProblem(
            "this backup is of another store than the one that is there, whose services would refuse it for good: "
            "give a backup of this store, or a home or database of its own"
        )
