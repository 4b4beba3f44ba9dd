"""A store in PostgreSQL: when its server is away, slow, cut off or started again."""

import os
import select
import socket
import threading
import time
from contextlib import suppress
from decimal import Decimal

import psycopg
import pytest

from capx.errors import StoreProblem, Unavailable
from capx.store.postgres import rows as postgres_rows
from capx.store.postgres import store as postgres
from capx.store.postgres.death_source import PostgresDeathSource
from capx.store.postgres.store import PostgresStore
from capx.store.records import DecisionRecord
from capx.verify.meter import Spend
from tests.labs.payers import payer
from tests.labs.postgres import OWNER, Server
from tests.labs.postgres_cuts import SECRET, admin, name_of, within
from tests.labs.store_writes import note, position

NOW = 1_800_000_000


@pytest.fixture
def store(postgres_store: PostgresStore) -> PostgresStore:
    return postgres_store


def test_a_writer_that_stands_still_is_ended(
    store: PostgresStore, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "WRITE", postgres_rows.WRITE.replace("15s", "200ms"))
    other = PostgresStore(postgres_url)
    with pytest.raises(Unavailable), store.write() as transaction:  # noqa: PT012 # a transaction
        transaction.append("noted", b"{}", at=NOW)
        # Waits until the lock of the one that stands still is free.
        assert note(other) == 1
    assert position(other) == 1
    assert note(store) == 2
    other.close()


def test_a_table_that_was_counted_while_empty_is_not_scanned(
    store: PostgresStore, postgres_server: Server, postgres_url: str
) -> None:
    with admin(postgres_server, postgres_url) as watching:
        # What the server does by itself, at a time of its own.
        watching.execute("VACUUM ANALYZE")
        # Another test may have used the database.
        watching.execute("SELECT pg_stat_reset()")
        for first in range(0, 300, 100):
            numbers = range(first, first + 100)
            bodies = [b'{"id":"d.%d","audience":"crm"}' % nth for nth in numbers]
            store.record([DecisionRecord(f"d.{nth}", NOW, body) for nth, body in zip(numbers, bodies, strict=True)])
            for nth in numbers:
                store.burn(b"%16d" % nth, until=NOW + 10, now=NOW)
        # A connection tells what it has read when it ends.
        store.close()
        with within(10):
            ours = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'capx'"
            while watching.execute(ours).fetchone() is not None:
                time.sleep(0.01)
        query = "SELECT max(seq_tup_read) FROM pg_stat_user_tables WHERE relname IN ('events', 'burnt')"
        assert watching.execute(query).fetchone() == (0,)


