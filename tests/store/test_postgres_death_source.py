"""A stream of deaths from PostgreSQL."""

import os
import threading
from collections.abc import Callable
from contextlib import closing

import pytest

from capx.errors import StoreProblem, Unavailable
from capx.store.postgres.death_source import PostgresDeathSource
from capx.store.postgres.store import PostgresStore
from capx.store.records import Head, News
from tests.labs.postgres import Server
from tests.labs.postgres_cuts import kill, name_of, within
from tests.labs.store_writes import note, position

NOW = 1_800_000_000


@pytest.fixture
def store(postgres_store: PostgresStore) -> PostgresStore:
    return postgres_store


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


def test_what_keeps_notifications_away_keeps_no_death_away(own: Server, own_url: str) -> None:
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
