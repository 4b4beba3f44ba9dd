"""Limits on open streams: for each kind, and for each machine, or each person.

Laws:

- The number of open streams of one kind is limited. One machine or person gets a part of it, so others have room too.
- A stream beyond the limit is refused before its answer begins.
"""

import contextlib
from collections import Counter
from collections.abc import Generator
from typing import TYPE_CHECKING, Final

from capx.api.problems import HttpRefusal

if TYPE_CHECKING:
    from prometheus_client import Gauge

STREAMS: Final = 400
"""The most streams of one kind that are open at once."""
STREAMS_OF_ONE: Final = STREAMS // 4
"""The most of them from one machine."""
INBOXES: Final = 100
"""The most streams of inboxes that are open at once."""
INBOXES_OF_ONE: Final = 4
"""The most of them of one person."""


class OpenStreams:
    """Counts open streams, and sets their gauge; belongs to one event loop. `which` says whose `of_one` are."""

    def __init__(
        self, shown: "Gauge", *, most: int = STREAMS, of_one: int = STREAMS_OF_ONE, which: str = "from this address"
    ) -> None:
        self._shown = shown
        self._most = most
        self._of_one = of_one
        self._which = which
        self._open: Counter[str] = Counter()
        self._by_owner: Counter[tuple[str, str]] = Counter()

    @contextlib.contextmanager
    def opened(self, kind: str, whose: str | None) -> Generator[None]:
        """A block in which one more stream is open; HttpRefusal when there is no room.

        `whose` is a machine or a person; None on a Unix socket.
        """
        if self._open[kind] >= self._most:
            raise HttpRefusal(503, "unavailable", f"{self._most} streams are already open: try again later")
        if whose is not None and self._by_owner[kind, whose] >= self._of_one:
            which = f"{self._of_one} streams are already open {self._which}"
            raise HttpRefusal(503, "unavailable", f"{which}: try again later")
        owner = None if whose is None else (kind, whose)
        self._count(kind, owner, 1)
        try:
            yield
        finally:
            self._count(kind, owner, -1)

    def _count(self, kind: str, owner: tuple[str, str] | None, change: int) -> None:
        self._open[kind] += change
        self._shown.labels(kind).set(self._open[kind])
        if owner is not None:
            self._by_owner[owner] += change
            if not self._by_owner[owner]:
                del self._by_owner[owner]
