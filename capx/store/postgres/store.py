"""The store for more than one machine: a schema of its own in a PostgreSQL database.

Laws:

- Everything that is kept is on the disk of the server (`synchronous_commit`), burnt presentations and decisions too.
- A writer locks the row of the head first, so only one writes the log at a time.
- Resources act through functions of the store. The owner and the role of a resource call the same functions. Only the
  owner can `read` and `write`.
- Connections come from a small pool, are given up when the server is silent, and are not used after a fork.
"""

import contextlib
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any, Self

import psycopg
from psycopg import errors

from capx.crypto.base64url import b64u
from capx.errors import StoreProblem
from capx.intents.epoch import authority_of, new_epoch
from capx.store.log import GENESIS
from capx.store.postgres import schema
from capx.store.postgres.beats import Beats
from capx.store.postgres.connection import PATIENCE, Address, Link, open_link, open_store_link, version_of
from capx.store.postgres.death_source import PostgresDeathSource
from capx.store.postgres.errors import explained
from capx.store.postgres.pool import Pool
from capx.store.postgres.rows import READ, WRITE, Rows, text
from capx.store.postgres.standbys import standbys_of
from capx.store.protocols import Reading, Writing
from capx.store.records import Burn, Damaged, DecisionRecord, Standbys
from capx.store.row_marks import RowGuard
from capx.store.sql.version import OldSchema, demand_version
from capx.verify.meter import Paid, Payer, Spend, Tally


