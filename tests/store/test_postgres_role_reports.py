"""Whatever the role of a resource may record, the store is backed up and restored with it."""

import json
import time
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import DataError

from capx.authority.restore import restore
from capx.errors import StoreProblem
from capx.store.backup import backup
from capx.store.postgres.store import PostgresStore
from capx.store.records import DecisionRecord
from tests.labs.counts import repeated
from tests.labs.postgres import Server
from tests.labs.postgres_roles import Roles

# As JSON text: a library would not write some of these.
_SCALARS = st.one_of(
    st.sampled_from(
        ["null", "true", "-0", "1E400", "-1e-400", "0.1", "9" * 400, str(2**53), str(2**63), '"\\u0000"', '"\\ud800"']
    ),
    st.text(max_size=5).map(json.dumps),
    st.text(max_size=5).map(partial(json.dumps, ensure_ascii=False)),
)
_NAMES = st.one_of(
    st.sampled_from(
        ["path", "hops", "ids", "spent", "reasons", "at", "task", "tenant", "id", "x", "\\u0000", "\\ud800"]
    ),
    st.text(max_size=3).map(lambda text: json.dumps(text)[1:-1]),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda held: f"[{', '.join(held)}]"),
        st.lists(st.tuples(_NAMES, inner), max_size=3).map(
            lambda held: "{" + ",".join(f'"{name}": {value}' for name, value in held) + "}"
        ),
    ),
    max_leaves=6,
)
_BODIES = st.lists(st.tuples(_NAMES, _VALUES), max_size=4).map(
    lambda held: "".join(['{"audience":"crm"', *(f',"{name}":{value}' for name, value in held), "}"])
)


def test_whatever_a_role_may_record_can_be_restored(
    postgres_server: Server, postgres_store_name: str, postgres_url: str, tmp_path: Path
) -> None:
    now, recorded = int(time.time()), 0
    roles = Roles(postgres_server, postgres_store_name)
    owner, crm = PostgresStore(postgres_url), PostgresStore(roles.url(roles.make("crm")))

    @settings(max_examples=repeated(3_000), deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
    @given(
        body=_BODIES,
        at=st.sampled_from([0, 1, now, now + 200, now + 10**6, 2**53, 2**62, -1]),
        id_=st.sampled_from(["A" * 22, "d." + "A" * 22, "", "\n", "x" * 70]),
        text=st.one_of(st.none(), st.text(max_size=30)),
    )
    def attempt(body: str, at: int, id_: str, text: str | None) -> None:
        nonlocal recorded
        stated = body[:-1] + f',"id":{json.dumps(f"{id_}{recorded}"[-80:])}}}' if text is None else text
        try:
            crm.record([DecisionRecord(id_, at, stated.encode())])
            recorded += 1
        except StoreProblem:
            pass

    attempt()
    crm.close()
    roles.end()
    assert recorded > 20
    saved = tmp_path / "saved.db"
    backup(owner, saved)
    owner.close()
    database = postgres_server.database()
    for place in (str(tmp_path / "restored.db"), postgres_server.url(database)):
        assert restore(saved, place).backup.position >= recorded


def test_what_is_read_at_once_is_what_is_read_field_by_field(
    postgres_server: Server, postgres_store_name: str, postgres_url: str
) -> None:
    plain = "SELECT ids[1], tasks[1], audiences[1] FROM capx.plain_facts(ARRAY[%s::text])"
    PostgresStore(postgres_url).close()
    with postgres_server.admin(postgres_store_name) as connection:

        @settings(max_examples=repeated(3_000), deadline=None, database=None)
        @given(body=_BODIES, id_=st.sampled_from(['"a"', '""', "null", "1", '"\\u0061"', '"\\u0000"', "[]", '"[[["']))
        def one(body: str, id_: str) -> None:
            body = f'{body[:-1]},"id":{id_}}}'
            try:
                read = connection.execute(plain, (body,)).fetchone()
            except DataError:
                with pytest.raises(DataError):
                    connection.execute("SELECT * FROM capx.facts(%s::text)", (body,))
                return
            assert read is not None
            # A body that is not plain is left to `capx.facts`, which may refuse it.
            if read[0] is not None:
                assert connection.execute("SELECT * FROM capx.facts(%s::text)", (body,)).fetchone() == read

        one()
