"""Tells whoever runs a service what its guard decides: a log line for each denial, a callback, and a span.

Laws:

- A line of the log and a span hold no argument, no value of the service and no token: only ids, codes, the action and
  the audience. The callback gets the decision as it is recorded, with all its reasons.
- Reporting changes no decision. If a callback or a tracer fails, that is logged, and the request goes on.
"""

import logging
import time
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Final

from capx.verify.decision import Decision

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

OnDecision = Callable[[Decision], None]
"""Gets each decision of a guard. It must not block: it runs where the guard does, perhaps on an event loop."""

LOGGER: Final = "capx.guard"
_log = logging.getLogger(LOGGER)


class Observer:
    """Where a guard reports its decisions."""

    def __init__(self, on_decision: OnDecision | None = None) -> None:
        self._on_decision = on_decision

    def started(self) -> int:
        """The time at which the guard began with a call, for `decided`: Unix time in nanoseconds."""
        return time.time_ns()

    def reporting(self) -> OnDecision:
        """Return `decided` for the decisions about a call that the guard begins with now."""
        return partial(self.decided, started=self.started())

    def decided(self, decision: Decision, started: int) -> None:
        """Report a decision about a call that the guard began with at `started`."""
        if not decision.allowed:
            _log.warning("denied %s: %s, decision %s", decision.action or "a request", decision.code, decision.id)
        for report in (partial(_trace, started), self._on_decision):
            try:
                if report is not None:
                    report(decision)
            except Exception:  # noqa: BLE001 # code of the service, which must change no decision
                _log.exception("the decision %s could not be reported", decision.id)


def _trace(started: int, decision: Decision) -> None:
    if (tracer := _tracer()) is None:
        return
    attributes = {
        "capx.audience": decision.audience,
        "capx.action": decision.action,
        "capx.outcome": decision.outcome,
        "capx.code": decision.code or None,
        "capx.decision": decision.id,
        "capx.task": decision.task,
    }
    stated = {name: value for name, value in attributes.items() if value is not None}
    tracer.start_span("capx.guard", start_time=started, attributes=stated).end()


@cache
def _tracer() -> "Tracer | None":
    """Return the tracer of OpenTelemetry; None if it is not installed."""
    try:
        from opentelemetry.trace import get_tracer
    except ImportError:
        return None
    return get_tracer("capx")
