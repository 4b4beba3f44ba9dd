"""The sessions of MCP that are a caller's, and the GET streams that are open.

Laws:

- A session is a caller's from when the server has answered a judged request in it, until that token ends.
- Strangers get half of the streams, and one address of them a quarter. A caller who finds no stream free takes one from
  a stranger, or else from the capability that has most, if that has at least two more than the caller's. That stream
  ends.
- If there are very many sessions, one is forgotten for a new one: the oldest of the capability that has most.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Final

from msgspec import Struct

from capx.guard.asgi.slots import NoSlot, capability_of
from capx.verify.verifier import Authentic

MOST_SESSIONS: Final = 1024
"""How many sessions of callers are known at once."""


class _Stream(Struct, frozen=True, eq=False):
    session: str | None
    address: str
    end: Callable[[], object]


class Sessions:
    """At most `most_streams` streams; `has_ended` says whether a token allows nothing any more."""

    def __init__(self, most_streams: int, has_ended: Callable[[Authentic], bool]) -> None:
        self._most = most_streams
        self._has_ended = has_ended
        self._callers: dict[str | None, Authentic] = {}
        self._streams: list[_Stream] = []

    def note(self, session: str | None, token: Authentic) -> None:
        """Note that a presentation of this token was judged in a session."""
        if session is None:
            return
        self._callers.pop(session, None)
        self._callers[session] = token
        if len(self._callers) > MOST_SESSIONS:
            holder, _ = _most_common(map(capability_of, self._callers.values()))
            del self._callers[next(one for one, held in self._callers.items() if capability_of(held) == holder)]

    def is_of_caller(self, session: str | None) -> bool:
        """Whether a session is a caller's."""
        token = self._callers.get(session)
        return token is not None and not self._has_ended(token)

    def caller_of(self, session: str | None) -> bytes | None:
        """The capability of the caller whose session this is; None for that of a stranger."""
        return capability_of(self._callers[session]) if self.is_of_caller(session) else None

    def forget(self, session: str | None) -> None:
        """Forget a session that has ended."""
        self._callers.pop(session, None)

    @contextmanager
    def stream(self, session: str | None, address: str, end: Callable[[], object]) -> Generator[None]:
        """Have a stream open in a session; raises NoSlot. `end` ends it for a caller who needs its place."""
        strangers = [stream for stream in self._streams if not self.is_of_caller(stream.session)]
        is_full = len(self._streams) >= self._most
        if (caller := self.caller_of(session)) is not None:
            if is_full and (given := next(iter(strangers), None) or self._spare(caller)) is not None:
                self._streams.remove(given)
                given.end()
                is_full = False
        else:
            alone = sum(stream.address == address for stream in strangers)
            is_full = is_full or len(strangers) >= max(1, self._most // 2) or alone >= max(1, self._most // 4)
        if is_full:
            raise NoSlot("too many streams are open already: try again later")
        opened = _Stream(session, address, end)
        self._streams.append(opened)
        try:
            yield
        finally:
            if opened in self._streams:
                self._streams.remove(opened)

    def _spare(self, caller: bytes) -> _Stream | None:
        """Return a stream of the capability that has most, if the caller's has at least two less."""
        holders = [self.caller_of(stream.session) for stream in self._streams]
        holder, count = _most_common(holders)
        return self._streams[holders.index(holder)] if count >= holders.count(caller) + 2 else None


def _most_common(holders: Iterable[bytes | None]) -> tuple[bytes | None, int]:
    counts = Counter(holders)
    holder = max(counts, key=counts.__getitem__)
    return holder, counts[holder]
