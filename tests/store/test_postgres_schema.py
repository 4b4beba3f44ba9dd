"""How a store comes into a database, and how it is migrated."""

import contextlib
import threading
from decimal import Decimal

import psycopg
import pytest

from capx.crypto.base64url import b64u
from capx.errors import StoreProblem
from capx.store.factory import create_store, open_store
from capx.store.log import GENESIS
from capx.store.postgres import store as postgres
from capx.store.postgres.role import role_sql
from capx.store.postgres.schema import CLOSED, FOR_RESOURCES, VERSION, migration
from capx.store.postgres.store import PostgresStore, migrate
from capx.store.records import HookCursor
from capx.verify.meter import Paid, Spend
from tests.labs.old_requests import COUNTED, NODE, ROWS, counted
from tests.labs.payers import payer
from tests.labs.postgres import ADMIN, Server
from tests.labs.postgres_cuts import admin
from tests.labs.store_writes import note, position, unmarked

NOW = 1_800_000_000


@pytest.fixture
def store(postgres_store: PostgresStore) -> PostgresStore:
    return postgres_store


def test_a_store_is_not_made_in_a_database_of_another_encoding(postgres_server: Server) -> None:
    with postgres_server.admin() as connection:
        connection.execute("DROP DATABASE IF EXISTS latin")
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(StoreProblem, match="does not use UTF8"):
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
            migrate(postgres_url, unmarked)


