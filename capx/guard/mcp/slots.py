"""How many requests of HTTP are served at once.

Law: requests in which the gate judges no presentation get half of the slots, so strangers cannot lock out those who
present.
"""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext

from capx.api.jsonrpc import Request
from capx.api.mcp_messages import OPEN, PRESENTATION, meta_of


class NoSlot(Exception):
    """All slots are taken."""


class Slots:
    """A number of slots for what a text says, such as `requests`."""

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._taken = 0

    @contextmanager
    def one(self) -> Generator[None]:
        """Hold a slot; raises NoSlot."""
        if self._taken >= self._most:
            raise NoSlot(f"{self._most} {self._what} are being served already: wait for an answer, then try again")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


class RequestSlots:
    """The slots for requests; one without a presentation takes one of the half for strangers too."""

    def __init__(self, most: int) -> None:
        self._all = Slots(most, "requests")
        self._strangers = Slots(max(1, most // 2), "requests without a presentation")

    @contextmanager
    def one(self, request: Request) -> Generator[None]:
        """Hold the slot of a request; raises NoSlot."""
        with self._all.one(), nullcontext() if is_judged(request) else self._strangers.one():
            yield


def is_judged(request: Request) -> bool:
    """Whether the gate judges a presentation of this request: in an open method, it looks at none."""
    return request.method not in OPEN and isinstance(meta_of(request.params).get(PRESENTATION), str)
