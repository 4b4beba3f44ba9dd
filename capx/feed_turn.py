"""Whose turn it is: which page comes next for one follower that is connected, and when.

    turn = FeedTurn(signer, Asked.read(query))
    while True:
        now = time.time()
        with store.read() as reading:
            page = turn.next(reading, now=now)
        if page is not None:
            send(event(page))
        wait_for_a_death(timeout=turn.pause(time.time()))

Laws: a follower that is behind is sent pages one after the other; one that is not is sent the next when something died,
or an epoch began, and else at each heartbeat. Each page confirms the place that the one before reached.
"""

from collections.abc import Callable
from typing import Final

from capx.feed import Asked, sign_page
from capx.feed_key import FeedSigner
from capx.store import Reading

HEARTBEAT: Final = 1.0
"""Seconds after which a follower is told that nothing died."""


class FeedTurn:
    """The turn of one follower; no I/O and no clock.

    `signer` is asked for each page: a key that was activated signs the next one.
    """

    def __init__(self, signer: Callable[[], FeedSigner], asked: Asked) -> None:
        self._signer = signer
        self._asked = asked
        self._has_more = True
        self._last = 0.0

    def next(self, reading: Reading, *, now: float) -> str | None:
        """The text of the page that is due, if one is; `now` (Unix seconds) was read before `reading` began."""
        if self.pause(now) > 0:
            head = reading.head()
            if (head.epoch, head.deaths) == (self._asked.epoch, self._asked.since):
                return None
        page = sign_page(reading, self._signer(), self._asked, now=now)
        self._asked, self._has_more, self._last = page.then, page.has_more, now
        return page.text

    def pause(self, now: float) -> float:
        """Seconds (0 to 1) until a page is due even though nothing dies."""
        waited = now - self._last
        # A clock that was set back waits for nothing.
        return 0.0 if self._has_more or waited < 0 else max(0.0, HEARTBEAT - waited)


def event(text: str) -> bytes:
    """A page as a server-sent event."""
    return b"data: " + text.encode() + b"\n\n"
