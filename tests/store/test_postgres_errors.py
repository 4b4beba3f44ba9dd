"""What PostgreSQL refuses is told as what it is."""

from contextlib import suppress
from decimal import Decimal

import psycopg
import pytest

from capx.errors import StoreProblem, Unavailable
from capx.store.postgres.store import PostgresStore
from capx.store.records import TaskRecord, Unwritable
from capx.verify.meter import Spend
from tests.labs.payers import payer
from tests.labs.postgres import Server
from tests.labs.postgres_cuts import admin, kill, name_of, within
from tests.labs.store_writes import note, position

NOW = 1_800_000_000


@pytest.fixture
def store(postgres_store: PostgresStore) -> PostgresStore:
    return postgres_store


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
        store.spend(payer(), [Spend("a", "calls", Decimal("1e200000"), Decimal("1e200001"))], now=NOW)
    assert note(store) == 1


@pytest.mark.parametrize("more", [False, True])
def test_an_error_swallowed_in_a_block_is_told_at_its_end(store: PostgresStore, more: bool) -> None:
    task = TaskRecord("task-1", "root-1", NOW, NOW)
    with pytest.raises(StoreProblem, match="saved nothing"), store.write() as transaction:  # noqa: PT012 # a transaction
        transaction.open_task(task)
        transaction.open_task(task)
        with suppress(psycopg.Error):
            transaction.active()
        if more:
            transaction.append("noted", b"{}", at=NOW)
    with store.read() as reading:
        assert (reading.head().position, reading.tasks()) == (0, [])


def test_a_value_swallowed_in_a_block_is_told_at_its_end(store: PostgresStore) -> None:
    with pytest.raises(Unwritable), store.write() as transaction:  # noqa: PT012 # a transaction
        transaction.append("noted", b"{}", at=NOW)
        transaction.open_task(TaskRecord("task\0", "root-1", NOW, NOW))
        with suppress(psycopg.Error):
            transaction.active()
        transaction.append("noted", b"{}", at=NOW)
    assert note(store) == 1


def test_a_store_that_is_held_for_too_long_is_busy(store: PostgresStore, postgres_url: str) -> None:
    other = PostgresStore(postgres_url, patience=0.5)
    with store.write() as transaction:
        transaction.append("noted", b"{}", at=NOW)
        with pytest.raises(Unavailable, match="busy"), within(2):
            note(other)
        assert other.burn(b"a" * 16, until=NOW, now=NOW).new
        assert other.spend(payer(), [Spend("a", "calls", Decimal(1), Decimal(1))], now=NOW).exhausted == ()
    assert note(other) == 2
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
