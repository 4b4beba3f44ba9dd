"""The figures of the authority, one after the other; what cannot be measured is told, and the rest goes on."""

from functools import partial
from typing import Final

from tests.bench.authority import asking, keeping, long_log
from tests.bench.authority.figures import FEED, LAG, RACE, RETRY, SERVE, SIZE, VIEW
from tests.bench.authority.lag import measure_lags
from tests.bench.authority.places import Places
from tests.bench.authority.race import measure_races
from tests.bench.authority.retrying import measure_retries
from tests.bench.authority.serving import measure_serve
from tests.bench.authority.size import measure_sizes
from tests.bench.authority.view import measure_views
from tests.bench.findings import Findings
from tests.bench.measuring import Unmeasurable

_STEPS: Final = {
    RACE: measure_races,
    SIZE: measure_sizes,
    VIEW: measure_views,
    SERVE: measure_serve,
    RETRY: measure_retries,
}


def measure_authority(found: Findings, places: Places) -> None:
    """Measure all of it."""
    with keeping.tasks(places) as contenders:
        found.in_turn("tasks", contenders)
    with keeping.resources(places) as contenders, asking.asks(places) as asks:
        found.in_turn("keeping", [*contenders, *asks])
    for who in (*places.stores, FEED):
        found.attempt(f"{LAG}: {who}", partial(measure_lags, found, places, who))
    for what, measured in _STEPS.items():
        found.attempt(what, partial(measured, found, places))


def measure_growth(found: Findings, places: Places) -> None:
    """Measure what a long log costs."""
    with long_log.long_logs(places, found.options.grow) as contenders:
        found.in_turn("a long log", contenders)


def file_system(found: Findings, places: Places) -> str:
    """What the stores are on; empty where nobody tells."""
    try:
        told = places.file_systems()
    except Unmeasurable as reason:
        found.missing["file system"] = str(reason)
        return ""
    if "tmpfs" in told:
        found.missing["durability"] = "a store is on tmpfs, where to force something to the disk costs nothing"
    return told
