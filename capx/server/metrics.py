"""Figures for Prometheus: what was asked, how long it took, where the log and its followers stand.

Laws: a label is a name from the code, never text of a request. What a scrape reads from the store is read at most once
in a few seconds, however often it is asked for.
"""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from capx.errors import StoreProblem

if TYPE_CHECKING:
    from capx.authority.authority import Authority
    from capx.server.waiting.head_watch import HeadWatch

KEPT: Final = 2.0
"""Seconds for which what was read from the store is told again."""
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class StoreStatus(Struct, frozen=True):
    """Where a store stands."""

    position: int
    deaths: int
    forgotten: int
    active: int
    unaware: int
    waiting: int


class Metrics(Collector):
    """The figures of one service."""

    def __init__(self, authority: "Authority", watch: "HeadWatch") -> None:
        self._authority, self._watch = authority, watch
        self._stand: StoreStatus | None = None
        self._read_at = -float("inf")
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "capx_http_requests",
            "Requests answered.",
            ("face", "route", "method", "status"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "capx_http_request_seconds",
            "Seconds to the end of an answer that is no stream.",
            ("face", "route"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.followers = Gauge("capx_followers", "Streams that are open.", ("of",), registry=self._registry)
        self.askers = Gauge(
            "capx_askers_waiting", "Agents whose ask is held back for a person to answer.", registry=self._registry
        )
        self.pages = Counter("capx_feed_pages_signed", "Pages of the feed that were signed.", registry=self._registry)
        self._registry.register(self)

    def text(self) -> bytes:
        """All figures in Prometheus' text format; may read the store."""
        if time.monotonic() - self._read_at >= KEPT:
            self._read_at = time.monotonic()
            try:
                self._stand = store_status(self._authority)
            except StoreProblem:
                self._stand = None
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """What is known of the store, and nothing of it while it cannot be read."""
        watch, stand = self._watch, self._stand
        yield GaugeMetricFamily("capx_store_readable", "Whether the store could be read.", value=stand is not None)
        if watch.head is not None:
            lag = max(0.0, time.monotonic() - watch.looked)
            yield GaugeMetricFamily("capx_feed_lag_seconds", "Seconds since followers' store was looked at.", value=lag)
        if stand is None:
            return
        for name, about, value in (
            ("capx_log_position", "Position of the last event of the log.", stand.position),
            ("capx_deaths", "Deaths there were.", stand.deaths),
            ("capx_deaths_forgotten", "Deaths that are forgotten.", stand.forgotten),
            ("capx_tasks_active", "Tasks that nobody has ended.", stand.active),
            ("capx_followers_unaware", "Followers that have not seen all that is dead.", stand.unaware),
            ("capx_decisions_unwritten", "The authority's own decisions that wait to be written.", stand.waiting),
        ):
            yield GaugeMetricFamily(name, about, value=value)

    def describe(self) -> Iterable[Metric]:
        """Nothing: what is told of the store is not known beforehand."""
        return ()


def store_status(authority: "Authority") -> StoreStatus:
    """Where the store of an authority stands; StoreProblem when it cannot be read."""
    with authority.store.read() as reading:
        head, active = reading.head(), reading.active()
    return StoreStatus(
        head.position, head.deaths, head.forgotten, active, len(authority.unaware()), authority.unwritten
    )
