"""Whether the authority lives, whether it can do its work, and figures about it.

Laws: that it lives is said without a look at the store, however slow that is. What looks at the store looks once in a
while, however often it is asked: whoever reaches this face could ask.
"""

import time
from typing import Final

from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST

from capx.server.operation import Operation
from capx.server.service import Service

KEPT: Final = 1.0
"""Seconds for which a good answer is told again."""


class Alive(Struct, frozen=True):
    """That this process answers."""

    alive: bool = True


class Ready(Struct, frozen=True):
    """That the store can be read and written, and where its log stands."""

    epoch: str
    position: int
    deaths: int


def _alive(service: Service) -> Alive:
    del service
    return Alive()


def _ready(service: Service) -> Ready:
    found = service.ready
    if found is None or time.monotonic() - found[0] >= KEPT:
        # Alone with the log, as whatever is written has to be.
        with service.authority.store.write() as transaction:
            head = transaction.head()
        found = time.monotonic(), head
        service.ready = found
    head = found[1]
    return Ready(head.epoch, head.position, head.deaths)


def _metrics(service: Service) -> bytes:
    return service.metrics.text()


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/healthz",
        name="healthz",
        about="Whether this process answers.",
        act=_alive,
        answers=Alive,
        instant=True,
    ),
    Operation(
        method="GET",
        path="/readyz",
        name="readyz",
        about="Whether the store can be read and written, and where its log stands; 503 says that they cannot.",
        act=_ready,
        answers=Ready,
    ),
    Operation(
        method="GET",
        path="/metrics",
        name="metrics",
        about="Figures in Prometheus' text format.",
        act=_metrics,
        media=CONTENT_TYPE_LATEST,
    ),
)
"""What whoever watches over the authority can ask for."""
