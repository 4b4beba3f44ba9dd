"""The figures of the authority, one after the other; what cannot be measured is told, and the rest goes on."""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Final

from rich.progress import Progress

from capx.store.factory import open_store
from capx.store.sqlite.store import SQLiteStore
from tests.bench.authority import asking, keeping, long_log
from tests.bench.authority.figures import FEED, LAG, POSTGRES, RACE, RETRY, SERVE, SIZE, SQLITE, VIEW, Figure
from tests.bench.authority.lag import measure_lag
from tests.bench.authority.places import Places, bury
from tests.bench.authority.race import measure_races
from tests.bench.authority.retrying import measure_retries
from tests.bench.authority.serving import CONNECTIONS, measure_serve
from tests.bench.authority.size import measure_sizes
from tests.bench.authority.source import Source
from tests.bench.authority.view import measure_views
from tests.bench.measuring import Against, Contender, Row, Unmeasurable, cores, measure, on_cores

_FEW, _MANY = 2_000, 100_000
"""The decisions whose size is measured."""
_RACERS: Final = (1, 16)


class AuthorityPart:
    """A run of this part as it goes on."""

    def __init__(self, options: argparse.Namespace, folder: Path, progress: Progress, stack: ExitStack) -> None:
        self._options = options
        self._progress = progress
        self._places = Places(folder, stack)
        self.rows: list[Row] = []
        self.figures: list[Figure] = []
        self.missing: dict[str, str] = dict(self._places.missing)
        self.file_system = ""
        try:
            self.file_system = self._places.file_systems()
        except Unmeasurable as reason:
            self.missing["file system"] = str(reason)
        if "tmpfs" in self.file_system:
            self.missing["durability"] = "a store is on tmpfs, where to force something to the disk costs nothing"

    def run(self) -> None:
        """Measure all of it."""
        with keeping.tasks(self._places) as contenders:
            self._in_turn("tasks", contenders)
        with keeping.resources(self._places) as contenders, asking.asks(self._places) as asks:
            self._in_turn("keeping", [*contenders, *asks])
        for who in (*self._places.stores, FEED):
            self._try(f"{LAG}: {who}", partial(self._lags, who))
        self._try(RACE, self._races)
        self._try(SIZE, self._sizes)
        self._try(VIEW, self._views)
        self._try(SERVE, self._serve)
        self._try(RETRY, self._retries)

    def grow(self) -> None:
        """Measure what a long log costs."""
        with long_log.long_logs(self._places, self._options.grow) as contenders:
            self._in_turn("a long log", contenders, long_log.against(contenders))

    def _in_turn(self, what: str, contenders: list[Contender], against: Against | None = None) -> None:
        task = self._progress.add_task(what, total=self._options.rounds)
        with on_cores({max(cores())}):
            rows, missing = measure(
                contenders,
                against or keeping.against(contenders),
                rounds=self._options.rounds,
                seconds=self._options.turn,
                told=partial(self._progress.update, task, advance=1, refresh=True),
            )
        self.rows += rows
        self.missing |= missing

    def _lags(self, who: str) -> Iterator[Figure]:
        revocations = self._options.revocations
        with self._places.served() if who == FEED else self._places.authority(who) as place:
            for followers in self._options.followers:
                told = self._told(f"{who}, {followers}", revocations)
                yield measure_lag(place, followers, revocations, told)

    def _races(self) -> list[Figure]:
        rounds = 1 if self._options.quick else 3
        told = self._told(RACE, len(_RACERS) * rounds)
        return measure_races(self._places, _RACERS, self._options.spends, rounds, told)

    def _sizes(self) -> list[Figure]:
        count = _FEW if self._options.quick else _MANY
        return measure_sizes(self._places, count, self._told(SIZE, len(self._places.stores)))

    def _views(self) -> list[Figure]:
        """Of a store in a file that holds the dead, of a database that took them over, and of the file served."""
        files: list[Path] = []

        def fill(store: Path) -> None:
            bury(store, self._options.dead, int(time.time()))
            files.append(store)

        with self._places.served(fill) as served:
            sources = [served.source, Source(SQLITE, str(files[0]), served.source.keys)]
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
            return measure_views(sources[1:] + sources[:1], self._options.dead, rounds, self._told(VIEW, rounds))

    def _serve(self) -> list[Figure]:
        rounds, seconds = (2, 0.1) if self._options.quick else (8, 0.5)
        told = self._told(SERVE, len(CONNECTIONS) * (1 + rounds))
        return measure_serve(self._places, rounds=rounds, seconds=seconds, dead=self._options.dead, told=told)

    def _retries(self) -> list[Figure]:
        agents = self._options.agents
        return measure_retries(self._places, agents, self._told(RETRY, agents))

    def _try(self, what: str, measured: Callable[[], Iterable[Figure]]) -> None:
        try:
            # What was measured before a problem stays.
            for one in measured():
                self.figures.append(one)
        except Unmeasurable as reason:
            self.missing[what] = str(reason)

    def _told(self, what: str, total: int) -> Callable[[], None]:
        task = self._progress.add_task(what, total=total)
        return partial(self._progress.update, task, advance=1, refresh=True)
