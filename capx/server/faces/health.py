"""Health and metrics: does the process answer, can it read and write its store, and figures about it.

Laws:

- `/healthz` does not read the store, so a slow store does not fail it.
- Whoever asks within a moment gets the same answer of `/readyz`, and of `/metrics`. Everybody on the network can call
  them, and must not be able to load the store, or to keep the other one waiting.
"""

from typing import Final

from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.routing import Route

from capx.api.operation import OperationTable
from capx.server.operation import route
from capx.server.service import Service
from capx.store.continuity import unconfirmed
from capx.store.records import Standbys

OPERATIONS: Final = OperationTable()
"""All operations of monitoring."""
operation = OPERATIONS.operation


class Alive(Struct, frozen=True):
    """The answer of a running process."""

    alive: bool = True


class Ready(Struct, frozen=True):
    """The answer of an authority whose store can be read and written, with the last position and number of deaths.

    `standbys` says for how many standbys of a database each commit waits; null if the store is a file.
    """

    epoch: str
    position: int
    deaths: int
    standbys: Standbys | None


@operation("GET", "/healthz")
def healthz(service: Service) -> Alive:
    """Whether this process answers."""
    del service
    return Alive()


@operation("GET", "/readyz")
def readyz(service: Service) -> Ready:
    """Whether the store can be read and written; if not, the answer is 503."""
    store = service.authority.store
    with store.read() as reading:
        # Before a write, which would hang as the beats do.
        if (problem := unconfirmed(reading.confirmation_age())) is not None:
            raise problem
    # A full disk refuses no transaction that writes nothing, and a database that is read-only takes beats.
    with store.write() as transaction:
        transaction.probe()
        head = transaction.head()
    return Ready(head.epoch, head.position, head.deaths, store.standbys())


@operation("GET", "/metrics", answers=None, media=CONTENT_TYPE_LATEST)
def metrics(service: Service) -> bytes:
    """The figures, in the text format of Prometheus."""
    return service.metrics.text()


def routes(service: Service) -> list[Route]:
    """The routes of all operations of monitoring."""
    threads = {healthz: None, readyz: service.ready, metrics: service.scrapes}
    return [route(one, service, service, threads[one]) for one in OPERATIONS]
