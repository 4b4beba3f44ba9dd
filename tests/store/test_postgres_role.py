"""What the role of a resource may do in a PostgreSQL store, and that it may do nothing else."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from psycopg import errors
from psycopg.sql import SQL, Identifier

from capx.authority.authority import Authority
from capx.crypto.base64url import b64u
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import InvalidRequest, StoreProblem
from capx.store.decision_groups import grouped
from capx.store.events import GivenBack
from capx.store.log import check
from capx.store.postgres.role import role_sql
from capx.store.postgres.schema import FOR_RESOURCES
from capx.store.postgres.store import PostgresStore
from capx.store.records import REVOCATIONS, Burn, DecisionRecord, Unwritable
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.binding import ToolCall
from capx.tokens.uses_counter import uses_counter
from capx.verify.decision import Decision
from capx.verify.meter import Payer, Spend
from capx_caveats import Call, budget
from tests.labs.payers import payer
from tests.labs.postgres import OWNER, Server
from tests.labs.postgres_roles import Connection, Roles
from tests.labs.waiting import until

NOW = int(time.time())
NODE = b64u(b"n" * 16)
"""The counter of a node: it follows from a token, so a role that names it was shown that token."""
KEYS = KeyRing(RootKey.generate())


@pytest.fixture
def owner(postgres_url: str) -> Iterator[PostgresStore]:
    store = PostgresStore(postgres_url)
    with store.write() as transaction:
        transaction.append("revoked", b"{}", at=NOW)
        transaction.kill("task-1", "revoked", at=NOW, position=1)
    yield store
    store.close()


@pytest.fixture
def roles(postgres_server: Server, postgres_store_name: str, owner: PostgresStore) -> Iterator[Roles]:
    made = Roles(postgres_server, postgres_store_name)
    yield made
    made.end()


@pytest.fixture
def crm(roles: Roles) -> Iterator[PostgresStore]:
    """The store as the resource `crm` uses it."""
    store = PostgresStore(roles.url(roles.make("crm")))
    yield store
    store.close()


@pytest.fixture
def session(roles: Roles, crm: PostgresStore) -> Iterator[Connection]:
    """A session of the role of `crm`, for SQL that capx itself never sends."""
    with roles.connected(f"crm_of_{roles.database}") as connection:
        yield connection


def minted(owner: PostgresStore, *allow: str, unit: str = "calls") -> tuple[str, bytes]:
    """A task with a budget of three, and the id of the capability that was minted in it."""
    opened = Authority(owner, KEYS).open(allow=allow or ["crm.read"], caveats=[budget(unit, 3)])
    return opened.id, next(iter(opened.bundle)).ids[1]


def decision(id_: str, audience: str = "crm") -> DecisionRecord:
    return DecisionRecord(id_, NOW, b'{"id":"%s","audience":"%s","task":"task-1"}' % (id_.encode(), audience.encode()))


def test_a_resource_burns_spends_records_and_reads_deaths(owner: PostgresStore, crm: PostgresStore) -> None:
    # The server moves a resource's time to within five seconds of its own clock.
    now = int(time.time())
    assert crm.burn(b"a" * 16, until=now + 60, now=now) == Burn(True)
    assert owner.burn(b"a" * 16, until=now + 60, now=now) == Burn(False)
    task, capability = minted(owner)
    spends = [Spend(task, "calls", Decimal(2), Decimal(3)), Spend(NODE, "calls", Decimal(2), Decimal(3))]
    assert crm.spend(payer(capability=capability), spends, now=NOW).exhausted == ()
    assert owner.spend(payer(), spends, now=NOW).exhausted == (0, 1)
    assert crm.spent([(NODE, "calls"), (task, "calls")]) == (Decimal(2), Decimal(2))
    crm.record([decision("dec-1"), decision("dec-1")])
    crm.sighted("crm/1", 1, now=NOW)
    source = crm.source()
    news = source.news(None)
    assert (news.deaths, news.head.position) == ({"task-1": "revoked"}, 5)
    told = source.stream(lambda: news.head)
    assert next(told).deaths == {}
    source.close()
    assert list(told) == []
    with owner.read() as reading:
        assert check(reading.events(), head=reading.head().place).position == 5
        assert [event.position for event in reading.events(task="task-1")] == [5]
        assert [sighting.follower for sighting in reading.follower_acks()] == ["crm/1"]


def test_a_resource_neither_reads_nor_writes_the_rest(crm: PostgresStore) -> None:
    for use in (crm.read, crm.write):
        with pytest.raises(StoreProblem, match="does not let this role"), use():
            pass


def test_every_table_is_closed_to_a_resource(session: Connection) -> None:
    tables = session.execute(
        "SELECT c.oid, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = 'capx' AND c.relkind IN ('r', 'v', 'm', 'p', 'f', 'S')"
    ).fetchall()
    assert len(tables) >= 10
    assert {"intents", "requests", "grants", "strengths"} <= {name for _, name in tables}
    for oid, name in tables:
        held = session.execute(
            "SELECT p "
            "FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p "
            "WHERE has_table_privilege(%s::oid, p) OR has_any_column_privilege(%s::oid, 'SELECT')",
            (oid, oid),
        ).fetchall()
        assert held == []
        for statement in (
            "SELECT * FROM {}",
            "DELETE FROM {}",
            "TRUNCATE {}",
            "DO $$ BEGIN LOCK TABLE {}; END $$",
            "COPY {} TO STDOUT",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                session.execute(SQL(statement).format(Identifier("capx", name)))


def test_every_other_function_is_closed_to_a_resource(session: Connection) -> None:
    functions = session.execute(
        "SELECT p.oid::regprocedure::text, has_function_privilege(p.oid, 'EXECUTE'), p.prosecdef, p.proconfig "
        "FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'capx'"
    ).fetchall()
    allowed = {session.execute("SELECT %s::regprocedure::text", (name,)).fetchone() for name in FOR_RESOURCES}
    assert {(name,) for name, may, *_ in functions if may} == allowed
    assert len(functions) > len(allowed)
    for name, may, definer, settings in functions:
        # A function with the owner's rights must not use a search_path that others can write to.
        assert definer == may, name
        assert settings == (["search_path=pg_catalog, pg_temp"] if definer else None), name
    for call in ("audiences()", "clock(1)", "facts('{}')", "sized('')", "digest('', 1, 1, '', '')"):
        with pytest.raises(errors.InsufficientPrivilege):
            session.execute(f"SELECT capx.{call}".encode())


def test_the_public_may_do_nothing(roles: Roles, owner: PostgresStore) -> None:
    stranger = roles.stranger()
    with pytest.raises(StoreProblem, match="capx store role"):
        PostgresStore(roles.url(stranger))
    with roles.connected(stranger) as session:
        assert session.execute("SELECT has_schema_privilege('capx', 'USAGE')").fetchone() == (False,)
        for statement in ("SELECT * FROM capx.head", "SELECT capx.head()", "CREATE TABLE capx.x ()"):
            with pytest.raises(errors.InsufficientPrivilege):
                session.execute(statement.encode())
    with closing(roles.server.admin(roles.database)) as operator:
        granted = operator.execute(
            "SELECT p.proname FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a "
            "WHERE p.pronamespace = 'capx'::regnamespace AND a.grantee = 0"
        ).fetchall()
        assert granted == []


def test_a_role_that_stands_for_no_resource_is_refused(roles: Roles, owner: PostgresStore) -> None:
    stranger = roles.stranger()
    with closing(roles.server.admin(roles.database)) as operator:
        operator.execute(SQL("GRANT USAGE ON SCHEMA capx TO {}").format(Identifier(stranger)))
        operator.execute(SQL("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA capx TO {}").format(Identifier(stranger)))
    store = PostgresStore(roles.url(stranger))
    for use in (
        lambda: store.record([decision("dec-1")]),
        lambda: store.burn(b"a" * 16, until=NOW, now=NOW),
        lambda: store.spend(payer(), [Spend(NODE, "calls", Decimal(1), Decimal(1))], now=NOW),
        lambda: store.sighted("f", 1, now=NOW),
    ):
        with pytest.raises(StoreProblem, match="is no resource of this store"):
            use()
    store.close()


@pytest.mark.parametrize(
    "body",
    [
        b'{"id":"dec-2","audience":"billing"}',
        b'{"id":"dec-2","audience":null}',
        b'{"id":"dec-2"}',
        b'{"id":"dec-2","audience":["crm"]}',
        b'{"id":"dec-2","audience":"crm","audience":"billing"}',
        b'{"id":"dec-2","audience":"billing","audience":"crm"}',
        b'{"id":"dec-2","audience":"billing","\\u0061udience":"crm"}',
        b'{"id":"dec-2","audience":"crm","audienc\\u0065":"billing"}',
        b'{"id":"dec-2","id":"dec-3","audience":"crm"}',
        b'{"id":7,"audience":"crm"}',
        b'{"audience":"crm"}',
        b'{"id":"dec-2","audience":"crm","task":"a","task":"b"}',
        b'{"id":"dec-2","x":{"audience":"crm"}}',
        b'["audience","crm"]',
        b'{"id":"dec-2","audience":"crm\\u0000"}',
        b'{"id":"dec-2","audience":"crm"',
    ],
)
def test_a_decision_for_no_audience_of_the_role_is_refused(
    owner: PostgresStore, crm: PostgresStore, body: bytes
) -> None:
    with pytest.raises(StoreProblem):
        crm.record([decision("dec-1"), DecisionRecord("dec-2", NOW, body)])
    with owner.read() as reading:
        assert reading.head().position == 1


def of_crm(more: bytes) -> DecisionRecord:
    return DecisionRecord("dec-1", NOW, b'{"id":"dec-1","audience":"crm",%s}' % more)


def nested(depth: int) -> DecisionRecord:
    """A decision of so many lists and objects within each other."""
    lists = depth - 1
    return of_crm(b'"more":' + b"[" * lists + b"]" * lists)


POISON = [
    b'"outcome":7',
    b'"outcome":null',
    b'"at":1e400',
    b'"at":1.5',
    b'"at":"now"',
    b'"at":' + b"9" * 5_000,
    b'"action":[]',
    b'"task":{}',
    b'"tenant":5',
    b'"tenant":"\\ud800"',
    b'"intent":{}',
    b'"root":7',
    b'"presentation":false',
    b'"path":5',
    b'"path":null',
    b'"path":["a",7]',
    b'"hops":{"a":1}',
    b'"ids":[[]]',
    b'"spent":"x"',
    b'"spent":[[]]',
    b'"reasons":{}',
    b'"reasons":[{},"x"]',
    b'"reasons":[],"reasons":[]',
    b'"reasons":[],"re\\u0061sons":5',
    b'"reasons":' + b"[" * 3_000 + b"]" * 3_000,
    b'"more":"' + b"x" * (64 * 1024) + b'"',
]


@pytest.mark.parametrize("more", POISON)
def test_a_resource_poisons_no_log(owner: PostgresStore, crm: PostgresStore, more: bytes) -> None:
    with pytest.raises(Unwritable):
        crm.record([decision("dec-0"), of_crm(more)])
    with owner.read() as reading:
        assert reading.head().position == 1


def test_the_depth_of_a_decision_is_that_of_its_brackets(owner: PostgresStore, crm: PostgresStore) -> None:
    for depth in (65, 66, 900, 20_000):
        with pytest.raises(Unwritable, match=r"no deeper than 64|stack depth"):
            crm.record([nested(depth)])
    for beside in (b"[]," * 9, b'"]}",', b'{"[":"\\"["},'):
        with pytest.raises(Unwritable, match="no deeper than 64"):
            crm.record([of_crm(b'"more":[%s%s%s]' % (beside, b'{"":' * 63 + b"0", b"}" * 63))])
    crm.record([nested(64)])
    texts = (b"[" * 99, b'\\"' + b"{" * 99, b"\\\\", b'\\\\\\"' + b"[" * 99)
    crm.record([DecisionRecord("dec-2", NOW, b'{"id":"dec-2","audience":"crm","x":["%s"]}' % b'","'.join(texts))])
    crm.record([DecisionRecord("dec-3", NOW, b'{"id":"dec-3","audience":"crm","x":[%s[]]}' % (b"[]," * 9_000))])
    with owner.read() as reading:
        assert reading.head().position == 4


def test_what_a_resource_may_record_is_read_copied_and_restored(
    owner: PostgresStore, crm: PostgresStore, tmp_path: Path
) -> None:
    strange = DecisionRecord("P", NOW, b'{"id":"P\\u0000","audience":"crm","more":[1e400,%s]}' % (b"9" * 5_000))
    crm.record([nested(64), strange])
    with closing(SQLiteStore.create(tmp_path / "copy.db")) as copy, owner.read() as original:
        with copy.write() as writing:
            writing.adopt(original)
        with copy.read() as reading:
            assert list(reading.events()) == list(original.events())
            found = reading.decision("dec-1")
    assert found is not None
    assert found.facts()["audience"] == "crm"


def test_a_decision_of_a_verifier_and_of_a_later_capx_is_taken(owner: PostgresStore, crm: PostgresStore) -> None:
    with Authority.temporary() as lab:
        task = lab.open(tenant="Acme", allow=["crm.read"], caveats=[budget("calls", 5)])
        held, verifier = task.bundle.delegate(to="writer"), lab.verifier("crm")
        made = [
            verifier.decide(held.present("crm", ToolCall(action)).text, ToolCall(action), Call(action, tenant="Acme"))
            for action in ("crm.read", "crm.export")
        ]
    assert [(one.allowed, bool(one.spent), bool(one.refusals)) for one in made] == [
        (True, True, False),
        (False, False, True),
    ]
    bare = Decision(id="dec-2", at=NOW, allowed=True, audience="crm")
    assert made[0].args_digest is not None
    # The database takes any value for a field that its schema does not know. So readers of the digest take only a text.
    later: dict[str, Any] = {**bare.body(), "id": "dec-3", "weather": {"of": [None]}, "args_digest": 7}
    bodies = [*[one.body() for one in made], bare.body(), later]
    crm.record([DecisionRecord(body["id"], NOW, msgspec.json.encode(body)) for body in bodies])
    with owner.read() as reading:
        events = list(reading.events(kind="decision"))
    assert [event.facts() for event in events] == bodies
    assert [len(group.events) for group in grouped(events)] == [1] * 4


@pytest.mark.parametrize("nonces", [[""], ["A" * 12], ["A" * 11] * 256, "A" * 11, [5], {}, None])
def test_a_role_records_no_nonces_that_no_token_has(crm: PostgresStore, nonces: object) -> None:
    body = {**json.loads(decision("dec-1").body), "nonces": nonces}
    with pytest.raises(StoreProblem, match="states its nonces once, as what it is"):
        crm.record([DecisionRecord("dec-1", NOW, json.dumps(body).encode())])
    twice = decision("dec-2").body.replace(b"{", b'{"nonces":["AAAAAAAAAAA"],"nonces":[],', 1)
    with pytest.raises(StoreProblem, match="states its nonces once"):
        crm.record([DecisionRecord("dec-2", NOW, twice)])
    good = decision("dec-3").body.replace(b"{", b'{"nonces": [ "AAAAAAAAAAA" , "AAAAAAAAA-_" ],', 1)
    crm.record([DecisionRecord("dec-3", NOW, good)])


def test_a_resource_takes_no_id_away_from_another(roles: Roles, owner: PostgresStore, crm: PostgresStore) -> None:
    billing = PostgresStore(roles.url(roles.make("billing")))
    crm.record([decision("dec-1")])
    billing.record([decision("dec-1", "billing")])
    billing.record([decision("dec-1", "billing")])
    billing.close()
    with owner.read() as reading:
        assert [event.facts()["audience"] for event in reading.events(kind="decision")] == ["crm", "billing"]


def test_a_refused_audience_is_named(crm: PostgresStore) -> None:
    with pytest.raises(StoreProblem, match='does not record for audience "billing"') as caught:
        crm.record([decision("dec-1", "billing")])
    # It may be written once the role has been given the audience.
    assert not isinstance(caught.value, Unwritable)


@pytest.mark.parametrize("bounds", ["[0:1]", "[5:6]", "[1:1][1:2]"])
def test_an_array_with_other_bounds_puts_no_body_under_another(
    owner: PostgresStore, session: Connection, bounds: str
) -> None:
    first, second = decision("dec-1", "crm").body.decode(), decision("dec-2", "billing").body.decode()
    held = "{{%s}}" if "][" in bounds else "{%s}"
    ats, own, mixed = (
        f"{bounds}={held % ','.join(json.dumps(one) for one in many)}"
        for many in ((NOW, NOW), (first, first), (first, second))
    )
    with pytest.raises(errors.InsufficientPrivilege):
        session.execute("SELECT capx.record(%s::bigint[], %s::text[])", (ats, mixed))
    session.execute("SELECT capx.record(%s::bigint[], %s::text[])", (ats, own))
    with owner.read() as reading:
        assert [event.body.decode() for event in reading.events(kind="decision")] == [first]
        check(reading.events(), head=reading.head().place)


def test_of_two_decisions_with_one_id_the_first_is_recorded(owner: PostgresStore, crm: PostgresStore) -> None:
    bodies = [b'{"id":"dec-1","audience":"crm","action":"%d"}' % number for number in (1, 2)]
    twins = [DecisionRecord("dec-1", NOW, body) for body in bodies]
    crm.record([decision("dec-0"), *twins, decision("dec-2")])
    crm.record([*reversed(twins), decision("dec-3")])
    with owner.read() as reading:
        found = [event.facts() for event in reading.events(kind="decision")]
        assert [one["id"] for one in found] == ["dec-0", "dec-1", "dec-2", "dec-3"]
        assert found[1]["action"] == "1"
        check(reading.events(), head=reading.head().place)


def test_the_owner_records_for_every_audience(owner: PostgresStore) -> None:
    owner.record([decision("dec-1", "billing"), decision("dec-2", "crm")])
    with owner.read() as reading:
        assert reading.head().position == 3


@pytest.mark.parametrize("role", [OWNER, "postgres"])
@pytest.mark.parametrize("how", ["SET ROLE {}", "SET SESSION AUTHORIZATION {}"])
def test_a_resource_becomes_nobody_else(session: Connection, how: str, role: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        session.execute(SQL(how).format(Identifier(role)))


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE capx.x ()",
        "CREATE FUNCTION capx.head(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION capx.version() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ALTER FUNCTION capx.version() SECURITY INVOKER",
        "ALTER SCHEMA capx RENAME TO other",
        "DROP SCHEMA capx CASCADE",
        "CREATE SCHEMA mine",
        "CREATE TRIGGER t AFTER INSERT ON capx.events EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "INSERT INTO capx.resources VALUES (session_user, 'billing')",
        "SET session_replication_role = replica",
        "CREATE ROLE another",
    ],
)
def test_a_resource_makes_and_changes_nothing_in_the_database(session: Connection, statement: str) -> None:
    with pytest.raises((errors.InsufficientPrivilege, errors.InvalidSchemaName, errors.UndefinedObject)):
        session.execute(statement.encode())
    assert session.execute("SELECT capx.version() > 0").fetchone() == (True,)


def test_a_resource_hands_on_nothing(session: Connection) -> None:
    # PostgreSQL only warns that it has granted nothing.
    session.execute("GRANT USAGE ON SCHEMA capx TO PUBLIC")
    session.execute("GRANT EXECUTE ON FUNCTION capx.head() TO PUBLIC")
    for held in (
        "has_schema_privilege('public', 'capx', 'USAGE')",
        "has_function_privilege('public', 'capx.head()', 'EXECUTE')",
    ):
        assert session.execute(f"SELECT {held}".encode()).fetchone() == (False,)


def test_no_setting_of_the_caller_changes_what_a_function_does(
    roles: Roles, owner: PostgresStore, session: Connection
) -> None:
    with closing(roles.server.admin(roles.database)) as operator:
        operator.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    for statement in (
        "CREATE TEMP TABLE head (position bigint, hash bytea)",
        "CREATE TEMP TABLE resources (role text, audience text)",
        "INSERT INTO resources VALUES (session_user, 'billing')",
        "CREATE FUNCTION public.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT ''::bytea $$",
        "CREATE FUNCTION public.pg_has_role(name, name, text) RETURNS bool LANGUAGE sql AS 'SELECT true'",
        """CREATE FUNCTION public.json_each(json, OUT key text, OUT value json) RETURNS SETOF record LANGUAGE sql AS
        $$ VALUES ('audience', '"crm"'::json), ('id', '"x"') $$""",
        "CREATE FUNCTION public.yes(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true'",
        "CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.yes)",
        "SET search_path = pg_temp, public, pg_catalog",
        "SET standard_conforming_strings = off",
        "SET transform_null_equals = on",
        "SET bytea_output = escape",
        "SET array_nulls = off",
    ):
        session.execute(statement.encode())
    with pytest.raises(errors.InsufficientPrivilege):
        session.execute("SELECT capx.record(ARRAY[1], ARRAY[%s])", (decision("dec-1", "billing").body.decode(),))
    body = r'{"id":"dec-1","audience":"crm","x":"\u0000\\u0000\\\u0000"}'
    session.execute("SELECT capx.record(ARRAY[1], ARRAY[%s])", (body,))
    with owner.read() as reading:
        assert check(reading.events(), head=reading.head().place).position == 2
        recorded = reading.decision("dec-1")
        assert recorded is not None
        assert recorded.body == body.encode()


@pytest.mark.parametrize("ahead", [3_600, 2**53, 2**62])
def test_a_role_records_no_decision_of_the_future(owner: PostgresStore, session: Connection, ahead: int) -> None:
    record = SQL("SELECT capx.record(ARRAY[{}::bigint], ARRAY[{}])")
    body = decision("dec-1", "crm").body.decode()
    with pytest.raises(errors.InvalidParameterValue, match="a time that has come"):
        session.execute(record.format(int(time.time()) + ahead, body))
    # A clock may be somewhat ahead.
    session.execute(record.format(int(time.time()) + 60, body))
    with owner.read() as reading:
        assert reading.decision("dec-1") is not None
    if ahead >= 2**53:
        with pytest.raises(Unwritable):
            owner.record([DecisionRecord("dec-2", ahead, decision("dec-2", "crm").body)])


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_replay_is_refused_under_any_isolation_of_the_caller(session: Connection, isolation: str) -> None:
    session.execute(f"SET default_transaction_isolation = '{isolation.lower()}'".encode())
    with pytest.raises(errors.InvalidTransactionState):
        session.execute("SELECT capx.burn('a', 1, 1, null, null)")


@pytest.mark.parametrize("cost", ["-1", "NaN", "Infinity", "-Infinity", "-0.0000001"])
def test_no_amount_gives_anything_back(owner: PostgresStore, crm: PostgresStore, cost: str) -> None:
    owner.spend(payer(), [Spend(NODE, "calls", Decimal(2), Decimal(3))], now=NOW)
    _, capability = minted(owner)
    with pytest.raises(Unwritable):
        crm.spend(payer(capability=capability), [Spend(NODE, "calls", Decimal(cost), Decimal(5))], now=NOW)
    with pytest.raises(Unwritable):
        crm.spend(payer(capability=capability), [Spend(NODE, "calls", Decimal(1), Decimal("NaN"))], now=NOW)
    assert owner.spent([(NODE, "calls")]) == (Decimal(2),)


def refused_to_spend(store: PostgresStore, by: Payer, counter: str, unit: str = "calls") -> None:
    with pytest.raises(StoreProblem, match="does not let this role do that"):
        store.spend(by, [Spend(counter, unit, Decimal(1), Decimal(9))], now=NOW)


def test_a_role_spends_from_no_task_whose_token_it_was_not_shown(owner: PostgresStore, crm: PostgresStore) -> None:
    task, capability = minted(owner)
    other, foreign = minted(owner, "slides.write")
    unbudgeted, bare = minted(owner, unit="eur")
    refused_to_spend(crm, payer(), task)
    refused_to_spend(crm, payer(capability=foreign), other)
    refused_to_spend(crm, payer(capability=capability), other)
    refused_to_spend(crm, payer(capability=bare), unbudgeted)
    refused_to_spend(crm, payer("slides", capability=foreign), other)
    with owner.read() as reading:
        assert reading.counters() == []


@pytest.mark.parametrize("array", ["ARRAY['{id}']", "'[0:0]={{{id}}}'::text[]", "'{{{{{id}}}}}'::text[]"])
def test_a_task_id_in_an_odd_array_is_seen_all_the_same(owner: PostgresStore, session: Connection, array: str) -> None:
    _, capability = minted(owner)
    victim, _ = minted(owner, "slides.write")
    for unit in ("ARRAY['calls']", "'[0:0]={calls}'::text[]"):
        with pytest.raises(errors.InsufficientPrivilege):
            session.execute(
                f"SELECT capx.spend('{'p' * 16}', '{'a' * 16}', '{b64u(capability)}', 'crm', "
                f"{array.format(id=victim)}, {unit}, ARRAY[1::numeric], ARRAY[9::numeric], 1)".encode()
            )
    with owner.read() as reading:
        assert reading.counters() == []


def test_a_role_spends_from_no_counter_whose_name_it_guesses(owner: PostgresStore, crm: PostgresStore) -> None:
    authority = Authority(owner, KEYS)
    authority.open(allow=["slides.write"], caveats=[budget("calls", 3, counter="team")])
    _, capability = minted(owner)
    for name in ("team", "a", "", "A" * 21, "B" * 22, uses_counter("R" * 22, 1)):
        refused_to_spend(crm, payer(capability=capability), name)
    named = authority.open(allow=["crm.read"], caveats=[budget("calls", 3, counter="team")])
    shown = next(iter(named.bundle)).ids[1]
    spends = [Spend("team", "calls", Decimal(1), Decimal(3))]
    assert crm.spend(payer(capability=shown), spends, now=NOW).exhausted == ()


def test_a_role_spends_with_no_capability_that_is_dead(owner: PostgresStore, crm: PostgresStore) -> None:
    authority = Authority(owner, KEYS, clock=lambda: NOW - 7200)
    expired = next(iter(authority.open(allow=["crm.read"], expires="1h").bundle)).ids[1]
    refused_to_spend(crm, payer(capability=expired), NODE)
    task, capability = minted(owner)
    spends = [Spend(NODE, "calls", Decimal(1), Decimal(3))]
    assert crm.spend(payer(capability=capability), spends, now=NOW).exhausted == ()
    Authority(owner, KEYS).complete(task)
    refused_to_spend(crm, payer(capability=capability), NODE)
    other, fresh = RootKey.generate(), Authority(owner, KEYS)
    fresh.rekey(KEYS.added(other).activated(other.kid))
    under = next(iter(fresh.open(allow=["crm.read"]).bundle)).ids[1]
    assert crm.spend(payer(capability=under), spends, now=NOW).exhausted == ()
    fresh.revoke(kid=other.kid)
    refused_to_spend(crm, payer(capability=under), NODE)


def spent(owner: PostgresStore, *counters: tuple[str, str]) -> list[int]:
    return list(map(int, owner.spent(counters)))


def paid(owner: PostgresStore, crm: PostgresStore, counter: str = NODE) -> tuple[str, Payer]:
    """A task, and who has paid one of three calls with its capability."""
    task, capability = minted(owner)
    by = payer(capability=capability)
    assert crm.spend(by, [Spend(counter, "calls", Decimal(1), Decimal(3))], now=NOW).exhausted == ()
    return task, by


def given_back(store: PostgresStore, by: Payer, *, decision: str = "d", reason: str = "x") -> list[tuple[str, int]]:
    returned = store.give_back(by, decision=decision, reason=reason, now=int(time.time()))
    return [(one.counter, int(one.cost)) for one in returned]


def refused_to_give_back(store: PostgresStore, by: Payer, why: str) -> None:
    with pytest.raises(StoreProblem, match=why):
        given_back(store, by)


def test_a_role_gives_back_what_it_paid_and_the_log_holds(owner: PostgresStore, crm: PostgresStore) -> None:
    task, by = paid(owner, crm)
    owner.spend(payer(), [Spend(NODE, "calls", Decimal(1), Decimal(3))], now=NOW)
    assert given_back(crm, by, reason="the bank was closed") == [(NODE, 1)]
    assert spent(owner, (NODE, "calls")) == [1]
    with owner.read() as reading:
        check(reading.events(), head=reading.head().place)
        (event,) = reading.events(task=task, kind="given_back")
    returned = event.read(GivenBack)
    assert (returned.task, returned.audience, returned.reason) == (task, "crm", "the bank was closed")


def test_a_role_gives_back_nothing_of_another_audience(roles: Roles, owner: PostgresStore, crm: PostgresStore) -> None:
    _, by = paid(owner, crm)
    with closing(PostgresStore(roles.url(roles.make("slides")))) as slides:
        refused_to_give_back(slides, by, "does not let this role do that")
        refused_to_give_back(slides, replace(by, audience="slides"), "has paid nothing here")
    assert spent(owner, (NODE, "calls")) == [1]


def test_a_role_gives_back_nothing_once_its_capability_died(owner: PostgresStore, crm: PostgresStore) -> None:
    task, by = paid(owner, crm)
    _, living = minted(owner)
    Authority(owner, KEYS).complete(task)
    # The capability is that of the payment, whichever is named now.
    for one in (by, replace(by, capability=living)):
        refused_to_give_back(crm, one, "does not let this role do that")
    assert spent(owner, (NODE, "calls")) == [1]


def test_a_living_capability_gives_nothing_back_for_a_dead_one(owner: PostgresStore, crm: PostgresStore) -> None:
    other = b64u(b"m" * 16)
    task, by = paid(owner, crm)
    _, living = minted(owner)
    for counter in (other, b64u(b"a" * 16)):
        # Both pay under one presentation.
        spends = [Spend(counter, "calls", Decimal(1), Decimal(3))]
        assert crm.spend(replace(by, capability=living), spends, now=NOW).exhausted == ()
    Authority(owner, KEYS).complete(task)
    refused_to_give_back(crm, replace(by, capability=living), "does not let this role do that")
    assert spent(owner, (NODE, "calls"), (other, "calls")) == [1, 1]


def test_a_role_gives_back_nothing_after_the_grant_expired(owner: PostgresStore, crm: PostgresStore) -> None:
    opened = Authority(owner, KEYS).open(allow=["crm.read"], expires="2s", caveats=[budget("calls", 3)])
    by = payer(capability=next(iter(opened.bundle)).ids[1])
    crm.spend(by, [Spend(NODE, "calls", Decimal(1), Decimal(3))], now=int(time.time()))
    until(lambda: time.time() > opened.expires + 1)
    # It states an earlier time, which the server moves no further than five seconds.
    refused_to_give_back(crm, by, "does not let this role do that")
    assert spent(owner, (NODE, "calls")) == [1]


def test_a_role_gives_back_no_revocations(owner: PostgresStore, crm: PostgresStore, session: Connection) -> None:
    task, _ = minted(owner)
    with owner.write() as writing:
        writing.count_revocation(task, b"n" * 16, now=NOW)
    _, by = paid(owner, crm)
    given_back(crm, by)
    assert spent(owner, (NODE, REVOCATIONS), (NODE, "calls")) == [1, 0]


@pytest.mark.parametrize(
    ("decision", "reason"),
    [
        ("d", ""),
        ("d", "x" * 129),
        ("d", "a\nb"),
        ("d", "\x1b[1m"),
        ("", "x"),
        ("d" * 65, "x"),
        ('d"', "x"),
        ("d\n", "x"),
    ],
)
def test_what_a_role_says_of_a_give_back_is_bounded(
    owner: PostgresStore, crm: PostgresStore, decision: str, reason: str
) -> None:
    _, by = paid(owner, crm)
    with pytest.raises(Unwritable):
        given_back(crm, by, decision=decision, reason=reason)
    assert spent(owner, (NODE, "calls")) == [1]


def test_an_event_of_a_give_back_is_bounded(owner: PostgresStore, crm: PostgresStore) -> None:
    _, capability = minted(owner)
    by = payer(capability=capability)
    spends = [Spend(b64u(n.to_bytes(16, "big")), "calls", Decimal(1), Decimal(3)) for n in range(1_200)]
    crm.spend(by, spends, now=NOW)
    with pytest.raises(Unwritable, match="too many counters"):
        given_back(crm, by)
    assert spent(owner, (spends[0].counter, "calls")) == [1]


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_no_isolation_gives_one_payment_back_twice(
    owner: PostgresStore, crm: PostgresStore, session: Connection, isolation: str
) -> None:
    _, by = paid(owner, crm)
    paid(owner, crm)
    session.execute(f"SET default_transaction_isolation = '{isolation}'".encode())
    session.execute("BEGIN")
    session.execute("SELECT * FROM capx.head()")
    assert given_back(crm, by) == [(NODE, 1)]
    with pytest.raises(errors.SerializationFailure):
        session.execute(
            "SELECT * FROM capx.give_back(%s, %s, %s, 'd', 'x', 1)", (by.presentation, by.admission, by.audience)
        )
    session.execute("ROLLBACK")
    assert spent(owner, (NODE, "calls")) == [1]


def test_a_role_uses_up_no_revocations_of_an_agent(owner: PostgresStore, crm: PostgresStore) -> None:
    _, capability = minted(owner)
    for unit in (REVOCATIONS, "", "Calls", "calls\n", "c" * 33):
        refused_to_spend(crm, payer(capability=capability), NODE, unit)


def test_a_presentation_has_an_id_of_one_length(owner: PostgresStore, session: Connection) -> None:
    _, capability = minted(owner)
    for id_ in ("''", "'short'", "'" + "x" * 17 + "'", "NULL"):
        with pytest.raises(errors.InvalidParameterValue):
            session.execute(
                f"SELECT capx.spend({id_}::bytea, '{'a' * 16}', '{b64u(capability)}', 'crm', ARRAY['{NODE}'], "
                "ARRAY['calls'], ARRAY[1::numeric], ARRAY[1::numeric], 1)".encode()
            )
        with pytest.raises(errors.InvalidParameterValue):
            session.execute(
                f"SELECT capx.spend('{'p' * 16}', {id_}::bytea, '{b64u(capability)}', 'crm', ARRAY['{NODE}'], "
                "ARRAY['calls'], ARRAY[1::numeric], ARRAY[1::numeric], 1)".encode()
            )


AMOUNTS = ["1.0000000", "NULL", "'NaN'", "'Infinity'", "-1", "1e15", "1e-7", "1e-16383", "0.0000001", "1" + "0" * 5_000]


@pytest.mark.parametrize("amount", AMOUNTS)
def test_no_amount_is_beyond_what_a_budget_can_say(owner: PostgresStore, session: Connection, amount: str) -> None:
    _, capability = minted(owner)
    for cost, limit in ((amount, "5"), ("1", amount)):
        statement = (
            f"SELECT capx.spend('{'p' * 16}', '{'a' * 16}', '{b64u(capability)}', 'crm', "
            f"ARRAY['{NODE}'], ARRAY['calls'], "
            f"ARRAY[{cost}::numeric], ARRAY[{limit}::numeric], 1)"
        )
        with pytest.raises(errors.InvalidParameterValue):
            session.execute(statement.encode())
    with owner.read() as reading:
        assert reading.counters() == []


@pytest.mark.parametrize("clock", [0, NOW + 10**6, 2**62], ids=["begun", "ahead", "beyond"])
def test_no_clock_of_a_resource_makes_others_forget(owner: PostgresStore, crm: PostgresStore, clock: int) -> None:
    now = int(time.time())
    assert owner.burn(b"a" * 16, until=now + 60, now=now).new
    crm.burn(b"x" * 16, until=now + 60, now=clock)
    assert not owner.burn(b"a" * 16, until=now + 60, now=now).new
    assert owner.burn(b"b" * 16, until=now + 60, now=now).new


@pytest.mark.parametrize("ahead", [90, 10**6, 2**61])
@pytest.mark.parametrize("clock", [0, 2**62])
def test_a_resource_keeps_no_presentation_for_ever(crm: PostgresStore, ahead: int, clock: int) -> None:
    now = int(time.time())
    with pytest.raises(Unwritable, match="no presentation ends so late"):
        crm.burn(b"x" * 16, until=now + ahead, now=clock)
    assert crm.burn(b"x" * 16, until=now + 60, now=clock).new


def test_a_presentation_burns_where_all_clocks_differ(crm: PostgresStore) -> None:
    """The agent's clock is 5 seconds ahead of the resource's, and that one 10 seconds ahead of the server's."""
    clock = int(time.time()) + 10
    assert crm.burn(b"x" * 16, until=clock + 5 + 60, now=clock).new


