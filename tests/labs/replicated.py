"""A PostgreSQL with standbys, whose machines can be lost, and an address that is moved from one to another.

    with Replicated(standbys=1) as nodes:
        place = nodes.url(database)     # at an address that leads to `nodes.primary`
        nodes.cut_off()                 # the standby is promoted, and the old primary goes on
        nodes.address.lead_to(nodes.primary)

Each node is a server of its own (tests.labs.postgres.Server), and all are killed at the end.
"""

import contextlib
import itertools
import selectors
import socket
import threading
from contextlib import closing
from pathlib import Path
from typing import Self

from psycopg.sql import SQL, Literal

from tests.labs.postgres import ADMIN, OWNER, Server
from tests.labs.waiting import until

_NAMES = itertools.count(1)


class Standby(Server):
    """A copy of a running primary, which it follows until it is promoted."""

    def __init__(self, primary: Server) -> None:
        self.name = f"standby{next(_NAMES)}"
        self._primary = primary
        # A standby says this name to its primary.
        super().__init__(cluster_name=self.name)

    def _make(self) -> None:
        connection = f"host={self._primary.folder} port={self._primary.port} user={ADMIN}"
        self._run("pg_basebackup", "-D", self._data, "-d", connection, "-R", "-X", "stream", "-c", "fast")

    def promote(self) -> None:
        """Have it take writes by itself."""
        with closing(self.admin()) as connection:
            connection.execute("SELECT pg_promote()")
        until(lambda: not self.follows)

    @property
    def follows(self) -> bool:
        """Whether it is still a standby."""
        with closing(self.admin()) as connection:
            row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
        return row is not None and bool(row[0])


class Replicated:
    """A primary and standbys; `waits_for` is what it sets as `synchronous_standby_names`, with the standbys' names.

    By default each commit waits for all standbys; with "" for none. The clock of the first primary is wrong by `clock`
    seconds.
    """

    def __init__(self, standbys: int = 1, *, waits_for: str = "{count} ({names})", clock: int = 0) -> None:
        self._count = standbys
        self._clock = clock
        self._waits_for = waits_for
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.primary = self._open.enter_context(Server(clock=self._clock))
        self.standbys: list[Standby] = []
        self._follow()
        self.address = self._open.enter_context(Address(self.primary))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def follow(self) -> None:
        """Give the primary new standbys, as an operator does after a loss, and wait for them as at the beginning."""
        for standby in self.standbys:
            standby.kill()
        self._follow()

    def _follow(self) -> None:
        self.standbys = []
        for _ in range(self._count):
            standby = Standby(self.primary)
            self._open.callback(standby.end)
            standby.start()
            self.standbys.append(standby)
        names = ", ".join(standby.name for standby in self.standbys)
        self.wait_for(self._waits_for.format(count=self._count, names=names))

    def url(self, database: str = "postgres", role: str = OWNER) -> str:
        """The URL of a database at the address that leads to the primary."""
        return f"postgresql://{role}@127.0.0.1:{self.address.port}/{database}"

    def wait_for(self, names: str) -> None:
        """Have each commit wait for these standbys, once they are connected."""
        with closing(self.primary.admin()) as connection:
            connected = SQL("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")
            until(lambda: connection.execute(connected).fetchone() == (len(self.standbys),))
            connection.execute(SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(Literal(names)))
            connection.execute("SELECT pg_reload_conf()")
            until(lambda: connection.execute("SHOW synchronous_standby_names").fetchone() == (names,))

    def pause_replication(self) -> None:
        """Have no standby take anything any more."""
        for standby in self.standbys:
            standby.pause()

    def resume_replication(self) -> None:
        """Have all standbys go on."""
        for standby in self.standbys:
            standby.resume()

    def kill(self) -> None:
        """Kill the primary and all its processes, promote the first standby, and lead the address there.

        Standbys that were paused go on when the primary is gone, without what it did not send.
        """
        self.primary.kill()
        self.resume_replication()
        self._promote()
        self.address.lead_to(self.primary)

    def cut_off(self) -> Server:
        """Promote the first standby while the primary goes on, and give the old primary.

        The address still leads to the old one.
        """
        old = self.primary
        self._promote()
        return old

    def _promote(self) -> None:
        chosen = self.standbys.pop(0)
        chosen.promote()
        self.primary = chosen


class Address:
    """A port of 127.0.0.1 whose connections go on to the socket of a server; it is led elsewhere for later ones."""

    def __init__(self, server: Server) -> None:
        self.leads_to = server
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._passing = selectors.DefaultSelector()
        self._other: dict[socket.socket, socket.socket] = {}
        self._woken, self._waker = socket.socketpair()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="address", daemon=True)

    def __enter__(self) -> Self:
        for each in (self._listening, self._woken):
            self._passing.register(each, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._waker.send(b"!")
        self._thread.join()
        for each in (*self._other, self._listening, self._woken, self._waker):
            each.close()
        self._passing.close()

    def lead_to(self, server: Server) -> None:
        """Lead later connections to this server; those that are open stay where they are."""
        self.leads_to = server

    def _run(self) -> None:
        while not self._ended:
            for key, _ in self._passing.select():
                if key.fileobj is self._listening:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._other:
                    self._pass_on(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listening.accept()
        server = socket.socket(socket.AF_UNIX)
        place = Path(self.leads_to.folder) / f".s.PGSQL.{self.leads_to.port}"
        try:
            server.connect(str(place))
        except OSError:
            client.close()
            server.close()
            return
        for one, other in ((client, server), (server, client)):
            self._other[one] = other
            self._passing.register(one, selectors.EVENT_READ)

    def _pass_on(self, one: socket.socket) -> None:
        other = self._other[one]
        try:
            data = one.recv(65_536)
            other.sendall(data)
        except OSError:
            data = b""
        if not data:
            for each in (one, other):
                self._passing.unregister(each)
                del self._other[each]
                each.close()


def waits(server: Server) -> int:
    """How many sessions of a server wait for a standby."""
    with closing(server.admin()) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").fetchone()
    return int(row[0]) if row else 0


def cancel_waits(server: Server) -> int:
    """Cancel each wait for a standby, as an operator can; give how many there were."""
    with closing(server.admin()) as connection:
        row = connection.execute(
            "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        ).fetchone()
    return int(row[0]) if row else 0