def test_what_is_forgotten_while_presented_again_is_refused(
    store: PostgresStore, postgres_server: Server, postgres_url: str
) -> None:
    assert store.burn(b"a" * 16, until=NOW + 10, now=NOW).new
    new = list[bool]()
    again = threading.Thread(target=lambda: new.append(store.burn(b"a" * 16, until=NOW + 10, now=NOW + 5).new))
    with admin(postgres_server, postgres_url) as forgetting, admin(postgres_server, postgres_url) as watching:
        # Another process, whose clock is further on, is just forgetting that window.
        forgetting.execute(f"BEGIN; UPDATE forgotten SET until = {NOW + 90}; DELETE FROM burnt".encode())
        again.start()
        while watching.execute("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone() is None:
            time.sleep(0.01)
        forgetting.execute("COMMIT")
    again.join()
    assert new == [False]


def test_a_paused_server_is_given_up_wherever_it_stops(own: Server, own_url: str) -> None:
    store = PostgresStore(own_url, patience=0.5)
    source = store.source()
    head = source.news(None).head

    def connect() -> None:
        PostgresStore(own_url, patience=0.5)

    def read() -> None:
        with store.read():
            pass

    def burn() -> None:
        store.burn(b"a" * 16, until=NOW, now=NOW)

    for attempt in (connect, read, lambda: note(store), lambda: source.news(head), burn):
        own.pause()
        try:
            with pytest.raises(StoreProblem), within(4):
                attempt()
        finally:
            own.resume()
        assert note(store) > 0
        assert source.news(head).head.position > 0
    source.close()
    store.close()


def test_a_server_paused_in_a_transaction_is_given_up(own: Server, own_url: str) -> None:
    store = PostgresStore(own_url, patience=0.5)

    def write() -> None:
        with store.write() as transaction:
            transaction.append("noted", b"{}", at=NOW)
            own.pause()
            transaction.active()

    try:
        with pytest.raises(Unavailable, match="silent for"), within(3):
            write()
    finally:
        own.resume()
    assert note(store) == 1
    store.close()


def test_a_server_paused_before_a_commit_may_have_kept_it(own: Server, own_url: str) -> None:
    store = PostgresStore(own_url, patience=0.5)

    def write() -> None:
        with store.write() as transaction:
            transaction.append("noted", b"{}", at=NOW)
            own.pause()

    try:
        # The whole transaction is in one message with its COMMIT, and the server may read it when it goes on.
        with pytest.raises(StoreProblem, match="may have"), within(3):
            write()
    finally:
        own.resume()
    written = note(store)
    assert written == position(store)
    assert written in {1, 2}
    store.close()


class Line:
    """A TCP line to a server that is cut when the client says `word`: before the server hears it, or after."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.word: bytes | None = None
        self.delivers = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                threading.Thread(target=self._carry, args=(client, server), daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, suppress(OSError):
            while True:
                ready, _, _ = select.select([client, server], [], [])
                for end in ready:
                    data = end.recv(65_536)
                    cut = end is client and self.word is not None and self.word in data
                    if cut:
                        self.word = None
                    if not data or (cut and not self.delivers):
                        return
                    (server if end is client else client).sendall(data)
                    if cut:
                        # The server has done it when it answers, which the client never hears.
                        server.recv(65_536)
                        return

    def close(self) -> None:
        # Closing alone would leave the thread in its wait.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.mark.parametrize("delivered", [False, True])
@pytest.mark.parametrize("word", [b"COMMIT\0", b"capx.spend", b"capx.record"])
def test_an_answer_that_was_lost_may_have_been_kept(own: Server, own_url: str, word: bytes, delivered: bool) -> None:
    line = Line(own.port)
    line.delivers = delivered
    direct = PostgresStore(own_url)
    store = PostgresStore(f"postgresql://{OWNER}:{SECRET}@127.0.0.1:{line.port}/{name_of(own_url)}?sslmode=disable")
    line.word = word

    def attempt() -> None:
        if word == b"COMMIT\0":
            note(store)
        elif word == b"capx.spend":
            store.spend(payer(), [Spend("a", "calls", Decimal(1), Decimal(5))], now=NOW)
        else:
            store.record([DecisionRecord("dec-1", NOW, b'{"id":"dec-1"}')])

    with pytest.raises(StoreProblem, match="may have") as caught:
        attempt()
    assert not isinstance(caught.value, Unavailable)
    assert SECRET not in str(caught.value)
    spent = sum(direct.spent([("a", "calls")]))
    assert (position(direct), spent) == ((0, 0) if not delivered else (0, 1) if word == b"capx.spend" else (1, 0))
    attempt()
    store.close()
    direct.close()
    line.close()


def test_a_standby_is_not_followed() -> None:
    with Server() as server:
        url = server.url(server.database())
        PostgresStore.create(url).close()
        server.stop()
        (server.folder / "data" / "standby.signal").touch()
        server.start()
        with pytest.raises(StoreProblem, match="standby"):
            PostgresStore(url)
        with pytest.raises(StoreProblem, match="standby"):
            PostgresDeathSource(url).news(None)


def test_a_child_forked_in_a_transaction_commits_nothing(store: PostgresStore) -> None:
    with store.write() as transaction:
        transaction.append("noted", b"{}", at=NOW)
        child = os.fork()
        if child == 0:
            verdict = 1
            try:
                transaction.append("noted", b'{"of":"the child"}', at=NOW)
            except psycopg.Error:
                verdict = 0
            finally:
                os._exit(verdict)
        assert os.waitpid(child, 0)[1] == 0
        transaction.append("noted", b'{"of":"the parent"}', at=NOW)
    with store.read() as reading:
        assert [event.body for event in reading.events()] == [b"{}", b'{"of":"the parent"}']
