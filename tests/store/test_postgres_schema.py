"""How a store comes into a database, and how it is migrated."""

import contextlib
import threading
from decimal import Decimal

import pytest

from capx.crypto.base64url import b64u
from capx.errors import StoreProblem
from capx.store.factory import create_store, open_store
from capx.store.postgres import schema
from capx.store.postgres.role import role_sql
from capx.store.postgres.schema import FOR_RESOURCES, VERSION
from capx.store.postgres.store import PostgresStore, migrate
from capx.store.records import TaskRecord
from capx.verify.meter import Paid, Spend
from tests.labs.next_capx import POSTGRES, be_next
from tests.labs.payers import payer
from tests.labs.postgres import ADMIN, Server
from tests.labs.postgres_cuts import admin
from tests.labs.store_writes import note, position

NOW = 1_800_000_000
TASK = TaskRecord("task-1", "root-1", NOW, NOW + 60, tenant="Acme", principal="ana", intent="digest-1")


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
            migrate(postgres_url)


def test_a_store_is_migrated_whole_or_not_at_all(
    store: PostgresStore, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert migrate(postgres_url) == (VERSION, VERSION)
    note(store)
    be_next(monkeypatch)

    def failing(version: int) -> bytes:
        assert version == 2
        return POSTGRES + b"SELECT 1 / 0"

    with monkeypatch.context() as fails:
        fails.setattr(schema, "step", failing)
        with pytest.raises(StoreProblem):
            migrate(postgres_url)
    with pytest.raises(StoreProblem, match="capx store migrate"):
        PostgresStore(postgres_url)
    assert position(store) == 1
    assert migrate(postgres_url) == (1, 2)
    assert migrate(postgres_url) == (2, 2)
    assert position(PostgresStore(postgres_url)) == 1
    monkeypatch.undo()
    with pytest.raises(StoreProblem, match="newer capx"):
        PostgresStore(postgres_url)


def test_a_migrated_store_has_the_schema_of_a_new_one(
    postgres_server: Server, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_next(monkeypatch)
    migrate(postgres_url)
    database = postgres_server.database()
    new = postgres_server.url(database)
    PostgresStore.create(new).close()
    found = [objects(postgres_server, url) for url in (postgres_url, new)]
    assert found[0] == found[1]
    assert ("function", "heard()") in {(kind, name) for kind, name, _ in found[0]}
    postgres_server.give_back(database)


def objects(server: Server, url: str) -> set[tuple[str, str, str]]:
    """What is in the schema, and who may use it."""
    with admin(server, url) as connection:
        return {(f"{kind}", f"{name}", f"{what}") for kind, name, what in connection.execute(_OBJECTS)}


_OBJECTS = b"""
SELECT 'function', oid::regprocedure::text, pg_get_functiondef(oid) || proacl::text FROM pg_proc
WHERE pronamespace = 'capx'::regnamespace
UNION ALL SELECT 'column', attrelid::regclass || '.' || attname, format_type(atttypid, atttypmod) || attnotnull
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE relnamespace = 'capx'::regnamespace AND attnum > 0
UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'capx'
UNION ALL SELECT 'constraint', conname, conrelid::regclass || pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'capx'::regnamespace
UNION ALL SELECT 'rights', relname, relacl::text FROM pg_class WHERE relnamespace = 'capx'::regnamespace
UNION ALL SELECT 'rights', nspname, nspacl::text FROM pg_namespace WHERE nspname = 'capx'
"""


def test_a_migrated_store_keeps_rows_marks_and_roles(
    postgres_server: Server, postgres_store_name: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    role, other = f"crm_of_{postgres_store_name}", f"slides_of_{postgres_store_name}"
    body = b'{"task":"t","audience":"crm","expires":9000000000,"allow":["\\u0000"],"ids":["%s","%s"]}' % (
        b64u(b"i" * 16).encode(),
        b64u(b"c" * 16).encode(),
    )
    by = payer(capability=b"c" * 16)
    spends = [Spend(b64u(b"n" * 16), "calls", Decimal(1), Decimal(2))]
    with contextlib.closing(PostgresStore(postgres_url)) as made, made.write() as writing:
        writing.append("capability_minted", body, at=NOW)
        writing.open_task(TASK)
    with admin(postgres_server, postgres_url) as operator:
        operator.execute("UPDATE tasks SET mark = '\\x01'")
        operator.execute(role_sql("crm", role).encode())
        operator.execute(role_sql("slides", other).encode())
        operator.execute(f"REVOKE EXECUTE ON FUNCTION {FOR_RESOURCES[5]} FROM {other}".encode())
    with contextlib.closing(PostgresStore(postgres_server.url(postgres_store_name, role))) as crm:
        assert crm.spend(by, spends, now=NOW).totals == (Decimal(1),)
    be_next(monkeypatch)
    assert migrate(postgres_url) == (1, 2)
    with contextlib.closing(PostgresStore(postgres_url)) as store, store.read() as reading:
        assert reading.tasks() == [TASK]
        assert [row.mark for row in reading.marked_rows("tasks")] == [b"\x01"], "nobody makes a mark anew"
        found = reading.minted(b64u(b"c" * 16))
        assert found is not None
        assert found.body == body
    with contextlib.closing(PostgresStore(postgres_server.url(postgres_store_name, role))) as crm:
        assert crm.spend(payer(capability=b"c" * 16), spends, now=NOW).totals == (Decimal(2),)
        assert crm.give_back(by, decision="d.1", reason="x", now=NOW) == (Paid(b64u(b"n" * 16), "calls", Decimal(1)),)
    with admin(postgres_server, postgres_url) as operator:
        for function, those in ((FOR_RESOURCES[5], [role]), (FOR_RESOURCES[6], [role, other]), ("capx.heard()", [])):
            query = "SELECT rolname FROM pg_roles WHERE has_function_privilege(oid, %s, 'EXECUTE')"
            held = {f"{name}" for (name,) in operator.execute(query, (function,))}
            assert held & {role, other} == {*those}, "a right stays, and one that was taken away does not return"
        for one in (role, other):
            operator.execute(f"DROP OWNED BY {one}".encode())
            operator.execute(f"DROP ROLE {one}".encode())


def test_there_is_nothing_to_migrate_where_no_store_is(postgres_server: Server, postgres_database: str) -> None:
    with pytest.raises(StoreProblem, match="capx init"):
        migrate(postgres_server.url(postgres_database))
