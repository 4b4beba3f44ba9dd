"""Limits on open streams: for each kind, and for each machine.

Laws:

- The number of open streams of one kind is limited. One machine gets a part of it, so others have room too.
- A stream beyond the limit is refused before its answer begins.
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
"""The most streams of one kind that are open at once."""
STREAMS_OF_ONE: Final = STREAMS // 4
"""The most of them from one machine."""


class OpenStreams:
    """Counts open streams, and sets their gauge; belongs to one event loop."""

    def __init__(self, shown: "Gauge") -> None:
        self._shown = shown
        self._open: Counter[str] = Counter()
        self._by_machine: Counter[tuple[str, str]] = Counter()

    @contextlib.contextmanager
    def opened(self, kind: str, machine: str | None) -> Generator[None]:
        """A block in which one more stream is open; HttpRefusal when there is no room.

        `machine` is None on a Unix socket.
        """
        if self._open[kind] >= STREAMS:
            raise HttpRefusal(503, "unavailable", f"{STREAMS} streams are already open: try again later")
        if machine is not None and self._by_machine[kind, machine] >= STREAMS_OF_ONE:
            raise HttpRefusal(
                503, "unavailable", f"{STREAMS_OF_ONE} streams are already open from this address: try again later"
            )
        whose = None if machine is None else (kind, machine)
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
    """The key of a machine: its IPv4 address, or the /64 of its IPv6 address, because it can use all of that."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((address.packed, 64), strict=False))
