"""A process believes a server only as long as that confirms its writes; one that was cut off confirms none."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial

import psycopg
import pytest

from capx.errors import StoreProblem, Unavailable
from capx.resource.feed.follower import Follower
from capx.resource.revocations import StoreLiveness
from capx.store.continuity import LONG_UNCONFIRMED
from capx.store.postgres.beats import EVERY
from capx.store.postgres.connection import Link
from capx.store.postgres.store import PostgresStore
from tests.labs.postgres import Server
from tests.labs.postgres_cuts import kill
from tests.labs.replicated import Replicated, cancel_waits, waits
from tests.labs.store_writes import NOW
from tests.labs.waiting import until


@pytest.fixture(scope="module")
def shared() -> Iterator[Replicated]:
    """A primary and a standby that no test promotes or kills."""
    with Replicated() as nodes:
        yield nodes


@pytest.fixture
def nodes(shared: Replicated) -> Iterator[Replicated]:
    yield shared
    shared.resume_replication()
    until(lambda: not waits(shared.primary))


@pytest.fixture
def store(nodes: Replicated) -> Iterator[PostgresStore]:
    with closing(PostgresStore.create(nodes.url(nodes.primary.database()), patience=1.5)) as made:
        yield made


def age(store: PostgresStore) -> float:
    with store.read() as reading:
        return reading.confirmation_age()


def sessions(nodes: Replicated, store: PostgresStore) -> int:
    with closing(nodes.primary.admin()) as connection:
        name = store.place.rpartition("/")[2]
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", (name,)).fetchone()
    return int(row[0]) if row else 0


# What counts


def test_only_what_was_certainly_written_counts(store: PostgresStore) -> None:
    assert age(store) == float("inf")
    burn = partial(store.burn, until=NOW, now=NOW)
    assert burn(bytes(16)).new
    first = age(store)
    assert first < 5
    time.sleep(0.05)
    # A burn that is not new writes nothing, so it waits for nobody.
    assert not burn(bytes(16)).new
    assert store.burn_all([(bytes(16), NOW)], now=NOW) is not None
    store.spent([("a", "b")])
    assert age(store) > first + 0.04
    for write in (
        lambda: burn(b"1" * 16),
        lambda: store.burn_all([(bytes(16), NOW), (b"2" * 16, NOW)], now=NOW),
        lambda: kill(store, "T1"),
    ):
        time.sleep(0.05)
        before = age(store)
        write()
        assert age(store) < before


def test_a_write_counts_from_its_beginning(store: PostgresStore) -> None:
    with store.write() as transaction:
        transaction.probe()
        time.sleep(0.3)
    assert age(store) >= 0.3


def test_a_write_that_was_undone_counts_for_nothing(store: PostgresStore) -> None:
    with suppress(ZeroDivisionError), store.write() as transaction:
        transaction.probe()
        raise ZeroDivisionError
    assert age(store) == float("inf")


# A wait that was cancelled


def test_a_cancelled_wait_is_no_yes(nodes: Replicated, store: PostgresStore) -> None:
    told: list[str] = []

    def burn() -> None:
        with pytest.raises(StoreProblem) as problem:
            store.burn(b"3" * 16, until=NOW, now=NOW)
        told.append(str(problem.value))

    def write() -> None:
        with pytest.raises(StoreProblem) as problem:
            kill(store, "T2")
        told.append(str(problem.value))

    nodes.pause_replication()
    for act in (burn, write):
        thread = threading.Thread(target=act)
        thread.start()
        until(lambda: waits(nodes.primary) > 0)
        cancel_waits(nodes.primary)
        thread.join()
    assert len(told) == 2
    for text in told:
        assert "did not confirm that it kept this, and it may have" in text
    assert age(store) == float("inf")


@pytest.mark.parametrize("whose", ["ROLE capx_owner", "DATABASE {}"])
def test_no_role_and_no_database_hides_the_warning(nodes: Replicated, store: PostgresStore, whose: str) -> None:
    name = store.place.rpartition("/")[2]
    with closing(nodes.primary.admin()) as connection:
        connection.execute(f"ALTER {whose.format(name)} SET client_min_messages = error".encode())
        try:
            with closing(PostgresStore(nodes.url(name), patience=3)) as other:
                nodes.pause_replication()
                thread = threading.Thread(target=lambda: until(lambda: cancel_waits(nodes.primary) > 0))
                thread.start()
                with pytest.raises(StoreProblem, match="it may have"):
                    other.burn(b"4" * 16, until=NOW, now=NOW)
                thread.join()
        finally:
            nodes.resume_replication()
            connection.execute(f"ALTER {whose.format(name)} RESET client_min_messages".encode())


# Beats


def test_who_follows_has_a_write_confirmed_each_second(nodes: Replicated, store: PostgresStore) -> None:
    with closing(Follower(store.source())) as follower:
        assert follower.age() < 1  # it waits for the first
        ages = []
        for _ in range(15):
            time.sleep(0.1)
            ages.append(follower.age())
        assert max(ages) < EVERY + 0.5
        # One that listens, and one for all else.
        assert sessions(nodes, store) == 2


def test_who_writes_anyway_writes_no_beat(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[object] = []
    execute = Link.execute

    def counted(link: Link, query: object, *rest: object, **options: object) -> object:
        if "emit_message" in str(query):
            beats.append(query)
        return execute(link, query, *rest, **options)

    monkeypatch.setattr(Link, "execute", counted)
    with store.beating():
        until(lambda: len(beats) == 1)
        for number in range(15):
            store.burn(number.to_bytes(16), until=NOW, now=NOW)
            time.sleep(0.1)
        assert len(beats) == 1
        until(lambda: len(beats) == 2, seconds=3)
    time.sleep(1.3)
    assert len(beats) == 2


@pytest.mark.parametrize("by", ["message", "burn"])
def test_a_beat_that_hangs_delays_nothing(nodes: Replicated, store: PostgresStore, by: str) -> None:
    store._beats._burns = by == "burn"
    with closing(Follower(store.source())) as follower:
        assert follower.age() < 1
        nodes.pause_replication()
        began, most = time.monotonic(), 0
        while time.monotonic() - began < 4.5:
            before = time.monotonic()
            with store.read() as reading:
                reading.head()
            follower.age()
            assert time.monotonic() - before < 0.5
            most = max(most, waits(nodes.primary))
            time.sleep(0.05)
        # One at a time: what was given up is ended at the server, too.
        assert most == 1
        assert sessions(nodes, store) <= 3
        assert 4 < follower.age() < 7
        nodes.resume_replication()
        until(lambda: follower.age() < 1)


def test_a_role_that_may_emit_nothing_burns_instead(
    postgres_server: Server, postgres_store_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = postgres_store_name
    emit = "FUNCTION pg_logical_emit_message(boolean, text, text)"
    with closing(postgres_server.admin(name)) as connection:
        connection.execute(f"REVOKE EXECUTE ON {emit} FROM PUBLIC".encode())
        try:
            with closing(Follower(PostgresStore(postgres_server.url(name)).source())) as follower:
                assert follower.age() < 1
            assert connection.execute("SELECT count(*) FROM capx.burnt").fetchone() == (1,)
        finally:
            connection.execute(f"GRANT EXECUTE ON {emit} TO PUBLIC".encode())
    assert "it burns instead" in caplog.text


def test_a_burn_that_wrote_nothing_confirms_nothing(store: PostgresStore) -> None:
    with closing(psycopg.connect(store.place, autocommit=True)) as connection:
        connection.execute("UPDATE capx.forgotten SET until = 4102444800")
    store._beats._burns = True
    before = store._beats._confirmed
    with pytest.raises(StoreProblem, match="has confirmed no write"):
        store._beats._beat()
    assert store._beats._confirmed is before


def test_who_looks_meanwhile_sees_every_confirmation(store: PostgresStore) -> None:
    over, ages = threading.Event(), list[float]()

    def look() -> None:
        while not over.is_set():
            ages.append(store._beats.age("here"))
            assert store._beats.server is not None

    store._beats.confirm("here", time.monotonic())
    with ThreadPoolExecutor(2) as pool:
        looks = [pool.submit(look) for _ in range(2)]
        for number in range(50_000):
            store._beats.confirm("here" if number % 2 else "there", time.monotonic())
        over.set()
        for each in looks:
            each.result()
    assert max(ages) < 10


def test_a_look_by_question_has_a_write_confirmed_first(nodes: Replicated, store: PostgresStore) -> None:
    with closing(StoreLiveness(store.source(), poll=0)) as liveness:
        assert liveness.age() < 1
        time.sleep(EVERY + 0.2)
        assert liveness.age() < 1
        nodes.pause_replication()
        time.sleep(EVERY + 0.2)
        # It looks all the same, and says how long ago a write was confirmed.
        assert liveness.age() > EVERY
        assert liveness.problem is None
        until(lambda: liveness.age() > LONG_UNCONFIRMED, seconds=15)
        assert "has confirmed no write of this process for " in str(liveness.problem)


# Another primary


def test_knowledge_of_a_primary_that_was_cut_off_grows_old() -> None:
    with Replicated() as nodes:
        store = PostgresStore.create(nodes.url(nodes.primary.database()), patience=1.5)
        with closing(store), closing(Follower(store.source())) as follower:
            assert follower.age() < 1
            old = nodes.cut_off()
            # A long time goes by, and the old one still answers.
            time.sleep(3)
            assert 2.5 < follower.age() < 6
            assert 2.5 < age(store) < 6
            with psycopg.connect(old.url()) as connection:
                assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
            # The address leads to the new one: all goes on there, by itself.
            nodes.address.lead_to(nodes.primary)
            until(lambda: follower.age() < 1, seconds=15)
            kill(store, "T9")
            until(lambda: "T9" in follower.deaths)
            assert age(store) < 1


def test_a_confirmation_counts_for_its_server_alone(store: PostgresStore) -> None:
    kill(store, "T1")
    time.sleep(0.2)
    for number in range(3):
        store._beats.confirm(f"another {number}", time.monotonic())
        assert 0.2 <= age(store) < 5
    # Of many servers, the latest ones are remembered.
    store._beats.confirm("another 3", time.monotonic())
    assert age(store) == float("inf")


def test_who_follows_an_old_primary_moves_to_the_new_one(store: PostgresStore) -> None:
    with closing(store.source()) as source:
        assert source.news(None).head.deaths == 0
        stream = source.stream(lambda: None)
        assert next(stream).head.deaths == 0
        # The beats of this process have another link, which found another server.
        store._beats.confirm("another", time.monotonic())
        with pytest.raises(Unavailable, match="is at another server now: this one was the primary; try again"):
            source.news(None)
        with pytest.raises(Unavailable, match="is at another server now"):
            next(stream)
        # The next link leads to where the writes are confirmed.
        kill(store, "T1")
        assert source.news(None).head.deaths == 1