class PostgresStore:
    """The store in the database at `url` (`postgresql://USER@HOST/DATABASE`); `PostgresStore.create` makes one.

    A call gives up if the server is silent for `patience` seconds, or a lock is held for three quarters of that.
    """

    def __init__(self, url: str, *, patience: float = PATIENCE) -> None:
        self._url = url
        self._patience = patience
        self._address = Address(url)
        self._pool = Pool(self._address.shown, self._open, patience=patience)
        self._beats = Beats(self._address.shown, self._pool)
        # Opened once now, so that a wrong URL is an error here and not at the first call.
        with explained(self.place), self._pool.link():
            pass

    @classmethod
    def create(cls, url: str, *, patience: float = PATIENCE) -> Self:
        """Create a new store in an existing database; StoreProblem if it has a store already, or is not UTF8."""
        with _exclusive(url) as (address, link):
            # The log hashes UTF-8 bytes: in another encoding some events could not be kept at all.
            if link.info.parameter_status("server_encoding") != "UTF8":
                raise StoreProblem(f"the database {address.shown} does not use UTF8: create it with ENCODING 'UTF8'")
            try:
                _advance(link, 0)
            except (errors.DuplicateSchema, errors.UniqueViolation):
                raise StoreProblem(f"there is a store at {address.shown} already") from None
            epoch = new_epoch(b64u(os.urandom(16)), int(time.time()))
            link.execute("INSERT INTO capx.head VALUES (1, %s, 0, %s, 0, 0)", (epoch, GENESIS))
        return cls(url, patience=patience)

    def __repr__(self) -> str:
        return f"PostgresStore({self.place!r})"

    @property
    def place(self) -> str:
        """The URL, without a password."""
        return self._address.shown

    @contextlib.contextmanager
    def read(self, guard: RowGuard | None = None) -> Generator[Reading]:
        """A transaction that reads one instant."""
        with explained(self.place), self._pool.link() as link, link.reading(READ) as head:
            yield Rows(link, head, guard, self._beats.age)

    @contextlib.contextmanager
    def write(
        self,
        guard: RowGuard | None = None,
        *,
        durable: bool = True,  # noqa: ARG002 - the server keeps all alike
    ) -> Generator[Writing]:
        """A writing transaction: it is durable when its block ends, and undone when the block raises."""
        with explained(self.place), self._pool.link() as link:
            with link.writing(WRITE) as head:
                rows = Rows(link, head, guard)
                yield rows
                rows.index_filled()
                rows.keep_head()
            # After the commit: a follower that is woken earlier would not see the death yet.
            rows.wake()

    def burn(self, presentation: bytes, *, until: int, now: int, remembered: tuple[bytes, int] | None = None) -> Burn:
        """Mark a presentation's id as used until its window has passed; see `ResourceStore.burn`."""
        earlier = remembered or (None, None)
        query = "SELECT * FROM capx.burn(%s, %s::bigint, %s::bigint, %s, %s::bigint)"
        return Burn(*self._kept(query, presentation, until, now, *earlier, is_proof=lambda burnt: burnt[0]))

    def burn_all(
        self,
        presented: Sequence[tuple[bytes, int]],
        *,
        now: int,
        remembered: tuple[bytes, int] | None = None,
        wait: bool = True,
    ) -> tuple[Burn, ...] | None:
        """Burn several presentations in one transaction; see `ResourceStore.burn_all`."""
        if not wait:
            return None
        # Sorted: two processes that burn the same ids in another order would wait for each other.
        order = sorted(range(len(presented)), key=lambda nth: presented[nth][0])
        ids, untils = zip(*[presented[nth] for nth in order], strict=True)
        query = (
            "SELECT array_agg(b.fresh ORDER BY p.nth), bool_and(b.kept) "
            "FROM unnest(%s::bytea[], %s::bigint[]) WITH ORDINALITY AS p (presentation, until, nth), "
            "capx.burn(p.presentation, p.until, %s::bigint, %s, %s::bigint) AS b"
        )
        earlier = remembered or (None, None)
        fresh, kept = self._kept(query, list(ids), list(untils), now, *earlier, is_proof=lambda burnt: any(burnt[0]))
        burnt = dict(zip(order, fresh, strict=True))
        return tuple([Burn(burnt[nth], kept) for nth in range(len(presented))])

    def spend(self, payer: Payer, spends: Sequence[Spend], *, now: int) -> Tally:
        """Spend everything or nothing; it is on the disk when this returns."""
        columns = [[getattr(spend, name) for spend in spends] for name in ("counter", "unit", "cost", "limit")]
        query = (
            "SELECT * FROM capx.spend(%s, %s, %s, %s, %s::text[], %s::text[], %s::numeric[], %s::numeric[], %s::bigint)"
        )
        by = payer.presentation, payer.admission, b64u(payer.capability), payer.audience
        # SQL counts from 1.
        totals, exhausted = self._kept(query, *by, *columns, now)
        return Tally(tuple(totals), tuple([nth - 1 for nth in sorted(exhausted)]))

    def give_back(self, payer: Payer, *, decision: str, reason: str, now: int) -> tuple[Paid, ...]:
        """Give back what a presentation has paid; it is on the disk when this returns."""
        query = "SELECT * FROM capx.give_back(%s, %s, %s, %s, %s, %s::bigint)"
        columns = self._kept(query, payer.presentation, payer.admission, payer.audience, decision, reason, now)
        return tuple([Paid(*row) for row in zip(*columns, strict=True)])

    def spent(self, counters: Sequence[tuple[str, str]]) -> tuple[Decimal, ...]:
        """How much of each counter is spent."""
        ids, units = [counter for counter, _ in counters], [unit for _, unit in counters]
        with explained(self.place), self._pool.link() as link:
            row = link.execute("SELECT capx.spent(%s::text[], %s::text[])", (ids, units)).fetchone()
        return tuple((row and row[0]) or ())

    def record(self, decisions: Sequence[DecisionRecord]) -> None:
        """Write decisions to the log; skip one whose id its audience has recorded already."""
        ats, bodies = [one.at for one in decisions], [text(one.body) for one in decisions]
        # %b: the binary form, because to quote long texts takes longer than to write them.
        self._kept("SELECT capx.record(%b::bigint[], %b::text[])", ats, bodies)

    def sighted(self, follower: str, deaths: int, *, now: int) -> None:
        """Keep how many deaths a follower knows, and when it said so (`now`, Unix seconds)."""
        self._kept("SELECT capx.sighted(%s, %s::bigint, %s::bigint)", follower, deaths, now)

    def authority(self) -> str:
        """The id of the authority whose store this is."""
        with explained(self.place), self._pool.link() as link:
            row = link.execute("SELECT epoch FROM capx.head()").fetchone()
        if row is None:
            raise Damaged("the store has lost its head: restore it from a backup")
        return authority_of(str(row[0]))

    def source(self) -> PostgresDeathSource:
        """A source of the deaths in this store, with its own connection."""
        return PostgresDeathSource(self._url, patience=self._patience, beats=self._beats)

    def standbys(self) -> Standbys:
        """For how many standbys each commit waits."""
        with explained(self.place), self._pool.link() as link:
            return standbys_of(link)

    def beating(self) -> AbstractContextManager[None]:
        """A block in which this process has a write confirmed in each second, so that it knows of no old primary."""
        return self._beats.going()

    def close(self) -> None:
        """Close the idle connections now, and the others when their transactions end."""
        self._pool.close()

    def _open(self) -> Link:
        link = open_store_link(self._address, self._patience)
        link.on_confirmed = self._beats.confirm
        return link

    def _kept(self, query: str, *values: object, is_proof: Callable[[Any], bool] | None = None) -> Any:
        """Call a function of the store that writes, and give its row; one statement is one transaction.

        `is_proof` says from the row whether something was certainly written, so that a server has confirmed it.
        """
        with explained(self.place), self._pool.link() as link:
            began = time.monotonic()
            with link.keeping():
                row = link.execute(query, values).fetchone()
            if is_proof is not None and is_proof(row):
                link.confirm(began)
            return row


def migrate(url: str) -> tuple[int, int]:
    """Bring the store at `url` up to this schema, all or nothing; gives the version before, and the version now."""
    with _exclusive(url) as (address, link):
        # Once before the lock, for a better error if there is no store. Again under the lock, because another process
        # may have migrated meanwhile.
        version_of(address, link)
        link.execute("LOCK TABLE capx.version IN ACCESS EXCLUSIVE MODE")
        version = version_of(address, link)
        with contextlib.suppress(OldSchema):
            demand_version(address.shown, version, schema.VERSION)
        if version < schema.VERSION:
            _advance(link, version)
    return version, schema.VERSION


@contextlib.contextmanager
def _exclusive(url: str) -> Generator[tuple[Address, Link]]:
    """A transaction over a new connection, for changes of the schema."""
    address = Address(url)
    with (
        explained(address.shown),
        contextlib.closing(open_link(address)) as link,
        link.patient(),
        link.writing("BEGIN"),
    ):
        yield address, link


def _advance(link: psycopg.Connection[Any], version: int) -> None:
    for following in range(version + 1, schema.VERSION + 1):
        link.execute(schema.step(following))
    link.execute("UPDATE capx.version SET version = %s", (schema.VERSION,))
    link.execute(schema.CLOSED)