def test_a_store_is_migrated_whole_or_not_at_all(
    store: PostgresStore, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert migrate(postgres_url, unmarked) == (VERSION, VERSION)
    note(store)
    steps = {
        VERSION + 1: b"CREATE TABLE capx.more (x int); UPDATE capx.version SET version = version + 1; SELECT 1 / 0"
    }
    monkeypatch.setattr(postgres, "VERSION", VERSION + 1)
    monkeypatch.setattr(postgres, "migration", steps.__getitem__)
    with pytest.raises(StoreProblem):
        migrate(postgres_url, unmarked)
    assert position(PostgresStore(postgres_url)) == 1
    steps[VERSION + 1] = steps[VERSION + 1].partition(b"SELECT")[0]
    assert migrate(postgres_url, unmarked) == (VERSION, VERSION + 1)
    with pytest.raises(StoreProblem, match="newer capx"):
        PostgresStore(postgres_url)


def test_a_store_of_the_first_version_keeps_its_roles(postgres_server: Server, postgres_database: str) -> None:
    url, role = postgres_server.url(postgres_database), f"crm_of_{postgres_database}"
    other = f"slides_of_{postgres_database}"
    body = b'{"task":"t","audience":"crm","expires":9000000000,"allow":["\\u0000"],"ids":["%s","%s"]}' % (
        b64u(b"i" * 16).encode(),
        b64u(b"c" * 16).encode(),
    )
    with contextlib.closing(psycopg.connect(url, autocommit=True)) as made:
        made.execute(migration(1))
        made.execute(CLOSED)
        made.execute(b"INSERT INTO capx.head VALUES (1, 'origin.0', 1, '\\x00', 0, 0)")
        made.execute(
            "INSERT INTO capx.events VALUES (1, 1, 'capability_minted', %s, '', NULL, NULL, 't')", (body.decode(),)
        )
    with postgres_server.admin(postgres_database) as operator:
        operator.execute(_sql_of_then(role_sql("crm", role)))
        operator.execute("INSERT INTO capx.resources VALUES ('dropped long ago', 'crm')")
        operator.execute(_sql_of_then(role_sql("slides", other)))
        operator.execute(f"REVOKE EXECUTE ON FUNCTION {_FIRST_SPEND} FROM {other}".encode())
    assert migrate(url, unmarked) == (1, VERSION)
    with contextlib.closing(PostgresStore(url)) as store, store.read() as reading:
        found = reading.minted(b64u(b"c" * 16))
        assert found is not None
        assert found.body == body
    with contextlib.closing(PostgresStore(postgres_server.url(postgres_database, role))) as crm:
        spends = [Spend(b64u(b"n" * 16), "calls", Decimal(1), Decimal(1))]
        by = payer(capability=b"c" * 16)
        assert crm.spend(by, spends, now=NOW).totals == (Decimal(1),)
        assert crm.give_back(by, decision="d", reason="x", now=NOW) == (Paid(b64u(b"n" * 16), "calls", Decimal(1)),)
    with postgres_server.admin(postgres_database) as operator:
        for function in FOR_RESOURCES[5:7]:
            held = operator.execute("SELECT has_function_privilege(%s, %s, 'EXECUTE')", (other, function)).fetchone()
            assert held == (False,), "a right that was taken away is not given back"
        for one in (role, other):
            operator.execute(f"DROP OWNED BY {one}".encode())
            operator.execute(f"DROP ROLE {one}".encode())


_FIRST_SPEND = "capx.spend(text[], text[], numeric[], numeric[], bigint)"


def _sql_of_then(sql: str) -> bytes:
    """The SQL that made a role of the first version."""
    return sql.replace(FOR_RESOURCES[5], _FIRST_SPEND).replace(f"    {FOR_RESOURCES[6]},\n", "").encode()


def test_a_payment_of_the_second_version_is_the_owners(postgres_server: Server, postgres_database: str) -> None:
    url, role, by = postgres_server.url(postgres_database), f"crm_of_{postgres_database}", payer()
    with contextlib.closing(psycopg.connect(url, autocommit=True)) as made:
        for step in (migration(1), migration(2), CLOSED):
            made.execute(step)
        made.execute(b"INSERT INTO capx.head VALUES (1, 'origin.0', 0, %s, 0, 0)", (GENESIS,))
        made.execute(b"INSERT INTO capx.counters VALUES ('a', 'calls', 3, 1)")
        row = (by.presentation, by.admission, by.audience)
        made.execute(b"INSERT INTO capx.paid VALUES (%s, 'a', 'calls', %s, %s, 1, 1)", row)
    with postgres_server.admin(postgres_database) as operator:
        operator.execute(role_sql("crm", role).replace(f"    {FOR_RESOURCES[6]},\n", "").encode())
    assert migrate(url, unmarked) == (2, VERSION)
    # Nobody noted then with which capability it paid.
    with (
        contextlib.closing(PostgresStore(postgres_server.url(postgres_database, role))) as crm,
        pytest.raises(StoreProblem, match="does not let this role do that"),
    ):
        crm.give_back(by, decision="d", reason="x", now=NOW)
    with contextlib.closing(PostgresStore(url)) as owner:
        assert owner.give_back(by, decision="d", reason="x", now=NOW) == (Paid("a", "calls", Decimal(1)),)
        assert owner.spent([("a", "calls")]) == (Decimal(2),)
    with postgres_server.admin(postgres_database) as operator:
        operator.execute(f"DROP OWNED BY {role}".encode())
        operator.execute(f"DROP ROLE {role}".encode())


def test_requests_of_the_fifth_version_count_at_their_nodes(postgres_server: Server, postgres_database: str) -> None:
    url = postgres_server.url(postgres_database)
    with contextlib.closing(psycopg.connect(url, autocommit=True)) as made:
        for step in (*map(migration, range(1, 6)), CLOSED):
            made.execute(step)
        made.execute(b"INSERT INTO capx.head VALUES (1, 'origin.0', 0, %s, 0, 0)", (GENESIS,))
        for nth, (id_, body) in enumerate(ROWS):
            row = (nth, id_, "task-1", NODE, "pending", NOW, body)
            made.execute(b"INSERT INTO capx.requests VALUES (%s, %s, %s, %s, %s, %s, %s)", row)
    assert migrate(url, unmarked) == (5, VERSION)
    with contextlib.closing(PostgresStore(url)) as store, store.read() as reading:
        assert counted(reading) == COUNTED


def test_a_store_of_the_eighth_version_keeps_its_marks(postgres_server: Server, postgres_database: str) -> None:
    url = postgres_server.url(postgres_database)
    with contextlib.closing(psycopg.connect(url, autocommit=True)) as made:
        for step in (*map(migration, range(1, 9)), CLOSED):
            made.execute(step)
        made.execute(b"INSERT INTO capx.head VALUES (1, 'origin.0', 0, %s, 0, 0)", (GENESIS,))
        made.execute(
            b"INSERT INTO capx.tasks (nth, id, root, opened, expires, state, node, principal, intent, mark) "
            b"VALUES (1, 'task-1', 'root-1', 1, 2, 'active', '\\x00', 'ana', 'digest-1', '\\x01')"
        )
    with pytest.raises(StoreProblem, match="capx store migrate"):
        PostgresStore(url)
    assert migrate(url, refuse) == (8, VERSION)
    with contextlib.closing(PostgresStore(url)) as store, store.write() as writing:
        assert [row.mark for row in writing.marked_rows("tasks")] == [b"\x01"]
        assert [task.id for task in writing.task_page(limit=5, principal="ana", intent="digest-1")] == ["task-1"]
        assert writing.hook("mail") is None
        writing.move_hook(HookCursor("mail", "origin.0", 2))
        assert writing.hook("mail") == HookCursor("mail", "origin.0", 2)


def refuse(_: object) -> None:
    raise AssertionError("rows that have marks are not marked anew: somebody may have changed one")


def test_there_is_nothing_to_migrate_where_no_store_is(postgres_server: Server, postgres_database: str) -> None:
    with pytest.raises(StoreProblem, match="capx init"):
        migrate(postgres_server.url(postgres_database), unmarked)
