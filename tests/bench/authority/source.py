"""What a process needs to follow an authority, and the view of deaths that a service has there."""

import time
from pathlib import Path
from typing import Any, Self

from msgspec import Struct

from capx import AudienceKeys, Replay, StoreLiveness
from capx.resource.feed.follower import Follower
from tests.bench.authority.figures import FEED, SQLITE


class Source(Struct, frozen=True):
    """Where an authority is, and the file of a resource's keys."""

    who: str
    address: str
    keys: Path

    @classmethod
    def told(cls, settings: dict[str, Any]) -> Self:
        """What `settings` said, in another process."""
        return cls(settings["who"], settings["address"], Path(settings["keys"]))

    def settings(self) -> dict[str, str]:
        """The same for a process that is started."""
        return {"who": self.who, "address": self.address, "keys": str(self.keys)}

    def view(self) -> StoreLiveness | Follower:
        """A file is looked at when a verifier is asked; a database and `capx serve` tell a thread."""
        if self.who == SQLITE:
            return StoreLiveness(self.address)
        if self.who == FEED:
            from capx.resource.feed.client import FeedSource

            return Follower(FeedSource(self.address, AudienceKeys.load(self.keys).feed))
        from capx.store.postgres.death_source import PostgresDeathSource

        return Follower(PostgresDeathSource(self.address))


def remembering() -> Replay:
    """What a process that has run for an hour remembers of presentations: it takes what is presented at once."""
    an_hour_ago = time.time() - 3600
    return Replay.process(10_000_000, clock=lambda: an_hour_ago)
