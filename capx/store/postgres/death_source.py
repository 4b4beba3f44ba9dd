"""What a verifier follows in a PostgreSQL store: head and deaths, over a connection of its own.

Laws: head, hash and deaths are those of one instant; what lies behind that was read before, tells another history, or
began anew is refused, and a later epoch read anew. A notification only wakes; what is believed was read. Deaths are
numbered without gaps, so a missing one shows. Only a primary is followed: a standby may lag as long as it likes.
"""

import contextlib
import select
import socket
import sys
import weakref
from collections.abc import Callable, Iterator

from capx.background import begin_in_each_process
from capx.errors import StoreProblem
from capx.store.continuity import demand_whole, succeeding
from capx.store.postgres.connection import PATIENCE, Address, Link, open_store_link
from capx.store.postgres.errors import explained
from capx.store.postgres.pool import Pool
from capx.store.postgres.rows import CHANNEL
from capx.store.records import Head, News

_PAGE = 20_000
_REST = 0.005
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_HEAD = "SELECT epoch, pos, hash, deaths, forgotten, capx.hash_at({:d}) FROM capx.head()"


class PostgresDeathSource:
    """The deaths in the store at `url`, which need not be there yet; safe with several threads.

    A stream looks when it is woken, and at the latest after `poll` seconds.
    """

    def __init__(self, url: str, *, poll: float = 1.0, patience: float = PATIENCE) -> None:
        self._address = Address(url)
        self._poll = poll
        self._patience = patience
        self._pool = Pool(self._address.shown, self._open, most=1, patience=patience)
        begin_in_each_process(self._begin)

    def _begin(self) -> None:
        # What a child said to a stream of its parent would be heard by the parent.
        self._streams: weakref.WeakSet[_Stream] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"PostgresDeathSource({self._address.shown!r})"

    def news(self, known: Head | None) -> News:
        """What died since `known`; StoreProblem when there is nothing trustworthy to be had."""
        with explained(self._address.shown), self._pool.link() as link:
            return _since(link, known)

    def stream(self, known: Callable[[], Head | None]) -> Iterator[News]:
        """News for as long as it is asked for: at once, when something died, and at the latest after `poll` seconds.

        `known` says, before each look, what is known by then. News without deaths says that nothing has died.
        StoreProblem ends it; so does `close`, from any thread, without an error.
        """
        stream = _Stream(self._address, self._open, self._poll)
        self._streams.add(stream)
        return stream.news(known)

    def close(self) -> None:
        """Close the connection, and end the streams; a later look opens another."""
        for stream in list(self._streams):
            stream.end()
        self._pool.close(for_good=False)

    def _open(self) -> Link:
        return open_store_link(self._address, self._patience)


class _Stream:
    """One stream, and what ends it from another thread."""

    def __init__(self, address: Address, open_: Callable[[], Link], poll: float) -> None:
        self._address = address
        self._open = open_
        self._poll = poll
        self._link: Link | None = None
        self._ended = False
        self._heard, self._told = socket.socketpair()

    def news(self, known: Callable[[], Head | None]) -> Iterator[News]:
        try:
            with explained(self._address.shown), contextlib.closing(self._open()) as link:
                self._link = link
                # Before the first look, so that nothing can happen between it and the waiting.
                link.execute(f"LISTEN {CHANNEL}")
                while not self._ended:
                    yield _since(link, known())
                    self._wait(link)
        except StoreProblem:
            if not self._ended:
                raise
        finally:
            self._heard.close()
            self._told.close()

    def end(self) -> None:
        self._ended = True
        if self._link is not None:
            self._link.abandoned = True
        with contextlib.suppress(OSError):
            self._told.send(b"!")

    def _wait(self, link: Link) -> None:
        # Whoever wakes followers without end, as any role may, costs them a look in so many seconds.
        select.select([self._heard.fileno()], [], [], _REST)
        if not link.awake:
            select.select([link.fileno(), self._heard.fileno()], [], [], self._poll)


def _since(link: Link, known: Head | None) -> News:
    # What wakes us up to here was committed before what we see.
    link.awake = False
    with link.reading(f"{_BEGIN}; {_HEAD.format(0 if known is None else known.position)}") as row:
        if row is None:
            raise StoreProblem("the store lacks a row that is always there: it is damaged")
        head = Head(*row[:5])
        known = succeeding(known, head, row[5])
        seen, lasting = (0 if known is None else known.deaths), 0
        new: dict[bytes | str, str] = {}
        while seen < head.deaths:
            rows = link.execute("SELECT * FROM capx.deaths(%s, %s)", (seen, _PAGE)).fetchall()
            if not rows:
                break
            for seq, id_, name, reason in rows:
                # Each reason once: a million deaths are held in memory.
                new[name if id_ is None else id_] = sys.intern(reason)
                lasting += seq <= head.forgotten
            seen = rows[-1][0]
    return demand_whole(known, News(head, new, known is None, lasting if known is None else 0))
