"""Counts the decisions of a guard for Prometheus. It needs prometheus-client (`pip install prometheus-client`)."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter

from capx.verify.decision import Decision


class DecisionCounter:
    """Counts decisions for Prometheus: `on_decision=DecisionCounter()`.

    The metric is `capx_guard_decisions_total`, with the labels `audience`, `outcome` (`allowed` or `denied`) and `code`
    (of the first reason; empty if allowed). The action is no label, because a bearer may choose it where an application
    takes it from a path.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._counter = Counter(
            "capx_guard_decisions",
            "Decisions of a guard.",
            ("audience", "outcome", "code"),
            registry=registry,
        )

    def __call__(self, decision: Decision) -> None:
        """Count a decision."""
        self._counter.labels(decision.audience, decision.outcome, decision.code).inc()
