"""One connection to a capx store on PostgreSQL: how it is opened, how long it waits, and whose it is.

Laws: a server that says nothing for `patience` seconds is given up, whatever it was asked; psycopg itself would wait
for ever. What is committed over it is on the disk. It leads to a primary that holds a store of a version we know, and
belongs to one process: in a child that was forked, its socket is replaced by one that leads nowhere.
"""

import contextlib
import os
import re
import select
import time
import weakref
from collections.abc import Generator
from itertools import zip_longest
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import psycopg
from psycopg import pq
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from capx.errors import ConfigurationProblem, StoreProblem
from capx.store.postgres.errors import Silent, explained, keeping
from capx.store.postgres.schema import VERSION
from capx.store.records import NoStore
from capx.store.sql.version import demand_version

PATIENCE = 6.0
"""Seconds of silence after which a server is given up; a lock is waited for a little less long."""

Result = TypeVar("Result")
_SPECIAL = re.compile("[/?#]")
_PORTS = re.compile("[0-9,]*")


class Address:
    """Where a store is: what psycopg needs to reach it, and what people may read."""

    def __init__(self, url: str) -> None:
        parts = _parts(url)
        self.shown = _shown(parts)
        self.conninfo = make_conninfo(
            "",
            **{
                "fallback_application_name": "capx",
                **parts,
                "client_encoding": "UTF8",
                "target_session_attrs": "primary",
            },
        )

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"


class Link(psycopg.Connection[tuple[Any, ...]]):
    """A connection in autocommit mode that gives up on a server that is silent."""

    place = ""
    patience = PATIENCE
    abandoned = False
    awake = False
    """Whether a notification has arrived since this was last set to False."""

    def wait(self, gen: PQGen[Result], *args: Any, **options: Any) -> Result:
        """Whatever psycopg waits for, but no longer than `patience` without a word."""
        return super().wait(self._patiently(gen), *args, **options)

    def _patiently(self, work: PQGen[Result]) -> PQGen[Result]:
        silent_since = time.monotonic()
        try:
            wanted = next(work)
            while True:
                # psycopg asks again after a tenth of a second without an answer.
                ready = yield wanted
                now = time.monotonic()
                if ready:
                    silent_since = now
                elif self.abandoned or now - silent_since > self.patience:
                    raise Silent("closed meanwhile" if self.abandoned else f"silent for {self.patience:g} seconds")
                wanted = work.send(ready)
        except StopIteration as end:
            result: Result = end.value
            return result

    @contextlib.contextmanager
    def patient(self, seconds: float = 120) -> Generator[None]:
        """A block in which the server may work for long without a word."""
        before, self.patience = self.patience, seconds
        try:
            yield
        finally:
            self.patience = before

    def execute(self, *args: Any, **options: Any) -> psycopg.Cursor[tuple[Any, ...]]:
        """Execute one query; what cannot be encoded is a DataError like all that the server cannot hold."""
        try:
            return super().execute(*args, **options)
        except UnicodeError as error:
            raise psycopg.DataError(str(error)) from error

    @contextlib.contextmanager
    def reading(self, begin: str) -> Generator[tuple[Any, ...] | None]:
        """A transaction that begins with these statements, and the row that the last of them gave; nothing is kept."""
        try:
            yield self._begun(begin)
        finally:
            self._roll_back()

    @contextlib.contextmanager
    def writing(self, begin: str) -> Generator[tuple[Any, ...] | None]:
        """A transaction that begins with these statements, and is kept when its block is left without an error."""
        try:
            yield self._begun(begin)
            with keeping(self.place):
                ended = self.execute("COMMIT").statusmessage
            self._demand_kept(ended)
        except BaseException:
            self._roll_back()
            raise

    def _demand_kept(self, ended: str | None) -> None:
        if ended != "COMMIT":
            raise StoreProblem(f"the store {self.place} kept nothing of this: a part of it had failed before")

    def _begun(self, begin: str) -> tuple[Any, ...] | None:
        cursor = self.execute(begin)
        while cursor.nextset():
            pass
        return cursor.fetchone() if cursor.description else None

    def _roll_back(self) -> None:
        if self.info.transaction_status in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR):
            with contextlib.suppress(psycopg.Error):
                self.execute("ROLLBACK")

    @property
    def idle(self) -> bool:
        """Whether the next transaction can begin on it."""
        return self.info.transaction_status == pq.TransactionStatus.IDLE and not self.abandoned

    @property
    def fresh(self) -> bool:
        """Whether it is idle and its server has not said anything since, which would be a farewell."""
        if not self.idle:
            return False
        looked = select.poll()
        looked.register(self.fileno(), select.POLLIN)
        return not looked.poll(0)

    def disown(self) -> None:
        """Lead nowhere: this is a child, and what it said would reach the parent's session."""
        with contextlib.suppress(psycopg.Error):
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
        self.abandoned = True


