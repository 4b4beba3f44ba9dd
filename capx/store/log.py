"""The log records what happened, in one order; a hash binds each event to all events before it.

    hash = H("capx/1/event", hash of the event before, position, at, kind, body)

Laws:

- Positions begin at 1 and have no gaps. The first event uses 32 zero bytes as the hash of the event before it.
- So `check` finds every event that was changed, removed, inserted or moved: at the first position that does not fit. It
  finds a log that was cut short only if the caller gives a head that was noted elsewhere.
- Bodies hold ids and facts, never a token and never a key.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from capx.crypto.hashing import sized
from capx.errors import BrokenLog

T = TypeVar("T")

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
GENESIS = bytes(32)
"""The value that the first event uses as the hash of the event before it."""


ARCHIVED = b'{"archived":true,'
"""How the body of a decision begins that has left the store for an archive; its id and audience stay."""


class Event(Struct, frozen=True, gc=False):
    """One entry of the log; `at` is in Unix seconds, `body` is the JSON text that was hashed, unless it is archived."""

    position: int
    at: int
    kind: str
    body: bytes
    hash: bytes

    @property
    def is_archived(self) -> bool:
        """Whether it is a decision whose body is in an archive, and not here."""
        return self.body.startswith(ARCHIVED) and self.kind == "decision"

    def facts(self) -> dict[str, Any]:
        """The body as a JSON object; BrokenLog if it is not one."""
        return self.read(dict[str, Any])

    def read(self, kind: type[T]) -> T:
        """Decode the body as the type `kind`; BrokenLog if it does not fit that type.

        `kind` may name only some of the facts in the body. All others are ignored, so that a reader depends only on the
        facts that it uses.
        """
        try:
            return msgspec.json.decode(self.body, type=kind)
        except _UNREADABLE as error:
            raise BrokenLog(self.position, f"its body is not that of a {self.kind}") from error

    def read_if(self, kind: type[T]) -> T | None:
        """Like `read`, for an event that a resource wrote: gives None if the body does not fit.

        A resource writes its own decisions, and may write anything there. An error here would let one bad decision hide
        the decisions of other resources.
        """
        try:
            return msgspec.json.decode(self.body, type=kind)
        # Not through `read`: a resource may report very many of them, and to make an error takes long.
        except _UNREADABLE:
            return None


class Place(Struct, frozen=True):
    """A place in a log: the position of an event, and its hash."""

    position: int = 0
    hash: bytes = GENESIS


START = Place()
"""The place before the first event."""


def following(before: Place, *, at: int, kind: str, body: bytes) -> Event:
    """Build the next event of a log whose last event is at `before`."""
    position = before.position + 1
    return Event(position, at, kind, body, digest(before.hash, position, at, kind, body))


def digest(before: bytes, position: int, at: int, kind: str, body: bytes) -> bytes:
    """The hash that binds an event to the one before it; numbers are encoded as eight bytes, big-endian."""
    numbers = _EIGHT + position.to_bytes(8) + _EIGHT + at.to_bytes(8)
    return sha256(b"".join((_EVENT, sized(before), numbers, sized(kind.encode()), sized(body)))).digest()


# The parts of a digest (capx.crypto.hashing) that are the same for all events: a log has very many.
_EVENT = sized(b"capx/1/event")
_EIGHT = (8).to_bytes(4)


def check(events: Iterable[Event], *, after: Place = START, head: Place | None = None, archived: int = 0) -> Place:
    """Check that `events` continue the log from `after`, and give the place that they reach.

    If this returns, nothing was changed, added, removed or moved up to that place. If `head` is given, the place must
    be equal to it. BrokenLog names the first position that does not fit. Up to the position `archived`, the body of a
    decision may be elsewhere. Its hash is then taken as it is: the next event and the tree beside the log hold it.
    """
    reached = after
    for event in events:
        expected = reached.position + 1
        if event.position != expected:
            raise BrokenLog(expected, f"event {event.position} is where event {expected} should be")
        elsewhere = event.position <= archived and event.is_archived
        if event.hash != _recomputed(reached.hash, event) and not elsewhere:
            raise BrokenLog(expected, "its hash does not match its content and the event before it")
        # The stored hash is right here, because it was just compared with the recomputed one.
        reached = Place(event.position, event.hash)
    if head is not None and head != reached:
        # Two different faults: events at the end are missing, or the head was changed (or there are events after it).
        if head.position > reached.position:
            raise BrokenLog(reached.position + 1, f"events up to {head.position} are missing")
        raise BrokenLog(head.position, "the head does not name the last event")
    return reached


def _recomputed(before: bytes, event: Event) -> bytes | None:
    """The hash that the event should have; None if it holds values that no event can hold."""
    try:
        return digest(before, event.position, event.at, event.kind, event.body)
    # A damaged row may hold a negative number or a lone surrogate. That is a broken log, not a crash of the check.
    except (OverflowError, UnicodeEncodeError):
        return None
