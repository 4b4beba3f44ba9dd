"""The log: what happened, in one order, each event bound to all before it.

    hash = H("capx/1/event", hash of the event before, position, at, kind, body)

Laws: positions begin at 1 and have no gaps; before the first event stand 32 zero bytes. So an event that is changed,
taken out, put in or moved shows at the first position that no longer fits, and a log that was cut short shows against a
head that was noted elsewhere. Bodies hold ids and facts, never a token and never a key.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from capx.crypto import hashing
from capx.errors import BrokenLog

T = TypeVar("T")

GENESIS = bytes(32)
"""What stands in place of a hash before the first event."""


class Event(Struct, frozen=True):
    """One entry of the log; `at` is in Unix seconds, `body` is the JSON text that was hashed."""

    position: int
    at: int
    kind: str
    body: bytes
    hash: bytes

    def facts(self) -> dict[str, Any]:
        """The body as a JSON object; BrokenLog if it is none."""
        return self.read(dict[str, Any])

    def read(self, kind: type[T]) -> T:
        """The body as what an event of its kind holds, or the part of it that `kind` names; BrokenLog if it is not.

        Whoever reads names only the facts it looks at, and all others are passed over: views are partial by design.
        """
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BrokenLog(self.position, f"its body is not that of a {self.kind}") from error

    def read_if(self, kind: type[T]) -> T | None:
        """`read`, for what a resource wrote: None if it is not what it should be.

        A resource writes its own decisions, and may write anything there; that hides nobody else's.
        """
        try:
            return self.read(kind)
        except BrokenLog:
            return None


class Place(Struct, frozen=True):
    """A place in a log: the position of an event and its hash."""

    position: int = 0
    hash: bytes = GENESIS


START = Place()
"""The place before the first event."""


def following(before: Place, *, at: int, kind: str, body: bytes) -> Event:
    """The event that comes next in the log whose last event is `before`."""
    position = before.position + 1
    return Event(position, at, kind, body, digest(before.hash, position, at, kind, body))


def digest(before: bytes, position: int, at: int, kind: str, body: bytes) -> bytes:
    """The hash that binds an event to the one before it; numbers are eight bytes, big-endian."""
    return hashing.digest(
        b"capx/1/event", before, position.to_bytes(8, "big"), at.to_bytes(8, "big"), kind.encode(), body
    )


def check(events: Iterable[Event], *, after: Place = START, head: Place | None = None) -> Place:
    """The place that `events` reach from `after`, which is `head` if that is given.

    Up to it nothing was changed, added, taken out or moved. BrokenLog names the first position that does not fit.
    """
    reached = after
    for event in events:
        expected = reached.position + 1
        if event.position != expected:
            raise BrokenLog(expected, f"event {event.position} stands where {expected} belongs")
        if event.hash != _recomputed(reached.hash, event):
            raise BrokenLog(expected, "its hash does not fit what it says and what came before")
        reached = Place(event.position, event.hash)
    if head is not None and head != reached:
        if head.position > reached.position:
            raise BrokenLog(reached.position + 1, f"events up to {head.position} are missing")
        raise BrokenLog(head.position, "the head names another event than the last one")
    return reached


def _recomputed(before: bytes, event: Event) -> bytes | None:
    """The hash as it should be; None when the event holds what no event can."""
    try:
        return digest(before, event.position, event.at, event.kind, event.body)
    except (OverflowError, UnicodeEncodeError):
        return None
