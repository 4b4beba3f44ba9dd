"""A fresh process that reads all deaths there are: how long that took, and what the view takes of its memory.

Memory is what is this process's alone (USS), and at most, while the view was read, what was resident (RSS): both from
`/proc`, as what they grew by since all that it needs was imported.
"""

import gc
import statistics
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from capx.store.factory import open_store
from capx.store.sqlite.store import SQLiteStore
from tests.bench.authority.child import Child, heard, say
from tests.bench.authority.figures import MEGABYTES, PEAK, POSTGRES, SECONDS, SQLITE, VIEW, Figure, figure
from tests.bench.authority.places import Places, bury
from tests.bench.authority.source import Source
from tests.bench.findings import Findings
from tests.bench.measuring import Unmeasurable

_PATIENCE: Final = 120.0
_PRIVATE: Final = ("Private_Clean", "Private_Dirty")


def measure_views(found: Findings, places: Places) -> Iterator[Figure]:
    """The view of each source, in some fresh processes in turn; medians."""
    dead, rounds = found.options.dead, 1 if found.options.quick else 3
    told = found.told(VIEW, rounds)
    with _sources(places, dead) as sources:
        read: dict[str, list[dict[str, float]]] = {source.who: [] for source in sources}
        for _ in range(rounds):
            for source in sources:
                read[source.who].append(_read(source, dead))
            told()
    for who, each in read.items():
        yield figure(VIEW, who, dead, {name: statistics.median(one[name] for one in each) for name in each[0]})


@contextmanager
def _sources(places: Places, dead: int) -> Generator[list[Source]]:
    """A store in a file that holds the dead, a database that took them over, and the file served."""
    files: list[Path] = []

    def fill(store: Path) -> None:
        bury(store, dead, int(time.time()))
        files.append(store)

    with places.served(fill) as served:
        sources = [Source(SQLITE, str(files[0]), served.source.keys)]
        if POSTGRES in places.stores:
            address = places.new(POSTGRES)
            with (
                closing(SQLiteStore(files[0])) as old,
                closing(open_store(address)) as new,
                old.read() as reading,
                new.write() as writing,
            ):
                writing.adopt(reading)
            sources.append(Source(POSTGRES, address, served.source.keys))
        yield [*sources, served.source]


def _read(source: Source, dead: int) -> dict[str, float]:
    if not Path("/proc/self/smaps_rollup").exists():
        raise Unmeasurable("what memory is a process's own is not told here")
    with Child("tests.bench.authority.view", **source.settings()) as child:
        said = child.hear()
    if said.pop("dead") != dead:
        raise Unmeasurable(f"the view of {source.who} does not hold the {dead} dead")
    return dict(said)


def _of_memory(file: str, *names: str) -> float:
    """Megabytes (10^6 bytes) that the kernel tells of this process under these names."""
    lines = Path("/proc/self", file).read_text(encoding="utf-8").splitlines()
    found = {name.strip(): value for name, _, value in (line.partition(":") for line in lines)}
    return sum(int(found[name].split()[0]) for name in names) * 1024 / 1e6


def main() -> None:
    """Read, and say what it took."""
    settings = next(heard())
    liveness = Source.told(settings).view()
    gc.collect()
    own, resident = _of_memory("smaps_rollup", *_PRIVATE), _of_memory("status", "VmRSS")
    began = time.perf_counter()
    # A question waits for the first news, a second at most.
    while liveness.age() > _PATIENCE:
        if liveness.problem is not None or time.perf_counter() - began > _PATIENCE:
            say({"problem": f"nothing is heard of who died: {liveness.problem}"})
            return
        time.sleep(0.005)
    took = time.perf_counter() - began
    gc.collect()
    say(
        {
            MEGABYTES: _of_memory("smaps_rollup", *_PRIVATE) - own,
            PEAK: _of_memory("status", "VmHWM") - resident,
            SECONDS: took,
            "dead": len(liveness.deaths),
        }
    )


if __name__ == "__main__":
    main()