_links: "weakref.WeakSet[Link]" = weakref.WeakSet()
_of_the_parent: list[Link] = []


def _after_fork() -> None:
    for link in list(_links):
        link.disown()
        # Kept: psycopg would warn of one that is forgotten while it is open.
        _of_the_parent.append(link)
    _links.clear()


os.register_at_fork(after_in_child=_after_fork)


def open_link(address: Address, patience: float = PATIENCE) -> Link:
    """A connection to the database, whatever it holds."""
    link = Link.connect(address.conninfo, autocommit=True, connect_timeout=max(2, round(patience)))
    link.place, link.patience = address.shown, patience
    link.add_notify_handler(lambda _: setattr(link, "awake", True))
    _links.add(link)
    try:
        link.execute(
            "SET search_path = pg_catalog, pg_temp; SET default_transaction_isolation = 'read committed'; "
            f"SET lock_timeout = {round(patience * 750)}; "
            "SELECT set_config('synchronous_commit', 'on', false) "
            "WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')"
        )
    except BaseException:
        link.close()
        raise
    return link


def open_store_link(address: Address, patience: float = PATIENCE) -> Link:
    """A connection to a database that holds a store of our version; StoreProblem if it does not."""
    link = open_link(address, patience)
    try:
        with explained(address.shown):
            demand_version(address.shown, version_of(address, link), VERSION)
    except BaseException:
        link.close()
        raise
    return link


def version_of(address: Address, link: Link) -> int:
    """The schema of the store that is there; StoreProblem if there is none."""
    try:
        row = link.execute("SELECT capx.version()").fetchone()
    except (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedFunction):
        raise NoStore(f"there is no store at {address.shown}: create one with capx init") from None
    except psycopg.errors.InsufficientPrivilege:
        raise StoreProblem(
            f"the store {address.shown} does not know the role {link.info.user}: "
            "let its owner run the SQL that capx store role prints"
        ) from None
    if row is None or row[0] is None:
        raise StoreProblem(f"the store {address.shown} has lost its version: restore it from a backup")
    return int(row[0])


def _parts(url: str) -> dict[str, Any]:
    """The parts of the URL, if a password can only stand where passwords stand: no other part is ever hidden."""
    before, at, after = url.partition("://")[2].partition("@")
    if "@" in after or (at and _SPECIAL.search(before)):
        raise ConfigurationProblem(
            "in this PostgreSQL URL more than one @ stands, or a /, ? or # before it: write what is special in a user, "
            "a password or any other part as %XX (@ is %40, / is %2F, ? is %3F, # is %23)"
        )
    with contextlib.suppress(psycopg.Error):
        parts = conninfo_to_dict(url)
        # What stands after the first colon of a URL without an @ is a port, and may have been meant as a password.
        if _PORTS.fullmatch(str(parts.get("port") or "")):
            return parts
    # What libpq says about it may quote the password.
    raise ConfigurationProblem(
        "this is no PostgreSQL URL: write postgresql://USER@HOST:PORT/DATABASE, "
        "with %XX for what is special in its parts"
    )


def _shown(parts: dict[str, Any]) -> str:
    user, host, port, database = (str(parts.get(name) or "") for name in ("user", "host", "port", "dbname"))
    before = f"{quote(user, safe='')}@" if user else ""
    after = quote(database, safe="")
    if host.startswith(("/", "@")):
        # A folder of sockets cannot stand where a host stands.
        query = urlencode({"host": host, "port": port} if port else {"host": host}, safe="/")
        return f"postgresql://{before}/{after}?{query}"
    pairs = zip_longest(host.split(","), port.split(","), fillvalue="")
    hosts = ",".join([f"{name}:{number}" if number else name for name, number in pairs])
    return f"postgresql://{before}{hosts}/{after}"
