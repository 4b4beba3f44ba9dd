"""Opens one connection to a capx store on PostgreSQL, and bounds how long it waits.

Laws:

- If the server is silent for `patience` seconds, the connection is given up, whatever it was doing. psycopg itself
  would wait for ever.
- What is committed over the connection is on the server's disk, and on that of each standby for which it waits. If the
  server warns with a commit, somebody has cancelled that wait: this is an error, and not a yes.
- A statement whose result nobody reads is not waited for. It goes out with the next statement, at the latest with
  COMMIT. If it fails, nothing after it is done, COMMIT neither.
- The server is a primary, and holds a store of a known version.
- A connection belongs to one process. In a forked child, its socket is replaced by one that goes nowhere.
"""

import contextlib
import os
import re
import select
import time
import weakref
from collections.abc import Callable, Generator, Sequence
from itertools import zip_longest
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import psycopg
from psycopg import pq
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from capx.errors import ConfigurationProblem, StoreProblem
from capx.store.postgres import schema
from capx.store.postgres.errors import Silent, explained, kept_nothing, may_be_kept
from capx.store.records import NoStore
from capx.store.sql.version import demand_version

PATIENCE = 6.0
"""Seconds of silence after which a connection is given up; the wait for a lock is shorter, so that it ends first."""

Result = TypeVar("Result")
_Statement = tuple[Any, Any]
Cursor = psycopg.Cursor[tuple[Any, ...]]
_MOST_UNSENT = 100
_SPECIAL = re.compile("[/?#]")
_PORTS = re.compile("[0-9,]*")
_CLOSED = "closed meanwhile"


class Address:
    """Where a store is: the text with which psycopg reaches it (`conninfo`), and the text for people (`shown`)."""

    def __init__(self, url: str) -> None:
        parts = _parts(url)
        self.shown = _shown(parts)
        self.conninfo = make_conninfo(
            "",
            **{
                # Before the parts, so that the URL may set another name; what comes after them, it cannot change.
                "fallback_application_name": "capx",
                **parts,
                "client_encoding": "UTF8",
                # A standby may lag, so it would answer with revocations missing.
                "target_session_attrs": "primary",
            },
        )

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"


