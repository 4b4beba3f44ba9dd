"""No more connections than the pool may, and those that were cut fail nobody."""

from collections.abc import Callable

import pytest

from capx.errors import Unavailable
from capx.store.postgres.store import PostgresStore
from tests.labs.postgres import Server
from tests.labs.postgres_cuts import cut
from tests.labs.store_writes import note, position

NOW = 1_800_000_000


@pytest.fixture
def store(postgres_store: PostgresStore) -> PostgresStore:
    return postgres_store


def test_no_more_connections_are_opened_than_the_pool_may(postgres_url: str) -> None:
    store = PostgresStore(postgres_url, patience=0.5)
    pool = store._pool
    pool.close(for_good=False)
    pool._most = 2
    pool.begin()
    with store.read(), store.read(), pytest.raises(Unavailable, match="all 2 connections"):
        note(store)
    assert note(store) == 1
    store.close()


def test_a_connection_cut_in_a_transaction_leaves_nothing(
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
