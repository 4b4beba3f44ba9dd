"""How many streams are open: of each kind, and from each machine.

Laws: there are so many of a kind at once, and a machine has so many of them that others find room beside it. One that
finds none is told so before its answer begins.
"""

import contextlib
from collections import Counter
from collections.abc import Generator
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final

from capx.api.problems import HttpRefusal

if TYPE_CHECKING:
    from prometheus_client import Gauge

STREAMS: Final = 400
"""Streams of one kind that are open at once."""
STREAMS_OF_ONE: Final = STREAMS // 4
"""Those of them that one machine may have open."""


class OpenStreams:
    """Counts streams while they are open, and shows how many there are; belongs to one event loop."""

    def __init__(self, shown: "Gauge") -> None:
        self._shown = shown
        self._open: Counter[str] = Counter()
        self._by_machine: Counter[tuple[str, str]] = Counter()

    @contextlib.contextmanager
    def opened(self, kind: str, machine: str | None) -> Generator[None]:
        """A block in which one more is open; HttpRefusal when there is no room. On a Unix socket is no machine."""
        if self._open[kind] >= STREAMS:
            raise HttpRefusal(503, "unavailable", f"{STREAMS} streams are open already: try again later")
        whose = None if machine is None else (kind, machine)
        if whose is not None and self._by_machine[whose] >= STREAMS_OF_ONE:
            raise HttpRefusal(
                503, "unavailable", f"{STREAMS_OF_ONE} streams are open from this address already: try again later"
            )
        self._count(kind, whose, 1)
        try:
            yield
        finally:
            self._count(kind, whose, -1)

    def _count(self, kind: str, whose: tuple[str, str] | None, change: int) -> None:
        self._open[kind] += change
        self._shown.labels(kind).set(self._open[kind])
        if whose is not None:
            self._by_machine[whose] += change
            if not self._by_machine[whose]:
                del self._by_machine[whose]


def machine_at(host: str) -> str:
    """What stands for a machine: its IPv4 address, or the /64 of its IPv6 address, in which it may choose any."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((address.packed, 64), strict=False))
