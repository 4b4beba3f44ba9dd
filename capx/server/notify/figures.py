"""Figures of the hooks, for Prometheus.

Law: a label is the name of a hook, which the operator's file gives, or a name from the code.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge


class Figures:
    """What became of the notices, and since when each hook waits."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.notices = Counter(
            "capx_notices",
            "Notices to hooks: delivered, failed (a try, which is repeated) and passed_over (too late to tell).",
            ("hook", "outcome"),
            registry=registry,
        )
        self.lag = Gauge(
            "capx_hook_lag_seconds",
            "Seconds since the event of which a hook is to be told next; 0 if it was told of all.",
            ("hook",),
            registry=registry,
        )
