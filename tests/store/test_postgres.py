"""The store in a PostgreSQL database: where it is, and what happens when its server does not do its part."""

import os
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from decimal import Decimal
from urllib.parse import quote

import psycopg
import pytest

from capx.errors import ConfigurationProblem, StoreProblem, Unavailable
from capx.store.factory import create_store, open_store
from capx.store.log import check
from capx.store.postgres import rows as postgres_rows
from capx.store.postgres import store as postgres
from capx.store.postgres.death_source import PostgresDeathSource
from capx.store.postgres.schema import VERSION
from capx.store.postgres.store import PostgresStore, migrate
from capx.store.protocols import Store
from capx.store.records import DecisionRecord, Head, News, TaskRecord, Unwritable
from capx.verify.meter import Spend
from tests.labs.postgres import ADMIN, OWNER, Server

NOW = 1_800_000_000
SECRET = "s3cr3t-and-long"


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    opened = PostgresStore(postgres_url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server that may be killed and paused."""
    with Server() as server:
        with server.admin() as connection:
            connection.execute(f"ALTER ROLE {OWNER} PASSWORD '{SECRET}'".encode())
        yield server


@pytest.fixture
def own_url(own: Server) -> str:
    """A store on the server that may be killed and paused."""
    url = own.url(own.database())
    PostgresStore.create(url).close()
    return url


def note(store: Store, body: bytes = b"{}") -> int:
    with store.write() as transaction:
        return transaction.append("noted", body, at=NOW).position


def kill(store: Store, key: str) -> None:
    with store.write() as transaction:
        event = transaction.append("revoked", b"{}", at=NOW)
        transaction.kill(key, "revoked", at=NOW, position=event.position)


def position(store: Store) -> int:
    with store.read() as reading:
        return check(reading.events(), head=reading.head().place).position


def name_of(url: str) -> str:
    return url.rpartition("/capx_")[2].partition("?")[0].join(("capx_", ""))


@contextmanager
def admin(server: Server, url: str) -> Generator[psycopg.Connection[tuple[object, ...]]]:
    with closing(server.admin(name_of(url))) as connection:
        connection.execute("SET search_path = capx")
        yield connection


@contextmanager
def within(seconds: float) -> Generator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def test_a_store_is_not_made_in_a_database_of_another_encoding(postgres_server: Server) -> None:
    with postgres_server.admin() as connection:
        connection.execute("DROP DATABASE IF EXISTS latin")
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(StoreProblem, match="not of UTF8"):
        PostgresStore.create(postgres_server.url("latin", ADMIN))


def test_two_who_create_one_store_at_once_make_one(postgres_server: Server, postgres_database: str) -> None:
    url, made, refused = postgres_server.url(postgres_database), list[str](), list[str]()

    def create() -> None:
        try:
            create_store(url).close()
        except StoreProblem as problem:
            refused.append(str(problem))
        else:
            made.append(url)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [url]
    assert [words for words in refused if "already" not in words] == []
    open_store(url).close()


def test_a_store_that_its_maker_may_not_make_leaves_nothing(postgres_server: Server, postgres_database: str) -> None:
    with postgres_server.admin() as connection:
        connection.execute(f"CREATE ROLE stranger_{postgres_database} LOGIN".encode())
    with pytest.raises(StoreProblem, match="does not let this role"):
        PostgresStore.create(postgres_server.url(postgres_database, f"stranger_{postgres_database}"))
    PostgresStore.create(postgres_server.url(postgres_database)).close()


@pytest.mark.parametrize(("version", "words"), [(VERSION + 1, "newer capx"), (VERSION - 1, "capx store migrate")])
def test_another_version_is_refused(
    postgres_server: Server, store: PostgresStore, postgres_url: str, version: int, words: str
) -> None:
    with admin(postgres_server, postgres_url) as connection:
        connection.execute("UPDATE version SET version = %s", (version,))
    with pytest.raises(StoreProblem, match=words):
        PostgresStore(postgres_url)
    source = store.source()
    with pytest.raises(StoreProblem, match=words):
        source.news(None)
    if version > VERSION:
        with pytest.raises(StoreProblem, match=words):
            migrate(postgres_url)


def test_a_store_is_migrated_whole_or_not_at_all(
    store: PostgresStore, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert migrate(postgres_url) == (VERSION, VERSION)
    note(store)
    steps = {
        VERSION + 1: b"CREATE TABLE capx.more (x int); UPDATE capx.version SET version = version + 1; SELECT 1 / 0"
    }
    monkeypatch.setattr(postgres, "VERSION", VERSION + 1)
    monkeypatch.setattr(postgres, "migration", steps.__getitem__)
    with pytest.raises(StoreProblem):
        migrate(postgres_url)
    assert position(PostgresStore(postgres_url)) == 1
    steps[VERSION + 1] = steps[VERSION + 1].partition(b"SELECT")[0]
    assert migrate(postgres_url) == (VERSION, VERSION + 1)
    with pytest.raises(StoreProblem, match="newer capx"):
        PostgresStore(postgres_url)


def test_there_is_nothing_to_migrate_where_no_store_is(postgres_server: Server, postgres_database: str) -> None:
    with pytest.raises(StoreProblem, match="capx init"):
        migrate(postgres_server.url(postgres_database))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ana:hidden@db.example:5433/capx?sslmode=require", "postgresql://ana@db.example:5433/capx"),
        ("postgresql://ana@h1,h2/capx?password=hidden", "postgresql://ana@h1,h2/capx"),
        (
            "postgres:///capx?host=/run/pg&port=5433&user=ana&password=hidden",
            "postgresql://ana@/capx?host=/run/pg&port=5433",
        ),
        ("postgresql://a%40b:hid%20den@h/c%2Fd", "postgresql://a%40b@h/c%2Fd"),
        ("postgresql://", "postgresql:///"),
    ],
)
def test_a_place_is_shown_without_its_password(url: str, shown: str) -> None:
    assert repr(PostgresDeathSource(url)) == f"PostgresDeathSource({shown!r})"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ana:{SECRET}@h:port/capx",
        f"postgresql://ana:{SECRET}@h/capx?no_such_option=1",
        f"postgresql://ana:{SECRET}@[h/capx",
        f"postgresql://ana:{SECRET}%zz@h/capx",
        f"postgresql://ana:{SECRET}@127.0.0.1:1/capx",
        f"postgresql://ana:{SECRET}@no-such-host.invalid/capx",
    ],
)
def test_no_error_shows_a_password(url: str) -> None:
    command = [sys.executable, "-c", "import sys; from capx.store.factory import *; open_store(sys.argv[1])", url]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert failed.returncode == 1
    assert re.search(r"^capx\.errors\.(ConfigurationProblem|Unavailable): ", failed.stderr, re.MULTILINE)
    assert SECRET not in failed.stderr


@pytest.mark.parametrize(
    "rest",
    [
        "ana:s3cr@{}@127.0.0.1:1/capx",
        "ana:{}/et@127.0.0.1/capx",
        "ana:s3/{}@127.0.0.1/capx",
        "ana:{}?et@127.0.0.1/capx",
        "ana:s3?{}=x@127.0.0.1/capx",
        "ana:s3#{}@127.0.0.1/capx",
        "s3@{}:x@127.0.0.1/capx",
        "ana@127.0.0.1/{}@x",
        "ana@127.0.0.1:{}@x/capx",
        "/capx?password={}@x",
    ],
)
def test_a_password_that_would_be_read_as_another_part_is_refused_unseen(rest: str) -> None:
    for scheme in ("postgresql", "postgres"):
        with pytest.raises(ConfigurationProblem, match="%40") as caught:
            PostgresDeathSource(f"{scheme}://{rest.format(SECRET)}")
        assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"


@pytest.mark.parametrize("rest", ["ana:{}/capx", "ana:{}", "ana:{},h2:1/capx", "/capx?port={}"])
def test_a_password_without_a_host_is_no_port(rest: str) -> None:
    with pytest.raises(ConfigurationProblem, match="is no PostgreSQL URL") as caught:
        PostgresDeathSource(f"postgresql://{rest.format(SECRET)}")
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"


def test_what_is_written_as_percents_is_meant(own: Server, own_url: str) -> None:
    password = "a/b?c#d@e:f%g"
    role = f"special_{name_of(own_url)}"
    with closing(own.admin()) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'".encode())
    with pytest.raises(StoreProblem, match="does not know the role"):
        PostgresStore(own.tcp_url(name_of(own_url), role, quote(password, safe="")))


def test_a_wrong_password_is_told_without_showing_it(own: Server, own_url: str) -> None:
    PostgresStore(own.tcp_url(name_of(own_url), OWNER, SECRET)).close()
    with pytest.raises(StoreProblem, match=r"cannot be reached|lets this role not in") as caught:
        PostgresStore(own.tcp_url(name_of(own_url), OWNER, "wr0ng-one"))
    assert "wr0ng-one" not in f"{caught.value} {caught.value.__cause__}"


def test_a_database_that_is_not_there_is_told(postgres_server: Server) -> None:
    with pytest.raises(StoreProblem, match="does not exist"):
        PostgresStore(postgres_server.url("nowhere"))


def test_without_psycopg_one_is_told_what_to_install() -> None:
    program = (
        "import sys; sys.modules['psycopg'] = None; from capx.store.factory import *; open_store('postgresql://h/d')"
    )
    failed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "ConfigurationProblem" in failed.stderr
    assert "pip install 'capx-auth[postgres]'" in failed.stderr


@pytest.mark.parametrize("kind", ["no\0ted", "\ud800"])
def test_what_no_text_can_hold_can_never_be_written(store: PostgresStore, kind: str) -> None:
    with pytest.raises((Unwritable, UnicodeEncodeError)), store.write() as transaction:
        transaction.append(kind, b"{}", at=NOW)
    with pytest.raises(Unwritable):
        store.sighted(kind, 1, now=NOW)
    with pytest.raises(Unwritable), store.write() as transaction:
        transaction.append("noted", b'{"x":"\xff"}', at=NOW)
    assert note(store) == 1


def test_numbers_without_end_can_never_be_written(store: PostgresStore) -> None:
    with pytest.raises(Unwritable):
        store.sighted("f", 2**80, now=NOW)
    with pytest.raises(Unwritable):
        store.spend([Spend("a", "calls", Decimal("1e200000"), Decimal("1e200001"))], now=NOW)
    assert note(store) == 1


@pytest.mark.parametrize("more", [False, True])
def test_an_error_that_was_swallowed_in_a_block_is_told_at_its_end(store: PostgresStore, more: bool) -> None:
    task = TaskRecord("task-1", "root-1", NOW, NOW)
    with pytest.raises(StoreProblem, match="kept nothing"), store.write() as transaction:  # noqa: PT012 # a transaction
        transaction.open_task(task)
        if more:
            transaction.append("noted", b"{}", at=NOW)
        with suppress(psycopg.Error):
            transaction.open_task(task)
    with store.read() as reading:
        assert (reading.head().position, reading.tasks()) == (0, [])


def test_a_store_that_is_held_for_too_long_is_busy(store: PostgresStore, postgres_url: str) -> None:
    other = PostgresStore(postgres_url, patience=0.5)
    with store.write() as transaction:
        transaction.append("noted", b"{}", at=NOW)
        with pytest.raises(Unavailable, match="busy"), within(2):
            note(other)
        assert other.burn(b"a" * 16, until=NOW, now=NOW).new
        assert other.spend([Spend("a", "calls", Decimal(1), Decimal(1))], now=NOW).exhausted == ()
    assert note(other) == 2
    other.close()


def test_no_more_connections_are_opened_than_the_pool_may(postgres_url: str) -> None:
    store = PostgresStore(postgres_url, patience=0.5)
    pool = store._pool  # pyright: ignore[reportPrivateUsage]
    pool.close(for_good=False)
    pool._most = 2  # pyright: ignore[reportPrivateUsage]
    pool.begin()
    with store.read(), store.read(), pytest.raises(Unavailable, match="all 2 connections"):
        note(store)
    assert note(store) == 1
    store.close()


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


def test_a_server_out_of_room_leaves_nothing_half_done(
    store: PostgresStore, postgres_server: Server, postgres_url: str
) -> None:
    note(store)
    with admin(postgres_server, postgres_url) as connection:
        connection.execute(
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
        )
        connection.execute("CREATE TRIGGER no_room BEFORE UPDATE ON head EXECUTE FUNCTION no_room()")
        with pytest.raises(Unavailable, match="disk of its server is full"):
            kill(store, "task-1")
        connection.execute("DROP TRIGGER no_room ON head")
    with store.read() as reading:
        assert list(reading.deaths()) == []
    assert position(store) == 1
    assert note(store) == 2


def test_a_database_that_is_read_only_is_read_and_not_written(
    store: PostgresStore, postgres_server: Server, postgres_url: str
) -> None:
    note(store)
    with admin(postgres_server, postgres_url) as connection:
        connection.execute(f"ALTER DATABASE {name_of(postgres_url)} SET default_transaction_read_only = on".encode())
    read_only = PostgresStore(postgres_url)
    with pytest.raises(StoreProblem, match="read-only"):
        note(read_only)
    with pytest.raises(StoreProblem, match="read-only"):
        read_only.burn(b"a" * 16, until=NOW, now=NOW)
    assert position(read_only) == 1
    assert read_only.source().news(None).head.position == 1
    read_only.close()


def test_what_is_forgotten_while_it_is_presented_again_is_not_new(
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


def cut(server: Server, url: str) -> None:
    """Cut all connections to a database."""
    with server.admin() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name_of(url),)
        )


def test_a_connection_cut_in_a_transaction_leaves_nothing_and_the_next_one_goes_on(
    store: PostgresStore, postgres_server: Server, postgres_url: str
) -> None:
    with pytest.raises(Unavailable), store.write() as transaction:  # noqa: PT012 # a transaction
        transaction.append("noted", b"{}", at=NOW)
        cut(postgres_server, postgres_url)
        transaction.append("noted", b"{}", at=NOW)
    assert note(store) == 1


def test_connections_that_were_cut_while_idle_fail_nobody(
    store: PostgresStore, postgres_server: Server, postgres_url: str
) -> None:
    with store.read(), store.read(), store.read():
        pass
    source = store.source()
    source.news(None)
    cut(postgres_server, postgres_url)
    assert note(store) == 1
    assert source.news(None).head.position == 1
    source.close()


@pytest.mark.parametrize("end", [Server.kill, Server.stop])
def test_a_server_that_was_started_again_is_used_again(
    own: Server, own_url: str, end: Callable[[Server], None]
) -> None:
    store = PostgresStore(own_url)
    assert note(store) == 1
    end(own)
    try:
        with pytest.raises(Unavailable, match="cannot be reached"):
            note(store)
    finally:
        own.start()
    assert note(store) == 2
    assert position(store) == 2
    store.close()


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


@pytest.mark.parametrize("moment", ["statement", "commit"])
def test_a_server_paused_in_a_transaction_is_given_up(own: Server, own_url: str, moment: str) -> None:
    store = PostgresStore(own_url, patience=0.5)

    def write() -> None:
        with store.write() as transaction:
            transaction.append("noted", b"{}", at=NOW)
            own.pause()
            if moment == "statement":
                transaction.append("noted", b"{}", at=NOW)

    try:
        with pytest.raises(Unavailable, match="silent for"), within(3):
            write()
    finally:
        own.resume()
    assert note(store) == 1
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
            store.spend([Spend("a", "calls", Decimal(1), Decimal(5))], now=NOW)
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


def test_a_child_that_was_forked_in_a_transaction_commits_nothing(store: PostgresStore) -> None:
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


class Following:
    """A thread that follows a stream."""

    def __init__(self, source: PostgresDeathSource) -> None:
        self.head: Head | None = None
        self.dead: set[bytes | str] = set()
        self.heard = threading.Condition()
        self.times = 0
        self.problem: StoreProblem | None = None
        self._source = source
        self.thread = threading.Thread(target=self._follow)
        self.thread.start()

    def _follow(self) -> None:
        try:
            for news in self._source.stream(lambda: self.head):
                with self.heard:
                    self._learn(news)
        except StoreProblem as problem:
            self.problem = problem

    def _learn(self, news: News) -> None:
        self.head = news.head
        self.dead |= set(news.deaths)
        self.times += 1
        self.heard.notify_all()

    def hears(self, holds: Callable[[], bool], timeout: float = 5) -> bool:
        with self.heard:
            return self.heard.wait_for(holds, timeout)


def test_a_stream_tells_a_death_at_once(store: PostgresStore, postgres_url: str) -> None:
    source = PostgresDeathSource(postgres_url, poll=60)
    following = Following(source)
    assert following.hears(lambda: following.head is not None)
    for number in range(20):
        kill(store, f"task-{number}")
        assert following.hears(lambda number=number: f"task-{number}" in following.dead)  # type: ignore[misc]
    with within(2):
        source.close()
        following.thread.join()
    assert following.problem is None


def test_what_keeps_notifications_from_being_sent_keeps_no_death_from_being_kept(own: Server, own_url: str) -> None:
    # As when a session that listens and stands still has let the queue of notifications fill up.
    with closing(own.admin(name_of(own_url))) as admin:
        admin.execute("REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC")
    source = PostgresDeathSource(own_url, poll=0.02)
    following = Following(source)
    with closing(PostgresStore(own_url)) as store:
        kill(store, "a")
        kill(store, "b")
        assert position(store) == 2
    assert following.hears(lambda: {"a", "b"} <= following.dead)
    source.close()
    following.thread.join(5)


def test_a_stream_tells_of_an_epoch_and_of_forgetting_at_once(store: PostgresStore, postgres_url: str) -> None:
    kill(store, "a")
    source = PostgresDeathSource(postgres_url, poll=60)
    following = Following(source)
    assert following.hears(lambda: "a" in following.dead)
    with store.write() as transaction:
        transaction.forget(NOW + 1)
    assert following.hears(lambda: following.head is not None and following.head.forgotten == 1)
    with store.write() as transaction:
        transaction.begin_epoch("later.1")
    # It is told so, for the epoch is of another origin.
    following.thread.join(5)
    assert "another one" in str(following.problem)
    source.close()


def test_a_stream_says_again_and_again_that_nothing_died(store: PostgresStore, postgres_url: str) -> None:
    source = PostgresDeathSource(postgres_url, poll=0.02)
    following = Following(source)
    assert following.hears(lambda: following.times > 5)
    note(store)
    assert following.hears(lambda: following.head is not None and following.head.position == 1)
    source.close()
    following.thread.join(5)
    assert not following.thread.is_alive()


def test_a_stream_whose_server_dies_ends_with_a_problem(own: Server, own_url: str) -> None:
    source = PostgresDeathSource(own_url, poll=60)
    following = Following(source)
    assert following.hears(lambda: following.times > 0)
    own.kill()
    try:
        following.thread.join(5)
        assert isinstance(following.problem, Unavailable)
        again = Following(source)
        again.thread.join(5)
        assert isinstance(again.problem, Unavailable)
    finally:
        own.start()
    following = Following(source)
    assert following.hears(lambda: following.times > 0)
    source.close()
    following.thread.join(5)


@pytest.mark.parametrize("closed", [False, True])
def test_a_stream_whose_server_is_paused_ends(own: Server, own_url: str, closed: bool) -> None:
    source = PostgresDeathSource(own_url, poll=0.02, patience=60 if closed else 0.5)
    following = Following(source)
    assert following.hears(lambda: following.times > 0)
    own.pause()
    try:
        if closed:
            source.close()
        with within(2):
            following.thread.join(5)
        assert not following.thread.is_alive()
        assert (following.problem is None) == closed
    finally:
        own.resume()
        source.close()


# From 3.12 on Python warns of what is tested here.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_ends_no_stream_of_its_parent(store: PostgresStore, postgres_url: str) -> None:
    source = PostgresDeathSource(postgres_url, poll=60)
    following = Following(source)
    assert following.hears(lambda: following.times > 0)
    child = os.fork()
    if child == 0:
        try:
            source.close()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    kill(store, "a")
    assert following.hears(lambda: "a" in following.dead)
    source.close()
    following.thread.join(5)
    assert not following.thread.is_alive()


def test_what_is_no_postgresql_url_is_told() -> None:
    with pytest.raises(ConfigurationProblem, match="postgresql://USER@HOST"):
        open_store("postgresql://h/d?no_such_option=1")
