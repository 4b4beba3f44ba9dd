"""Older stores are migrated; newer and strange ones are refused."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec import structs

from capx.errors import StoreProblem
from capx.store.log import START, Place, following
from capx.store.records import HookCursor, IntentRecord, TaskRecord
from capx.store.sqlite.connection import APPLICATION, migrate
from capx.store.sqlite.schema import MIGRATIONS, VERSION
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.chain import root_node
from capx.verify.meter import Paid, Spend
from tests.labs.old_requests import COUNTED, NODE, ROWS, counted
from tests.labs.payers import payer
from tests.labs.store_writes import granted_by, note, unmarked, verified

NOW = 1_800_000_000
TASK = TaskRecord("task-1", "root-1", NOW, NOW + 60, tenant="Acme", purpose=None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "capx.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    made = SQLiteStore.create(path)
    yield made
    made.close()


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
        migrate(path, unmarked)


@pytest.fixture
def old(path: Path) -> Path:
    """A store as the first version of capx wrote it, with something of each kind in it."""
    path.touch(0o600)
    event = following(START, at=NOW, kind="noted", body=b'{"task":"task-1"}')
    decided = following(Place(1, event.hash), at=NOW, kind="decision", body=b'{"id":"dec-1","task":"task-1"}')
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(MIGRATIONS[0])
        connection.execute("INSERT INTO head VALUES (1, 'origin', 2, ?, 1)", (decided.hash,))
        for one in (event, decided):
            row = (one.position, one.at, one.kind, one.body.decode(), one.hash)
            connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", row)
        node = root_node("root-1")
        task = ("task-1", "root-1", NOW, NOW + 60, "Acme", None, "active", None, None, node)
        connection.execute("INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", task)
        connection.execute("INSERT INTO deaths VALUES (1, ?, 'revoked', ?, 1)", (node, NOW))
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    return path


def test_an_older_store_is_refused_and_says_how_to_migrate_it(old: Path) -> None:
    for opened in (SQLiteStore, SQLiteStore.create):
        with pytest.raises(StoreProblem, match=r"capx store migrate|already"):
            opened(old)


def test_a_store_of_the_first_version_is_migrated_whole(old: Path) -> None:
    assert migrate(old, unmarked) == (1, VERSION)
    assert migrate(old, unmarked) == (VERSION, VERSION)
    store = SQLiteStore(old)
    assert verified(store).position == 2
    with store.read() as reading:
        assert (reading.head().epoch, reading.head().deaths, reading.head().forgotten) == ("origin.0", 1, 0)
        assert reading.task("task-1") == TASK
        assert [death.key for death in reading.deaths()] == [root_node("root-1")]
        assert [event.position for event in reading.events(task="task-1")] == [1, 2]
        assert [event.position for event in reading.events(kind="noted")] == [1]
        assert reading.decision("dec-1") is not None
        assert [task.id for task in reading.overdue(NOW + 60, 5)] == ["task-1"]
    assert note(store) == 3
    with store.write() as transaction:
        assert transaction.count_revocation("task-1", b"n" * 16, now=NOW) == (1, 1)
    assert store.spend(payer(), [Spend("a", "calls", Decimal(1), Decimal(1))], now=NOW).exhausted == ()
    store.sighted("f", 1, now=NOW)
    store.close()


def test_a_store_of_the_second_version_is_migrated_whole(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(MIGRATIONS[1])
        connection.execute("UPDATE tasks SET revocations = 3")
        connection.execute("INSERT INTO counters VALUES ('a', 'calls', '0.5', ?)", (NOW,))
        connection.execute("PRAGMA user_version = 2")
        connection.commit()
    with pytest.raises(StoreProblem, match="capx store migrate"):
        SQLiteStore(old)
    assert migrate(old, unmarked) == (2, VERSION)
    asked_for = structs.replace(TASK, id="task-2", root="root-2", principal="ana", intent="digest-1")
    with closing(SQLiteStore(old)) as store, store.write() as transaction:
        assert transaction.tasks() == [TASK]
        assert transaction.count_revocation("task-1", b"n" * 16, now=NOW) == (1, 4)
        assert [counter.spent for counter in transaction.counters(["a"])] == [Decimal("0.5")]
        assert (transaction.intents(), transaction.requests(), granted_by(transaction, b"i" * 16)) == ([], [], [])
        transaction.open_task(asked_for)
        transaction.keep_intent(IntentRecord("digest-1", "ana", "{}", "signature", 1))
        assert transaction.tasks() == [TASK, asked_for]
        assert transaction.intents() == [IntentRecord("digest-1", "ana", "{}", "signature", 1)]


def test_a_payment_of_the_fourth_version_can_be_given_back(old: Path) -> None:
    by = payer()
    with closing(sqlite3.connect(old)) as connection:
        for step in MIGRATIONS[1:4]:
            connection.executescript(step)
        connection.execute("INSERT INTO counters VALUES ('a', 'calls', '3', ?)", (NOW,))
        row = (by.presentation, "a", "calls", by.admission, by.audience, "1", NOW)
        connection.execute("INSERT INTO paid VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute("PRAGMA user_version = 4")
        connection.commit()
    assert migrate(old, unmarked) == (4, VERSION)
    with closing(SQLiteStore(old)) as store:
        assert store.give_back(by, decision="d", reason="x", now=NOW) == (Paid("a", "calls", Decimal(1)),)
        assert store.spent([("a", "calls")]) == (Decimal(2),)


def test_requests_of_the_fifth_version_count_at_their_nodes(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        for step in MIGRATIONS[1:5]:
            connection.executescript(step)
        for nth, (id_, body) in enumerate(ROWS):
            row = (nth, id_, "task-1", NODE, "pending", NOW, body)
            connection.execute("INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute("PRAGMA user_version = 5")
        connection.commit()
    assert migrate(old, unmarked) == (5, VERSION)
    with closing(SQLiteStore(old)) as store, store.read() as reading:
        assert counted(reading) == COUNTED


def refuse(_: object) -> None:
    raise AssertionError("rows that have marks are not marked anew: somebody may have changed one")


def test_a_store_of_the_seventh_version_keeps_its_marks(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        for step in MIGRATIONS[1:7]:
            connection.executescript(step)
        connection.execute("UPDATE tasks SET principal = 'ana', intent = 'digest-1', mark = x'01'")
        connection.execute("PRAGMA user_version = 7")
        connection.commit()
    with pytest.raises(StoreProblem, match="capx store migrate"):
        SQLiteStore(old)
    assert migrate(old, refuse) == (7, VERSION)
    task = structs.replace(TASK, principal="ana", intent="digest-1")
    with closing(SQLiteStore(old)) as store, store.write() as transaction:
        assert [row.mark for row in transaction.marked_rows("tasks")] == [b"\x01"]
        assert transaction.task_page(limit=5, principal="ana", intent="digest-1") == [task]
        assert transaction.hook("mail") is None
        transaction.move_hook(HookCursor("mail", "origin.0", 2))
        assert transaction.hook("mail") == HookCursor("mail", "origin.0", 2)


def test_a_migrated_store_has_the_schema_of_a_new_one(old: Path, tmp_path: Path) -> None:
    migrate(old, unmarked)
    SQLiteStore.create(tmp_path / "new.db").close()
    schemas = [objects(path) for path in (old, tmp_path / "new.db")]
    assert schemas[0] == schemas[1]


def objects(path: Path) -> set[tuple[str, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return {(kind, name, " ".join((sql or "").split())) for kind, name, sql in connection.execute(_OBJECTS)}


_OBJECTS = "SELECT type, name, sql FROM sqlite_schema"


def test_a_migration_that_fails_changes_nothing(old: Path) -> None:
    tamper(old, "CREATE TABLE strengths (x)")
    before = dump(old)
    with pytest.raises(StoreProblem):
        migrate(old, unmarked)
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