def test_a_resource_knows_of_no_death_to_come(owner: PostgresStore, crm: PostgresStore) -> None:
    crm.sighted("crm", 9_000_000_000, now=NOW)
    with owner.read() as reading:
        assert [sighting.deaths for sighting in reading.follower_acks()] == [1]


def test_a_role_that_makes_up_followers_has_a_hundred(roles: Roles, owner: PostgresStore, crm: PostgresStore) -> None:
    billing = PostgresStore(roles.url(roles.make("billing")))
    billing.sighted("billing/1", 1, now=NOW)
    for nth in range(130):
        crm.sighted(f"crm/{nth}", -nth, now=NOW)
    billing.close()
    with owner.read() as reading:
        kept = reading.follower_acks()
    assert len(kept) == 101
    assert "billing/1" in {one.follower for one in kept}
    assert "crm/129" in {one.follower for one in kept}
    assert {one.deaths for one in kept} == {0, 1}


@pytest.mark.parametrize("name", ["crm/" + "x" * 125, "crm/\x1b[2J", "crm/\n"])
def test_a_follower_has_a_name_that_a_terminal_can_show(crm: PostgresStore, name: str) -> None:
    with pytest.raises(Unwritable, match="a follower has a name of up to 128 characters"):
        crm.sighted(name, 1, now=NOW)


