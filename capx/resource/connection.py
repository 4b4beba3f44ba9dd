"""Makes the parts of a verifier from one place: revocations, presentations, decisions, budgets.

    store       a SQLite file or postgresql://… that the service shares with the authority: it has all four
    feed        the URL of an authority: it has three of them; the service remembers presentations
    snapshot    a saved page of the feed, for a service without a network: only a ledger records its decisions

Laws: a verifier uses exactly one of these places, and the place must be of the authority that the keys name. With a
snapshot nothing counts what was spent, so tokens with budgets are denied. Without a shared store the service must be
one process, because it shares its memory of presentations with no other. With a ledger, decisions are written there,
and to no store and no authority.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

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

    from capx.ledger import LedgerFile
    from capx.store.protocols import Store

PLACES = {"store": "CAPX_STORE", "feed": "CAPX_FEED", "snapshot": "CAPX_SNAPSHOT"}
"""The three places, and the environment variable for each."""

# Seconds for the report of a sighting. It runs in the thread that receives revocations, so it must not hold them up.
_SIGHTING_SECONDS = 2.0
# Seconds for one try of a payment. A call waits for at most two tries.
_PAYMENT_SECONDS = 5.0
# The authority keeps labels, and a label has at most so many characters.
_LONGEST_NAME = 128


class Connection(Struct, frozen=True, kw_only=True):
    """The parts of a verifier of one audience; `max_staleness` is in seconds.

    `close` writes the decisions that wait, and closes threads, files and connections.
    """

    keys: AudienceKeys
    liveness: Liveness
    replay: Replay
    recorder: Recorder
    meter: Meter | None = None
    max_staleness: float = MAX_STALENESS
    closing: tuple[Callable[[], object], ...] = ()

    def verifier(self, **settings: Any) -> Verifier:
        """Make a verifier from these parts; `settings` as for `Verifier`, and they override the parts."""
        parts: dict[str, Any] = {
            "liveness": self.liveness,
            "replay": self.replay,
            "recorder": self.recorder,
            "meter": self.meter,
            "max_staleness": self.max_staleness,
        }
        return Verifier(self.keys.audience, self.keys, **(parts | settings))

    def close(self) -> None:
        """Write the decisions that wait, and close everything."""
        for close in self.closing:
            close()


def connect(
    keys: AudienceKeys,
    *,
    store: str | None = None,
    feed: str | None = None,
    snapshot: str | None = None,
    ledger: "LedgerFile | None" = None,
    spool: str | None = None,
    max_staleness: float = MAX_STALENESS,
    tls: "ssl.SSLContext | None" = None,
) -> Connection:
    """Make the parts of a verifier with these keys, from exactly one of three places.

    `store` is a path or `postgresql://…`, `feed` the URL of an authority that serves, `snapshot` a path. With `ledger`,
    decisions are written to that file (capx.ledger), and to no store and no authority. `spool` is a folder: a service
    on the feed keeps there what it could not report when it ends, and the next process with this folder reports it.
    `max_staleness` is for how many seconds the service works without news of revocations; for a snapshot, how old it
    may be. `tls` says which certificates of a feed to trust. Raises ConfigurationProblem for settings that make no
    sense or a place of another authority than the keys, and StoreProblem if there is no store at that place. A feed is
    first read later: if it is another's, the service gets no news, and denies everything.
    """
    named = {name for name, place in (("store", store), ("feed", feed), ("snapshot", snapshot)) if place is not None}
    if len(named) != 1:
        raise ConfigurationProblem(f"a verifier needs exactly one store, feed or snapshot: {_listed(named)} named")
    if not (isfinite(max_staleness) and max_staleness > 0):
        # Infinity would let a service that lost its place accept revoked tokens for ever.
        raise ConfigurationProblem(f"max_staleness must be a positive number of seconds, not {max_staleness}")
    if spool is not None and (feed is None or ledger is not None):
        raise ConfigurationProblem("a spool is for a service that reports its decisions to a feed: name no spool here")
    if store is not None:
        connection = _on_store(keys, store, max_staleness)
    elif not keys.feed:
        raise ConfigurationProblem(f"the key file of {keys.audience} has no feed keys: run capx keys export again")
    elif feed is not None:
        connection = _on_feed(keys, feed, max_staleness, tls, spool)
    else:
        connection = _on_snapshot(keys, snapshot or "", max_staleness)
    if ledger is None:
        return connection
    recorder = StoreRecorder(ledger)
    # The ledger last: the recorder still writes to it.
    return structs.replace(connection, recorder=recorder, closing=(*connection.closing, recorder.close, ledger.close))


def connect_from_env(environ: Mapping[str, str] | None = None) -> Connection:
    """Make the parts of a verifier that the environment describes.

    CAPX_AUDIENCE names the audience and CAPX_KEY_FILE its key file. One of CAPX_STORE, CAPX_FEED and CAPX_SNAPSHOT
    names the place, as for `connect`. CAPX_LEDGER may name the file of a ledger, and CAPX_LEDGER_KEY_FILE the key that
    signs it. CAPX_SPOOL may name the folder of a spool. CAPX_MAX_STALENESS is in seconds. Raises ConfigurationProblem,
    which names what is missing or what is set twice.
    """
    found = os.environ if environ is None else environ
    audience, key_file = _demanded(found, "CAPX_AUDIENCE"), _demanded(found, "CAPX_KEY_FILE")
    places = {name: found[variable] for name, variable in PLACES.items() if found.get(variable)}
    if len(places) != 1:
        raise ConfigurationProblem(
            f"set exactly one of {', '.join(PLACES.values())}: {_listed({PLACES[name] for name in places})} set"
        )
    seconds = found.get("CAPX_MAX_STALENESS", "")
    from pathlib import Path

    keys = AudienceKeys.load(Path(key_file), audience)
    return connect(
        keys,
        store=places.get("store"),
        feed=places.get("feed"),
        snapshot=places.get("snapshot"),
        ledger=_ledger(found),
        spool=found.get("CAPX_SPOOL") or None,
        max_staleness=_seconds(seconds) if seconds else MAX_STALENESS,
    )


def _ledger(found: Mapping[str, str]) -> "LedgerFile | None":
    if not (found.get("CAPX_LEDGER") or found.get("CAPX_LEDGER_KEY_FILE")):
        return None
    from capx.ledger import LedgerFile, LedgerKey

    path, key_file = _demanded(found, "CAPX_LEDGER"), _demanded(found, "CAPX_LEDGER_KEY_FILE")
    return LedgerFile(path, LedgerKey.load(key_file))


def _on_store(keys: AudienceKeys, place: str, max_staleness: float) -> Connection:
    from capx.store.factory import is_postgres, open_store

    store = open_store(place)
    try:
        _demand_authority(keys, store)
    except BaseException:
        store.close()
        raise
    recorder = StoreRecorder(store)
    source = store.source()
    if is_postgres(place):
        from capx.resource.feed.follower import Follower
        from capx.store.postgres.death_source import PostgresDeathSource

        if not isinstance(source, PostgresDeathSource):
            raise AssertionError(source)
        # A thread follows a database: a look at each call would add its network to every decision.
        follower = Follower(source, sighted=partial(_report_sighting, store.sighted, keys.audience))
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
        # The store last: the recorder still writes to it.
        closing=(liveness.close, recorder.close, store.close),
    )


def _on_feed(
    keys: AudienceKeys, url: str, max_staleness: float, tls: "ssl.SSLContext | None", spool: str | None
) -> Connection:
    from capx.resource.feed.client import FeedSource
    from capx.resource.feed.follower import Follower
    from capx.resource.report_client import ResourceClient
    from capx.resource.spool import Spool

    source = FeedSource(url, keys.feed, authority=keys.authority, tls=tls, proven_by=keys)
    settings: dict[str, Any] = {} if tls is None else {"verify": tls}
    # Three clients, because two of them must be quick. A payment delays a call, and a sighting the end of a service.
    reports, sightings, payments = (
        ResourceClient(url, keys, **settings),
        ResourceClient(url, keys, timeout=_SIGHTING_SECONDS, **settings),
        ResourceClient(url, keys, timeout=_PAYMENT_SECONDS, **settings),
    )
    # After all that can fail: it takes over files, and locks them.
    kept = None if spool is None else Spool(spool, keys)
    # Longer than for a store: a request over HTTP costs as much as to write a hundred decisions.
    recorder = StoreRecorder(reports, together=0.1, spool=kept)
    if kept is not None:
        kept.take_over(reports.record)
    follower = Follower(source, sighted=partial(_report_sighting, sightings.sighted, keys.audience))
    # Follow from now on, not from the first call: the authority may be away at that time.
    follower.start()
    return Connection(
        keys=keys,
        liveness=follower,
        replay=Replay.process(),
        recorder=recorder,
        meter=payments,
        max_staleness=max_staleness,
        closing=(follower.close, recorder.close, reports.close, sightings.close, payments.close),
    )


def _on_snapshot(keys: AudienceKeys, place: str, max_staleness: float) -> Connection:
    from capx.resource.feed.page import PageOfAnother
    from capx.resource.feed.snapshot import Snapshot

    liveness = Snapshot(place, keys.feed, authority=keys.authority)
    liveness.age()
    if isinstance(liveness.problem, PageOfAnother):
        raise ConfigurationProblem(str(liveness.problem))
    replay = Replay.process()
    return Connection(keys=keys, liveness=liveness, replay=replay, recorder=NO_RECORDER, max_staleness=max_staleness)


def _demand_authority(keys: AudienceKeys, store: "Store") -> None:
    if keys.authority not in {None, found := store.authority()}:
        raise ConfigurationProblem(
            f"the keys of {keys.audience} are those of authority {keys.authority}, and the store {store.place} is that "
            f"of {found}, which does not know what was revoked under them: give the store of the authority that "
            "exported the keys"
        )


def _report_sighting(sighted: Callable[..., None], audience: str, deaths: int) -> None:
    """Report how many deaths this process knows."""
    # The name has the process id: each process of a service follows by itself, and one of them may lag.
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
        raise ConfigurationProblem(f"CAPX_MAX_STALENESS must be seconds, such as 30, not {text!r:.40}") from None


def _listed(names: set[str]) -> str:
    return f"{' and '.join(sorted(names))} are" if names else "none is"
