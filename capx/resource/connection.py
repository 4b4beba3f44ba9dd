"""What a verifier stands on, from where it is: who died, what was presented, what was decided, what was spent.

    store       a SQLite file or postgresql://… that the authority shares: all four are there
    feed        the authority's own URL: it tells of deaths and takes decisions; what was presented is remembered here
    snapshot    a saved page of the feed, for a service that hears of nothing else: nothing is recorded

Laws: a verifier stands on one of them. Where nothing is shared, nothing is counted, so budgets refuse; and the service
is one process, for its memory of presentations is no other's.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from capx.crypto.keys import AudienceKeys
from capx.errors import ConfigurationProblem
from capx.resource.recorder import StoreRecorder
from capx.resource.replay import Replay
from capx.resource.revocations import StoreLiveness
from capx.verify.meter import Meter
from capx.verify.protocols import NO_RECORDER, Liveness, Recorder
from capx.verify.verifier import MAX_STALENESS, Verifier

if TYPE_CHECKING:
    import ssl

PLACES = {"store": "CAPX_STORE", "feed": "CAPX_FEED", "snapshot": "CAPX_SNAPSHOT"}
"""The places that there are, and the environment variables that name them."""

_TO_TELL = 2.0
_LONGEST_NAME = 128


class Connection(Struct, frozen=True, kw_only=True):
    """What a verifier of one audience stands on; `max_staleness` is in seconds.

    `close` writes the decisions that wait and lets go of threads, files and connections.
    """

    keys: AudienceKeys
    liveness: Liveness
    replay: Replay
    recorder: Recorder
    meter: Meter | None = None
    max_staleness: float = MAX_STALENESS
    closing: tuple[Callable[[], object], ...] = ()

    def verifier(self, **settings: Any) -> Verifier:
        """A verifier that stands on this; `settings` as for `Verifier`."""
        parts: dict[str, Any] = {
            "liveness": self.liveness,
            "replay": self.replay,
            "recorder": self.recorder,
            "meter": self.meter,
            "max_staleness": self.max_staleness,
        }
        return Verifier(self.keys.audience, self.keys, **(parts | settings))

    def close(self) -> None:
        """Write what waits, and let go of everything."""
        for close in self.closing:
            close()


def connect(
    keys: AudienceKeys,
    *,
    store: str | None = None,
    feed: str | None = None,
    snapshot: str | None = None,
    max_staleness: float = MAX_STALENESS,
    tls: "ssl.SSLContext | None" = None,
) -> Connection:
    """What a verifier with these keys stands on, at exactly one of three places.

    `store` is a path or `postgresql://…`, `feed` the URL of an authority that serves, `snapshot` a path.
    `max_staleness` is for how many seconds to go on without news of deaths; of a snapshot, how old it may be. `tls` is
    whom to believe certificates of a feed. ConfigurationProblem for what cannot be meant, StoreProblem when there is no
    store there.
    """
    named = {name for name, place in (("store", store), ("feed", feed), ("snapshot", snapshot)) if place is not None}
    if len(named) != 1:
        raise ConfigurationProblem(
            f"name one place to stand on, a store, a feed or a snapshot: {_so_many(named)} named"
        )
    if not (isfinite(max_staleness) and max_staleness > 0):
        raise ConfigurationProblem(f"news may be a number of seconds old, more than none, and not {max_staleness}")
    if store is not None:
        return _on_store(keys, store, max_staleness)
    if not keys.feed:
        raise ConfigurationProblem(
            f"the keys of {keys.audience} hold none of the feed: export them anew, with capx keys export"
        )
    if feed is not None:
        return _on_feed(keys, feed, max_staleness, tls)
    from capx.resource.feed.snapshot import Snapshot

    return Connection(
        keys=keys,
        liveness=Snapshot(snapshot or "", keys.feed),
        replay=Replay.process(),
        recorder=NO_RECORDER,
        max_staleness=max_staleness,
    )


def connect_from_env(environ: Mapping[str, str] | None = None) -> Connection:
    """What the environment describes.

    CAPX_AUDIENCE names the audience, CAPX_KEY_FILE its key file, and one of CAPX_STORE, CAPX_FEED and CAPX_SNAPSHOT the
    place, as for `connect`; CAPX_MAX_STALENESS is in seconds. ConfigurationProblem names what is missing or too much.
    """
    found = os.environ if environ is None else environ
    audience, key_file = _demanded(found, "CAPX_AUDIENCE"), _demanded(found, "CAPX_KEY_FILE")
    places = {name: found[variable] for name, variable in PLACES.items() if found.get(variable)}
    if len(places) != 1:
        raise ConfigurationProblem(
            f"set one of {', '.join(PLACES.values())}: {_so_many({PLACES[name] for name in places})} set"
        )
    seconds = found.get("CAPX_MAX_STALENESS", "")
    from pathlib import Path

    keys = AudienceKeys.load(Path(key_file), audience)
    return connect(
        keys,
        store=places.get("store"),
        feed=places.get("feed"),
        snapshot=places.get("snapshot"),
        max_staleness=_seconds(seconds) if seconds else MAX_STALENESS,
    )


def _on_store(keys: AudienceKeys, place: str, max_staleness: float) -> Connection:
    from capx.store.factory import is_postgres, open_store

    store = open_store(place)
    recorder = StoreRecorder(store)
    source = store.source()
    if is_postgres(place):
        from capx.resource.feed.follower import Follower
        from capx.store.postgres.death_source import PostgresDeathSource

        if not isinstance(source, PostgresDeathSource):
            raise AssertionError(source)
        follower = Follower(source, sighted=partial(_tell, store.sighted, keys.audience))
        follower.start()
        liveness: Follower | StoreLiveness = follower
    else:
        liveness = StoreLiveness(source)
    return Connection(
        keys=keys,
        liveness=liveness,
        replay=Replay.store(store),
        recorder=recorder,
        meter=store,
        max_staleness=max_staleness,
        closing=(liveness.close, recorder.close, store.close),
    )


def _on_feed(keys: AudienceKeys, url: str, max_staleness: float, tls: "ssl.SSLContext | None") -> Connection:
    from capx.resource.feed.client import FeedSource
    from capx.resource.feed.follower import Follower
    from capx.resource.report_client import ResourceClient

    source = FeedSource(url, keys.feed, tls=tls)
    settings: dict[str, Any] = {} if tls is None else {"verify": tls}
    # What tells how far we are holds up the news: a slow authority is to be told less, not heard less of.
    reports, sightings = (
        ResourceClient(url, keys, **settings),
        ResourceClient(url, keys, timeout=_TO_TELL, **settings),
    )
    recorder = StoreRecorder(reports)
    follower = Follower(source, sighted=partial(_tell, sightings.sighted, keys.audience))
    # From now on: a service that is not asked yet would know nothing when the authority is away at its first call.
    follower.start()
    return Connection(
        keys=keys,
        liveness=follower,
        replay=Replay.process(),
        recorder=recorder,
        max_staleness=max_staleness,
        closing=(follower.close, recorder.close, reports.close, sightings.close),
    )


def _tell(sighted: Callable[..., None], audience: str, deaths: int) -> None:
    """Say under a name of this very process how many deaths it knows."""
    sighted(f"{audience}/{os.getpid()}@{socket.gethostname()}"[:_LONGEST_NAME], deaths, now=int(time.time()))


def _demanded(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise ConfigurationProblem(f"the environment variable {name} is not set")
    return value


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigurationProblem(
            f"CAPX_MAX_STALENESS is a number of seconds, such as 30, and not {text!r:.40}"
        ) from None


def _so_many(names: set[str]) -> str:
    return f"{' and '.join(sorted(names))} are" if names else "none is"