def test_a_resource_speaks_for_no_follower_of_another_role(
    roles: Roles, owner: PostgresStore, crm: PostgresStore
) -> None:
    billing = PostgresStore(roles.url(roles.make("billing")))
    billing.sighted("billing/1", 0, now=NOW)
    for name in ("billing/1", "billing", "", "crm-1", "x/crm"):
        with pytest.raises(StoreProblem, match="speaks for no follower"):
            crm.sighted(name, 99, now=NOW)
    billing.sighted("billing/1", 1, now=NOW)
    billing.close()
    with owner.read() as reading:
        assert [sighting.deaths for sighting in reading.follower_acks()] == [1]


@pytest.mark.parametrize(
    "name", ["we\"ird'); DROP SCHEMA capx CASCADE; --", "back\\slash'", "$$ $_$ %I %s", "Größe 🜂", "USER", "a;b"]
)
def test_a_name_is_never_read_as_sql(roles: Roles, owner: PostgresStore, name: str) -> None:
    store = PostgresStore(roles.url(roles.make(name, name)).replace(name, quoted(name)))
    body = b'{"id":"dec-1","audience":%s}' % json_text(name)
    store.record([DecisionRecord("dec-1", NOW, body)])
    store.close()
    with owner.read() as reading:
        assert reading.head().position == 2


def quoted(name: str) -> str:
    return "".join([f"%{byte:02X}" for byte in name.encode()])


def json_text(name: str) -> bytes:
    return b'"' + name.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"'


@pytest.mark.parametrize("name", ["", "two\nlines", "nul\0", "bidi\u202e", "x" * 64, "é" * 32])
def test_a_name_that_no_role_can_have_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        role_sql("crm", name)


def test_the_sql_of_a_role_holds_no_password_but_how_to_set_one() -> None:
    sql = role_sql("crm")
    assert 'CREATE ROLE "capx_crm" LOGIN' in sql
    assert '\\password "capx_crm"' in sql
    assert " PASSWORD " not in sql
    with pytest.raises(InvalidRequest, match="63 bytes"):
        role_sql("x" * 60)
