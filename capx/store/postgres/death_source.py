"""A verifier follows the deaths in a PostgreSQL store: this reads head and deaths, over a connection of its own.

Laws:

- Head, hash and deaths are read at one instant.
- A store is refused if it is behind what was read before, has another history, or is a new store. In a later epoch of
  the same store, everything is read again.
- A notification only wakes the follower. The follower believes only the rows that it then reads.
- Deaths are numbered without gaps, so a missing one is noticed.
- Only a primary is followed, because a standby may lag without a bound. Beats tell whether it is one still
  (capx.store.postgres.beats): if another server confirms them, the stream ends, so that it finds that one.
"""

import contextlib
import select
import socket
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from msgspec.structs import replace

from capx.background import begin_in_each_process
from capx.errors import StoreProblem, Unavailable
from capx.store.continuity import demand_whole, succeeding
from capx.store.postgres.beats import Beats
from capx.store.postgres.connection import PATIENCE, Address, Link, open_store_link
from capx.store.postgres.errors import explained
from capx.store.postgres.pool import Pool
from capx.store.postgres.rows import CHANNEL
from capx.store.records import Head, News

_PAGE = 20_000
_REST = 0.005
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_HEAD = "SELECT epoch, pos, hash, deaths, forgotten, capx.hash_at({}) FROM capx.head()"
_FEW = 100
"""So many deaths are read with a transaction of their own."""
# LIMIT: without it PostgreSQL plans for a thousand heads.
_NEWS = (
    "SELECT h.epoch, h.pos, h.hash, h.deaths, h.forgotten, capx.hash_at(%s::bigint), d.seq, d.id, d.name, d.reason "
    "FROM (SELECT * FROM capx.head() LIMIT 1) AS h LEFT JOIN capx.deaths(%s::bigint, %s::int) AS d ON true "
    "ORDER BY d.seq"
)


class PostgresDeathSource:
    """A source of the deaths in the store at `url`, which need not exist yet; safe with several threads.

    A stream looks when it is woken, and at the latest after `poll` seconds. `beats` are those of the store, if this
    process has it open.
    """

    def __init__(self, url: str, *, poll: float = 1.0, patience: float = PATIENCE, beats: Beats | None = None) -> None:
        self._address = Address(url)
        self._poll = poll
        self._patience = patience
        # One for looks, and one for a beat.
        self._pool = Pool(self._address.shown, self._open, most=2, patience=patience)
        self._beats = beats or Beats(self._address.shown, self._pool)
        begin_in_each_process(self._begin)

    def _begin(self) -> None:
        # A forked child begins without streams: it shares their sockets, so to end one would end that of the parent.
        self._streams: weakref.WeakSet[_Stream] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"PostgresDeathSource({self._address.shown!r})"

    def news(self, known: Head | None) -> News:
        """Return what died since `known`; StoreProblem if the store cannot be read or trusted."""
        # Without one, knowledge is old, and not wrong: what was read is true of this server.
        with contextlib.suppress(StoreProblem):
            self._beats.freshen()
        with explained(self._address.shown), self._pool.link() as link:
            # The beats may have another pool, which found the new primary, while this link is still at the old one.
            if not _is_at_primary(link, self._beats):
                link.close()
                raise _moved(self._address)
            return _since(link, known, self._beats)

    def stream(self, known: Callable[[], Head | None]) -> Iterator[News]:
        """Endless news: the first at once, then whenever something died, and at the latest after `poll` seconds.

        `known` is called before each look, and gives what the caller knows then. News without deaths means that nothing
        has died. A StoreProblem ends the stream. `close`, from any thread, ends it without an error.
        """
        stream = _Stream(self._address, self._open, self._poll, self._beats)
        self._streams.add(stream)
        return stream.news(known)

    def close(self) -> None:
        """Close the connection, and end the streams; a later look opens a new connection."""
        for stream in list(self._streams):
            stream.end()
        self._pool.close(for_good=False)

    def _open(self) -> Link:
        link = open_store_link(self._address, self._patience)
        link.on_confirmed = self._beats.confirm
        return link


