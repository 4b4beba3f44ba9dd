"""The figures of the authority, one after the other; what cannot be measured is told, and the rest goes on."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Final

from capx.store.factory import open_store
from capx.store.sqlite.store import SQLiteStore
from tests.bench.authority import asking, keeping, long_log
from tests.bench.authority.figures import FEED, LAG, POSTGRES, RACE, RETRY, SERVE, SIZE, SQLITE, VIEW, Figure
from tests.bench.authority.lag import measure_lag
from tests.bench.authority.places import Places, bury
from tests.bench.authority.race import measure_races
from tests.bench.authority.retrying import measure_retries
from tests.bench.authority.serving import measure_serve
from tests.bench.authority.size import measure_sizes
from tests.bench.authority.source import Source
from tests.bench.authority.view import measure_views
from tests.bench.findings import Findings
from tests.bench.measuring import Unmeasurable

_FEW, _MANY = 2_000, 100_000
"""The decisions whose size is measured."""
_RACERS: Final = (1, 16)


class AuthorityPart:
    """A run of this part as it goes on."""

    def __init__(self, found: Findings, folder: Path, stack: ExitStack) -> None:
        self._found = found
        self._options = found.options
        self._places = Places(folder, stack)
        found.missing |= self._places.missing
        self.file_system = ""
        try:
            self.file_system = self._places.file_systems()
        except Unmeasurable as reason:
            found.missing["file system"] = str(reason)
        if "tmpfs" in self.file_system:
            found.missing["durability"] = "a store is on tmpfs, where to force something to the disk costs nothing"

    def run(self) -> None:
        """Measure all of it."""
        with keeping.tasks(self._places) as contenders:
            self._found.in_turn("tasks", contenders)
        with keeping.resources(self._places) as contenders, asking.asks(self._places) as asks:
            self._found.in_turn("keeping", [*contenders, *asks])
        for who in (*self._places.stores, FEED):
            self._found.attempt(f"{LAG}: {who}", partial(self._lags, who))
        steps = {RACE: self._races, SIZE: self._sizes, VIEW: self._views, SERVE: self._serve, RETRY: self._retries}
        for what, measured in steps.items():
            self._found.attempt(what, measured)

    def grow(self) -> None:
        """Measure what a long log costs."""
        with long_log.long_logs(self._places, self._options.grow) as contenders:
            self._found.in_turn("a long log", contenders)

    def _lags(self, who: str) -> Iterator[Figure]:
        revocations = self._options.revocations
        with self._places.served() if who == FEED else self._places.authority(who) as place:
            for followers in self._options.followers:
                told = self._found.told(f"{who}, {followers}", revocations)
                yield measure_lag(place, followers, revocations, told)

    def _races(self) -> Iterator[Figure]:
        rounds = 1 if self._options.quick else 3
        told = self._found.told(RACE, len(_RACERS) * rounds)
        for count in _RACERS:
            yield from measure_races(self._places, count, self._options.spends, rounds, told)

    def _sizes(self) -> Iterator[Figure]:
        count = _FEW if self._options.quick else _MANY
        return measure_sizes(self._places, count, self._found.told(SIZE, len(self._places.stores)))

    def _views(self) -> list[Figure]:
        """Of a store in a file that holds the dead, of a database that took them over, and of the file served."""
        files: list[Path] = []

        def fill(store: Path) -> None:
            bury(store, self._options.dead, int(time.time()))
            files.append(store)

        with self._places.served(fill) as served:
            sources = [Source(SQLITE, str(files[0]), served.source.keys)]
            if POSTGRES in self._places.stores:
                address = self._places.new(POSTGRES)
                with (
                    closing(SQLiteStore(files[0])) as old,
                    closing(open_store(address)) as new,
                    old.read() as reading,
                    new.write() as writing,
                ):
                    writing.adopt(reading)
                sources.append(Source(POSTGRES, address, served.source.keys))
            rounds = 1 if self._options.quick else 3
            told = self._found.told(VIEW, rounds)
            return measure_views([*sources, served.source], self._options.dead, rounds, told)

    def _serve(self) -> list[Figure]:
        return measure_serve(self._found, self._places)

    def _retries(self) -> list[Figure]:
        agents = self._options.agents
        return measure_retries(self._places, agents, self._found.told(RETRY, agents))
