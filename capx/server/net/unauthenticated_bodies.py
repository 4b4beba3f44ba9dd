"""Reports that nobody has proven yet: what is looked at before their bodies are, and how much of those is held.

Laws: the proof is over the whole body, so a stranger's body has to be read before it is known to be one. What its head
gives away is looked at first. Of all that is read so, no more is held at once than there is room for; one machine has
so much of the room that others find some beside it.
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
"""Bytes of bodies that are held at once while nobody has proven them."""
ROOM_OF_ONE: Final = ROOM // 4
"""Those of them that one machine may have sent."""

# That it has one spelling is for the proof to say.
_CLAIM = re.compile(
    rf"{SCHEME} audience=[a-z0-9.-]{{1,63}}, kid=([A-Za-z0-9_-]{{11}}), at=([0-9]{{1,16}}), mac=[A-Za-z0-9_-]{{43}}"
)


def demand_claim(headers: Sequence[str], ring: KeyRing, *, now: int) -> str:
    """The header in which a report claims to be a resource's; UnauthenticatedReport if no body could make it good."""
    found = _CLAIM.fullmatch(headers[0]) if len(headers) == 1 else None
    if found is None:
        raise UnauthenticatedReport(f"a report is proven by: {SCHEME} audience=…, kid=…, at=…, mac=…")
    kid, at = found.groups()
    if ring.get(kid) is None:
        raise UnauthenticatedReport(f"{kid} is no live key here: capx keys export gives those that are")
    if (apart := abs(now - int(at))) > WINDOW:
        raise UnauthenticatedReport(
            f"the report was made {apart} seconds from now, and it is good for {WINDOW}: set the clock"
        )
    return headers[0]


class UnauthenticatedBodies:
    """Counts the bytes of bodies that nobody has proven; belongs to one event loop."""

    def __init__(self) -> None:
        self._held = 0
        self._by_machine: Counter[str] = Counter()

    @contextmanager
    def held(self, receive: Receive, machine: str) -> Generator[Receive]:
        """A block in which a body is read and held, by what is given; HttpRefusal when there is no room for more."""
        own = 0

        async def counted() -> Message:
            nonlocal own
            message = await receive()
            size = len(message.get("body", b""))
            if self._held + size > ROOM or self._by_machine[machine] + size > ROOM_OF_ONE:
                raise HttpRefusal(503, "unavailable", "too much is reported to this authority at once: try again later")
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