class _Stream:
    """One stream, which another thread can end."""

    def __init__(self, address: Address, open_: Callable[[], Link], poll: float, beats: Beats) -> None:
        self._address = address
        self._open = open_
        self._poll = poll
        self._beats = beats
        self._link: Link | None = None
        self._ended = False
        # Another thread cannot wake a `select` by itself, so it writes one byte into this pair.
        self._woken, self._waker = socket.socketpair()

    def news(self, known: Callable[[], Head | None]) -> Iterator[News]:
        try:
            with self._beats.going(), explained(self._address.shown), contextlib.closing(self._open()) as link:
                self._link = link
                # LISTEN before the first look: a death between the look and the wait then wakes the stream.
                link.execute(f"LISTEN {CHANNEL}")
                while not self._ended:
                    yield _since(link, known(), self._beats)
                    self._wait(link)
                    if not _is_at_primary(link, self._beats):
                        raise _moved(self._address)
        except StoreProblem:
            if not self._ended:
                raise
        finally:
            self._woken.close()
            self._waker.close()

    def end(self) -> None:
        self._ended = True
        if self._link is not None:
            self._link.abandoned = True
        with contextlib.suppress(OSError):
            self._waker.send(b"!")

    def _wait(self, link: Link) -> None:
        # Any role can send notifications without end. This short rest bounds how often they make a follower look.
        select.select([self._woken.fileno()], [], [], _REST)
        if not link.awake:
            select.select([link.fileno(), self._woken.fileno()], [], [], self._poll)


def _is_at_primary(link: Link, beats: Beats) -> bool:
    """Whether no other server has confirmed the last write."""
    return beats.server in {None, link.server}


def _moved(address: Address) -> Unavailable:
    return Unavailable(f"the store {address.shown} is at another server now: this one was the primary; try again")


def _since(link: Link, known: Head | None, beats: Beats) -> News:
    # Before the snapshot is taken: a notification that came earlier is about something that the snapshot shows.
    link.awake = False
    little = None if known is None else _little_news(link, known)
    news = _all_news(link, known) if little is None else little
    return replace(news, confirmation_age=partial(beats.age, link.server))


def _little_news(link: Link, known: Head) -> News | None:
    """What died since `known`; None if that is more than a few, or the follower must start over."""
    # A single statement sees one instant, without a transaction: this costs one round trip, and is most common.
    rows = link.execute(_NEWS, (known.position, known.deaths, _FEW)).fetchall()
    head, hash_there = _read(rows[0] if rows else None)
    if head.deaths >= known.deaths + _FEW or succeeding(known, head, hash_there) is None:
        return None
    deaths = [row[6:] for row in rows if row[6] is not None]
    return demand_whole(known, News(head, dict(_told(*death) for death in deaths)))


def _all_news(link: Link, known: Head | None) -> News:
    with link.reading(f"{_BEGIN}; {_HEAD.format(0 if known is None else known.position)}") as row:
        head, hash_there = _read(row)
        known = succeeding(known, head, hash_there)
        seen, lasting = (0 if known is None else known.deaths), 0
        new: dict[bytes | str, str] = {}
        while seen < head.deaths:
            rows = link.execute("SELECT * FROM capx.deaths(%s, %s)", (seen, _PAGE)).fetchall()
            # Deaths are missing. `demand_whole` reports it; without the break this would loop for ever.
            if not rows:
                break
            new.update(_told(*row) for row in rows)
            lasting += sum(seq <= head.forgotten for seq, *_ in rows)
            seen = rows[-1][0]
    return demand_whole(known, News(head, new, known is None, lasting if known is None else 0))


def _told(_: int, id_: bytes | None, name: str, reason: str) -> tuple[bytes | str, str]:
    # One copy of each reason, because a verifier may hold a million deaths in memory.
    return (name if id_ is None else id_), sys.intern(reason)


def _read(row: tuple[Any, ...] | None) -> tuple[Head, bytes | None]:
    """The head, and the hash of the event that was asked about."""
    if row is None:
        raise StoreProblem("the store lacks a row that is always there: it is damaged")
    return Head(*row[:5]), row[5]