class Link(psycopg.Connection[tuple[Any, ...]]):
    """A connection in autocommit mode that gives up when the server is silent."""

    place = ""
    patience = PATIENCE
    abandoned = False
    """Whether the connection is given up: each wait on it then ends with an error, from any thread."""
    awake = False
    """Whether a notification has arrived since this was last set to False."""
    server = ""
    """Which server this is: two servers that ever were at one address differ."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._unsent: list[_Statement] = []
        self._warning: str | None = None
        self.on_confirmed: Callable[[str, float], None] | None = None
        """What is told of each confirmed write: its server, and when it began, by the monotonic clock."""
        self.add_notice_handler(self._note)

    def confirm(self, began: float) -> None:
        """Tell that a write was confirmed."""
        if self.on_confirmed is not None:
            self.on_confirmed(self.server, began)

    def _note(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self._warning = notice.message_primary or "it warned"

    def wait(self, gen: PQGen[Result], *args: Any, **options: Any) -> Result:
        """Wait as psycopg does, but only `patience` seconds without an answer."""
        return super().wait(self._patiently(gen), *args, **options)

    def _patiently(self, work: PQGen[Result]) -> PQGen[Result]:
        silent_since = time.monotonic()
        try:
            wanted = next(work)
            while True:
                # psycopg resumes this after a tenth of a second even without an answer, so the check below is reached.
                ready = yield wanted
                now = time.monotonic()
                if ready:
                    silent_since = now
                elif self.abandoned or now - silent_since > self.patience:
                    raise Silent(_CLOSED if self.abandoned else f"silent for {self.patience:g} seconds")
                wanted = work.send(ready)
        except StopIteration as end:
            result: Result = end.value
            return result

    @contextlib.contextmanager
    def patient(self, seconds: float = 120) -> Generator[None]:
        """A block in which the server may be silent for `seconds`, because it has much to do."""
        before, self.patience = self.patience, seconds
        try:
            yield
        finally:
            self.patience = before

    def execute(self, query: Any, params: Any = None, **options: Any) -> Cursor:
        """Execute one query, after what is not sent yet, and wait for its answer.

        Text that cannot be encoded raises DataError, like other values a server cannot hold.
        """
        try:
            return self._together((query, params)) if self._unsent else self._alone(query, params, **options)
        except UnicodeError as error:
            raise psycopg.DataError(str(error)) from error

    def later(self, query: str, values: Sequence[object]) -> None:
        """Execute a statement whose result nobody reads; its error is raised when a later statement is executed."""
        # A forked child would find out only at the end.
        if self.abandoned:
            raise Silent(_CLOSED)
        self._unsent.append((query, values))
        if len(self._unsent) == _MOST_UNSENT:
            self.send()

    def send(self) -> None:
        """Execute what is not sent yet."""
        if self._unsent:
            self.execute("SELECT")

    def _together(self, last: _Statement) -> Cursor:
        """Send what is not sent yet, and this statement, in one message; gives the cursor at the last result.

        If a statement fails, the server does none of those behind it.
        """
        # libpq quotes the values. Not a pipeline, where the server gets each value by itself: psycopg takes longer for
        # it, and after an error it takes statements for prepared that the server has skipped.
        quoting = psycopg.ClientCursor(self)
        message = "; ".join([quoting.mogrify(query, values) for query, values in (*self._unsent, last)])
        # Not before: a value that cannot be quoted fails again with COMMIT, whoever ignores it now.
        self._unsent.clear()
        cursor = self._alone(message)
        while cursor.nextset():
            pass
        return cursor

    def _alone(self, query: Any, params: Any = None, **options: Any) -> Cursor:
        """Execute one query, whatever is not sent yet."""
        return super().execute(query, params, **options)

    @contextlib.contextmanager
    def reading(self, begin: str) -> Generator[tuple[Any, ...] | None]:
        """A transaction that begins with these statements and is rolled back; gives the row of the last statement."""
        try:
            yield self._begun(begin)
        finally:
            self._roll_back()

    @contextlib.contextmanager
    def writing(self, begin: str) -> Generator[tuple[Any, ...] | None]:
        """A transaction that begins with these statements; it is committed if its block ends without an error.

        Who has confirmations told begins with a statement that writes: another one would confirm nothing.
        """
        began = time.monotonic()
        try:
            yield self._begun(begin)
            if self._has_heard():
                # Most likely that the server has ended the transaction. Asked now, it says so, and nothing is kept.
                self._alone("SELECT")
            with self.keeping():
                ended = self.execute("COMMIT").statusmessage
            # For a transaction that has failed, the server answers COMMIT with ROLLBACK, and without an error.
            self._demand_kept(ended)
            self.confirm(began)
        except BaseException:
            self._roll_back()
            raise

    @contextlib.contextmanager
    def keeping(self) -> Generator[None]:
        """A block that commits something; StoreProblem if the server may or may not have kept it."""
        self._warning = None
        try:
            yield
        except psycopg.OperationalError as error:
            # If it kept nothing, the usual explanation is right.
            if kept_nothing(error):
                raise
            raise may_be_kept(self.place, error) from error
        # Whatever it says: the text may be in any language.
        if self._warning is not None:
            raise may_be_kept(self.place, self._warning)

    def _demand_kept(self, ended: str | None) -> None:
        if ended != "COMMIT":
            raise StoreProblem(f"the store {self.place} saved nothing of this transaction: an earlier statement failed")

    def _begun(self, begin: str) -> tuple[Any, ...] | None:
        self._unsent.clear()
        cursor = self.execute(begin)
        # All statements go in one message, to save round trips; each has a result, and the last one counts.
        while cursor.nextset():
            pass
        return cursor.fetchone() if cursor.description else None

    def _roll_back(self) -> None:
        if self.info.transaction_status in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR):
            with contextlib.suppress(psycopg.Error):
                self._alone("ROLLBACK")

    @property
    def idle(self) -> bool:
        """Whether no transaction is under way, and the connection is not given up."""
        return self.info.transaction_status == pq.TransactionStatus.IDLE and not self.abandoned

    @property
    def fresh(self) -> bool:
        """Whether it is idle and the server has sent nothing.

        If the server has sent something, it is closing the connection.
        """
        return self.idle and not self._has_heard()

    def _has_heard(self) -> bool:
        """Whether the server has sent something that is not read yet."""
        looked = select.poll()
        looked.register(self.fileno(), select.POLLIN)
        return bool(looked.poll(0))

    def disown(self) -> None:
        """Disconnect this copy in a forked child: what it sent would reach the session of the parent."""
        with contextlib.suppress(psycopg.Error):
            # The number of the socket stays open, on another file. Closing the connection would send a farewell, and
            # so end the session of the parent.
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
        self.abandoned = True


_links: "weakref.WeakSet[Link]" = weakref.WeakSet()
_of_the_parent: list[Link] = []


def _after_fork() -> None:
    for link in list(_links):
        link.disown()
        # Keep a reference: psycopg warns about a connection that is collected while it is open.
        _of_the_parent.append(link)
    _links.clear()


os.register_at_fork(after_in_child=_after_fork)


def open_link(address: Address, patience: float = PATIENCE) -> Link:
    """Open a connection to the database, whether it holds a store or not."""
    link = Link.connect(address.conninfo, autocommit=True, connect_timeout=max(2, round(patience)))
    link.place, link.patience = address.shown, patience
    link.add_notify_handler(lambda _: setattr(link, "awake", True))
    _links.add(link)
    try:
        # The search path: no object of another schema can take the place of a function that we call. The lock timeout
        # (milliseconds): three quarters of the patience, so that the server says "busy" before it counts as silent.
        # `jit`: our queries are short, and to compile one takes longer than to run it.
        # `enable_seqscan`: a table that was counted when it was empty would be read from end to end for each row, as it
        # grows, until it is counted again.
        # `synchronous_commit`: raised if a role or a database has set it too low, and else left as the operator set it.
        # `client_min_messages`: a role or a database may have set it so high that no warning comes.
        cursor = link.execute(
            "SET search_path = pg_catalog, pg_temp; SET default_transaction_isolation = 'read committed'; "
            f"SET lock_timeout = {round(patience * 750)}; SET jit = off; SET enable_seqscan = off; "
            "SET client_min_messages = warning; SELECT set_config('synchronous_commit', 'on', false) "
            "WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write'); "
            "SELECT concat_ws(' ', pg_postmaster_start_time(), inet_server_addr(), inet_server_port())"
        )
        while cursor.nextset():
            pass
        (link.server,) = cursor.fetchone() or ("",)
    except BaseException:
        link.close()
        raise
    return link


def open_store_link(address: Address, patience: float = PATIENCE) -> Link:
    """Open a connection to a database with a store of our version; StoreProblem if it has none."""
    link = open_link(address, patience)
    try:
        with explained(address.shown):
            demand_version(address.shown, version_of(address, link), schema.VERSION)
    except BaseException:
        link.close()
        raise
    return link


def version_of(address: Address, link: Link) -> int:
    """The version of the schema of the store that is there; StoreProblem if there is no store."""
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
    """The parts of the URL; ConfigurationProblem if a part that is shown to people may hold the password."""
    before, at, after = url.partition("://")[2].partition("@")
    if "@" in after or (at and _SPECIAL.search(before)):
        raise ConfigurationProblem(
            "this PostgreSQL URL has more than one @, or a /, ? or # before the @: write special characters in a user, "
            "a password or any other part as %XX (@ is %40, / is %2F, ? is %3F, # is %23)"
        )
    with contextlib.suppress(psycopg.Error):
        parts = conninfo_to_dict(url)
        # In a URL without an @, the text after the first colon is a port. If it is not a number, it may be a password.
        if _PORTS.fullmatch(str(parts.get("port") or "")):
            return parts
    # The error of libpq is not shown, because it may quote the password.
    raise ConfigurationProblem(
        "this is not a PostgreSQL URL: write postgresql://USER@HOST:PORT/DATABASE, with special characters as %XX"
    )


def _shown(parts: dict[str, Any]) -> str:
    user, host, port, database = (str(parts.get(name) or "") for name in ("user", "host", "port", "dbname"))
    before = f"{quote(user, safe='')}@" if user else ""
    after = quote(database, safe="")
    if host.startswith(("/", "@")):
        # The host is a folder with a socket: a URL can hold it only as a parameter.
        query = urlencode({"host": host, "port": port} if port else {"host": host}, safe="/")
        return f"postgresql://{before}/{after}?{query}"
    pairs = zip_longest(host.split(","), port.split(","), fillvalue="")
    hosts = ",".join([f"{name}:{number}" if number else name for name, number in pairs])
    return f"postgresql://{before}{hosts}/{after}"
