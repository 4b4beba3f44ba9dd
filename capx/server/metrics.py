"""Figures for Prometheus: requests and their times, the position of the log, and its followers.

Laws:

- A label is a name from the code or of a hook, never text of a request.
- However often somebody scrapes, the store is read at most once in two seconds.
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
"""Seconds for which figures from the store are kept."""
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class StoreStatus(Struct, frozen=True):
    """The figures that are read from the store."""

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
        self._status: StoreStatus | None = None
        self._read_at = -float("inf")
        self.registry = CollectorRegistry()
        """Where further figures of the process are registered."""
        self.requests = Counter(
            "capx_http_requests",
            "Requests answered.",
            ("face", "route", "method", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "capx_http_request_seconds",
            "Seconds to the end of an answer that is no stream.",
            ("face", "route"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.followers = Gauge("capx_followers", "Streams that are open.", ("of",), registry=self.registry)
        self.askers = Gauge(
            "capx_askers_waiting", "Agents whose ask is held back for a person to answer.", registry=self.registry
        )
        self.pages = Counter("capx_feed_pages_signed", "Pages of the feed that were signed.", registry=self.registry)
        self.registry.register(self)

    def count(self, face: str, route: str, method: str, status: int) -> None:
        """Count an answer."""
        self.requests.labels(face, route, method, str(status)).inc()

    def text(self) -> bytes:
        """All figures in Prometheus' text format; may read the store."""
        if time.monotonic() - self._read_at >= KEPT:
            # Before the read, so that a store that fails is not read more often.
            self._read_at = time.monotonic()
            try:
                self._status = store_status(self._authority)
            except StoreProblem:
                self._status = None
        return generate_latest(self.registry)

    def collect(self) -> Iterable[Metric]:
        """The figures of the store; none of them while it cannot be read."""
        watch, status = self._watch, self._status
        yield GaugeMetricFamily("capx_store_readable", "Whether the store could be read.", value=status is not None)
        if watch.head is not None:
            lag = max(0.0, time.monotonic() - watch.looked)
            yield GaugeMetricFamily("capx_feed_lag_seconds", "Seconds since followers' store was looked at.", value=lag)
        if status is None:
            return
        for name, about, value in (
            ("capx_log_position", "Position of the last event of the log.", status.position),
            ("capx_deaths", "Revocations and ends of tasks so far.", status.deaths),
            ("capx_deaths_forgotten", "Revocations and ends of tasks that were pruned.", status.forgotten),
            ("capx_tasks_active", "Tasks that have not ended.", status.active),
            ("capx_followers_unaware", "Followers that have not seen all revocations.", status.unaware),
            ("capx_decisions_unwritten", "The authority's own decisions that wait to be written.", status.waiting),
        ):
            yield GaugeMetricFamily(name, about, value=value)

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering the figures does not read the store."""
        return ()


def store_status(authority: "Authority") -> StoreStatus:
    """Read the figures of the store; StoreProblem when it cannot be read."""
    with authority.store.read() as reading:
        head, active = reading.head(), reading.active()
    return StoreStatus(
        head.position, head.deaths, head.forgotten, active, len(authority.unaware()), authority.unwritten
    )
