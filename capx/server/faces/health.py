"""Whether the authority lives, whether it can do its work, and figures about it.

Laws: that it lives is said without a look at the store, however slow that is. What looks at the store looks once in a
while, however often it is asked: whoever reaches this face could ask.
"""

import time
from typing import Final

from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.routing import Route

from capx.api.operation import OperationTable
from capx.server.operation import route
from capx.server.service import Service

OPERATIONS: Final = OperationTable()
"""What whoever watches over the authority can ask for."""
operation = OPERATIONS.operation

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


@operation("GET", "/healthz", instant=True)
def healthz(service: Service) -> Alive:
    """Whether this process answers."""
    del service
    return Alive()


@operation("GET", "/readyz")
def readyz(service: Service) -> Ready:
    """Whether the store can be read and written, and where its log stands; 503 says that they cannot."""
    found = service.ready
    if found is None or time.monotonic() - found[0] >= KEPT:
        # Alone with the log, as whatever is written has to be.
        with service.authority.store.write() as transaction:
            head = transaction.head()
        found = time.monotonic(), head
        service.ready = found
    head = found[1]
    return Ready(head.epoch, head.position, head.deaths)


@operation("GET", "/metrics", answers=None, media=CONTENT_TYPE_LATEST)
def metrics(service: Service) -> bytes:
    """Figures in Prometheus' text format."""
    return service.metrics.text()


def routes(service: Service) -> list[Route]:
    """The routes of what whoever watches over the authority can ask for."""
    return [route(one, service, service, service.watchers) for one in OPERATIONS]
