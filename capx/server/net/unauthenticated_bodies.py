"""Limits on reports that are not yet authenticated: checks of the head before the body, and memory for bodies.

Laws:

- The MAC covers the whole body, so the authority must read the body of a stranger before it can deny it. So it checks
  first what the head shows.
- All unproven decisions together take a limited amount of memory. One machine gets a part of it, so others have room
  too.
- Other reports are small, so they need no room here: whoever fills it keeps no payment and no acknowledgement out.
"""

import re
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final

from starlette.types import Message, Receive

from capx.api.problems import HttpRefusal
from capx.api.resource_auth import SCHEME, WINDOW, UnauthenticatedReport
from capx.crypto.keys import KeyRing

ROOM: Final = 32 << 20
"""The most bytes of unproven decisions that are held at once."""
ROOM_OF_ONE: Final = ROOM // 4
"""The most of these bytes from one machine."""

# Only a first filter. Whether this is the one spelling of the values is checked with the MAC.
_CLAIM = re.compile(
    rf"{SCHEME} audience=[a-z0-9.-]{{1,63}}, kid=([A-Za-z0-9_-]{{11}}), at=([0-9]{{1,16}}), mac=[A-Za-z0-9_-]{{43}}"
)


def demand_claim(headers: Sequence[str], ring: KeyRing, *, now: int) -> str:
    """The header of a report that names its audience and MAC; UnauthenticatedReport if no body could make it valid."""
    found = _CLAIM.fullmatch(headers[0]) if len(headers) == 1 else None
    if found is None:
        raise UnauthenticatedReport(f"a report is proven by: {SCHEME} audience=…, kid=…, at=…, mac=…")
    kid, at = found.groups()
    if ring.get(kid) is None:
        raise UnauthenticatedReport(f"{kid} is not a live key here: export the keys again with capx keys export")
    if (apart := abs(now - int(at))) > WINDOW:
        raise UnauthenticatedReport(
            f"the report was made {apart} seconds from now, and it is good for {WINDOW}: set the clock"
        )
    return headers[0]


class UnauthenticatedBodies:
    """Counts the bytes of unproven decisions. It belongs to one event loop."""

    def __init__(self) -> None:
        self._held = 0
        self._by_machine: Counter[str] = Counter()

    @contextmanager
    def held(self, receive: Receive, machine: str) -> Generator[Receive]:
        """A block that reads a body with the given `receive` and counts it; HttpRefusal when there is no room."""
        own = 0

        async def counted() -> Message:
            nonlocal own
            message = await receive()
            size = len(message.get("body", b""))
            if self._held + size > ROOM or self._by_machine[machine] + size > ROOM_OF_ONE:
                raise HttpRefusal(503, "unavailable", "this authority gets too many reports at once: try again later")
            own += size
            self._count(machine, size)
            return message

        try:
            yield counted
        finally:
            self._count(machine, -own)

    def _count(self, machine: str, change: int) -> None:
        self._held += change
        self._by_machine[machine] += change
        if not self._by_machine[machine]:
            del self._by_machine[machine]
