"""Older stores are migrated; newer and strange ones are refused."""

import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from capx.errors import StoreProblem
from capx.store.records import IntentRecord, TaskRecord
from capx.store.sqlite.connection import migrate
from capx.store.sqlite.schema import VERSION
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.chain import root_node
from capx.verify.meter import Paid, Spend
from tests.labs.next_capx import be_next
from tests.labs.payers import payer
from tests.labs.store_writes import NOW, decision, kill, note, verified

TASK = TaskRecord("task-1", "root-1", NOW, NOW + 60, tenant="Acme", principal="ana", intent="digest-1")
INTENT = IntentRecord("digest-1", "ana", "{}", "signature", 1)


@pytest.fixture
def store(sqlite_store: SQLiteStore) -> SQLiteStore:
    return sqlite_store


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [*connection.iterdump(), str(connection.execute("PRAGMA user_version").fetchone())]


def tamper(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_newer_version_is_refused(store: SQLiteStore, path: Path) -> None:
    store.close()
    tamper(path, f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(StoreProblem, match="newer capx"):
        SQLiteStore(path)
    with pytest.raises(StoreProblem, match="newer capx"):
        migrate(path)


@pytest.fixture
def old(store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of version 1, with something of each kind in it, where capx knows version 2."""
    note(store, b'{"task":"task-1"}')
    store.record([decision("d.1", b',"task":"task-1"')])
    with store.write() as transaction:
        transaction.keep_intent(INTENT)
        transaction.open_task(TASK)
        transaction.count_revocation("task-1", b"n" * 16, now=NOW)
    kill(store, root_node("root-1"))
    store.spend(BY, [Spend("a", "calls", Decimal(1), Decimal(3))], now=NOW)
    store.close()
    # The guard of an authority would make it.
    tamper(path, "UPDATE tasks SET mark = x'01'")
    be_next(monkeypatch)
    return path


BY = payer()


def test_an_older_store_is_refused_and_says_how_to_migrate_it(old: Path) -> None:
    for opened in (SQLiteStore, SQLiteStore.create):
        with pytest.raises(StoreProblem, match=r"capx store migrate|already"):
            opened(old)


def test_an_older_store_is_migrated_whole_and_once(old: Path) -> None:
    assert migrate(old) == (1, 2)
    assert migrate(old) == (2, 2)
    with closing(SQLiteStore(old)) as store:
        assert verified(store).position == 3
        with store.read() as reading:
            assert reading.tasks() == [TASK]
            assert reading.intents() == [INTENT]
            assert [death.key for death in reading.deaths()] == [root_node("root-1")]
            assert [event.position for event in reading.events(task="task-1")] == [1, 2]
            assert reading.decision("d.1") is not None
        with store.write() as transaction:
            assert [row.mark for row in transaction.marked_rows("tasks")] == [b"\x01"], "nobody makes a mark anew"
            assert transaction.count_revocation("task-1", b"n" * 16, now=NOW) == (2, 2)
        assert store.give_back(BY, decision="d.1", reason="x", now=NOW) == (Paid("a", "calls", Decimal(1)),)
        assert note(store) == 5
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("SELECT count(*) FROM heard").fetchone() == (3,)


def test_a_migrated_store_has_the_schema_of_a_new_one(old: Path, tmp_path: Path) -> None:
    migrate(old)
    SQLiteStore.create(tmp_path / "new.db").close()
    schemas = [objects(path) for path in (old, tmp_path / "new.db")]
    assert schemas[0] == schemas[1]
    assert "heard_length" in {name for _, name, _ in schemas[0]}


def objects(path: Path) -> set[tuple[str, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return {(kind, name, " ".join((sql or "").split())) for kind, name, sql in connection.execute(_OBJECTS)}


_OBJECTS = "SELECT type, name, sql FROM sqlite_schema"


def test_a_migration_that_fails_changes_nothing(old: Path) -> None:
    # The table can be made, and then the index cannot.
    tamper(old, "CREATE TABLE heard_length (x)")
    before = dump(old)
    with pytest.raises(StoreProblem):
        migrate(old)
    assert dump(old) == before


def test_another_programs_database_is_refused_and_not_touched(path: Path) -> None:
    tamper(path, "CREATE TABLE other (x)")
    before = path.read_bytes()
    for opened in (SQLiteStore, SQLiteStore.create):
        with pytest.raises(StoreProblem, match=r"not a capx store|another program"):
            opened(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"never a database " * 500)
    for opened in (SQLiteStore, SQLiteStore.create):
        with pytest.raises(StoreProblem, match="not a database"):
            opened(path)
