"""Revoking many things at once causes the deaths that revoking them one by one causes, in both kinds of store.

Only the log differs: one event names many nodes of one task.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from capx.api.messages.outcomes import Killed
from capx.authority.revoking import Target, by_instant, by_kid, revoke
from capx.crypto.base64url import b64u
from capx.store.check import check_store
from capx.store.events import Revoked
from capx.store.postgres.store import PostgresStore
from capx.store.protocols import Store, Writing
from capx.store.records import GrantRecord, RequestRecord
from capx.store.sql.rows import SqlRows
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.revocation_key import RevocationKey
from tests.labs.counts import repeated
from tests.labs.store_writes import granted_by

NOW = 1_800_000_000
IDS = [bytes([number]) * 16 for number in range(6)]
KIDS = ["AAAAAAAAAAA", "AAAAAAAAAAE"]
NODES = list(map(b64u, IDS))


def target(id_: bytes, task: str | None = "task-1") -> Target:
    return Target(id_, Revoked(b64u(id_), task=task))


TARGETS = st.one_of(
    st.sampled_from(IDS).map(target),
    st.sampled_from(KIDS).map(by_kid),
    st.integers(NOW - 2, NOW).map(lambda issued: by_instant(issued, NOW)),
)
GRANTS = st.dictionaries(
    st.sampled_from(IDS),
    st.tuples(
        st.lists(st.sampled_from(IDS), min_size=1, max_size=3, unique=True).map(tuple),
        st.sampled_from(KIDS),
        st.integers(NOW - 3, NOW),
    ),
    max_size=5,
)
PATHS = st.lists(st.integers(1, len(NODES)), max_size=4)


def request(id_: str, depth: int) -> RequestRecord:
    return RequestRecord(
        id=id_, task="task-1", audience="crm", action="crm.read", args=None, ids=("a",), kid="k", issued=NOW,
        path=tuple(NODES[:depth]), labels=(), block="[]", principal="ana", asked=NOW, until=NOW + 60,
    )  # fmt: skip


def fill(
    rows: Writing, grants: Mapping[bytes, tuple[Any, ...]], depths: Sequence[int], dead: Sequence[RevocationKey]
) -> None:
    assert isinstance(rows, SqlRows)
    rows.clear()
    for capability, (ids, kid, issued) in grants.items():
        rows.keep_grant(GrantRecord(capability, ids, kid, issued, NOW))
    for number, depth in enumerate(depths):
        rows.count_request(request(f"request-{number}", depth))
    for key in dead:
        rows.kill(key, "revoked", at=NOW - 1, position=rows.append("revoked", b"{}", at=NOW - 1).position)


def one_by_one(rows: Writing, targets: Sequence[Target]) -> Iterator[Killed]:
    """What `revoke` is to do, in the plainest way."""

    def dies(one: Target) -> Killed:
        if found := rows.death(one.key):
            return Killed(one.shown, found.position, again=True)
        position = one.event.write(rows, at=NOW).position
        rows.kill(one.key, "revoked", at=NOW, position=position)
        return Killed(one.shown, position)

    for one in targets:
        yield dies(one)
        rows.uncount_requests([one.shown])
        granted = [target(id_, one.event.task) for id_ in granted_by(rows, one.key)]
        yield from (killed for killed in map(dies, granted) if not killed.again)


def left(rows: Writing, killed: Sequence[Killed]) -> object:
    """What there is but for positions, after a check that each position is that of the event that names the death."""
    deaths = list(rows.deaths())
    events = [(event.position, event.read(Revoked)) for event in rows.events(kind=Revoked.kind)]
    # The events that `fill` writes name nothing.
    named = [(key, position) for position, event in events for key in event.revocation_keys if key is not None]
    assert named == [(death.key, death.position) for death in deaths if death.at == NOW]
    at = {b64u(death.key) if isinstance(death.key, bytes) else death.key: death.position for death in deaths}
    assert [one.position for one in killed] == [at[one.key] for one in killed]
    return (
        [replace(one, position=None) for one in killed],
        [(death.seq, death.key, death.reason, death.at) for death in deaths],
        rows.head().deaths,
        rows.request_counts(NODES, "crm"),
    )


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    if request.param == "sqlite":
        made: Store = SQLiteStore.create(tmp_path_factory.mktemp("store") / "capx.db")
    else:
        made = PostgresStore(request.getfixturevalue("postgres_url"))
    yield made
    made.close()


@settings(
    max_examples=repeated(300),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    targets=st.lists(TARGETS, max_size=8),
    grants=GRANTS,
    depths=PATHS,
    dead=st.lists(st.sampled_from([*IDS, f"kid:{KIDS[0]}"]), max_size=2, unique=True),
)
def test_many_are_revoked_at_once_as_one_by_one(
    store: Store, targets: list[Target], grants: dict[bytes, Any], depths: list[int], dead: list[RevocationKey]
) -> None:
    found: list[object] = []
    for at_once in (True, False):
        with store.write() as rows:
            fill(rows, grants, depths, dead)
            killed = revoke(rows, targets, now=NOW).killed if at_once else tuple(one_by_one(rows, targets))
            found.append(left(rows, killed))
    assert found[0] == found[1]


def test_more_than_one_query_can_hold_is_revoked_at_once(store: Store) -> None:
    targets = [target(number.to_bytes(16)) for number in range(1_200)]
    found: list[object] = []
    for at_once in (True, False):
        with store.write() as rows:
            # The last one of the first query, and the first one of the second.
            fill(rows, {IDS[5]: ((targets[999].key,), KIDS[0], NOW)}, [], [targets[499].key, targets[500].key])
            killed = revoke(rows, targets, now=NOW).killed if at_once else tuple(one_by_one(rows, targets))
            found.append(left(rows, killed))
    assert found[0] == found[1]


def test_one_event_names_nodes_of_one_task_and_not_too_many(store: Store) -> None:
    ids = [number.to_bytes(16) for number in range(200)]
    tasks = ["task-1"] * 130 + ["task-2"] * 65 + [None] * 2 + ["task-3"] * 3
    targets = [target(id_, task) for id_, task in zip(ids, tasks, strict=True)]
    # A root is not named with nodes.
    targets[-2] = Target(ids[-2], Revoked(b64u(ids[-2]), is_root=True, task="task-3"))
    with store.write() as rows:
        fill(rows, {}, [], [])
        revoke(rows, targets, now=NOW)
        found = [event.read(Revoked) for event in rows.events()]
        check_store(rows)
    assert [1 + len(one.others) for one in found] == [64, 64, 2, 64, 1, 1, 1, 1, 1, 1]
    assert [one.task for one in found] == [*["task-1"] * 3, *["task-2"] * 2, None, None, *["task-3"] * 3]
    assert [one.is_root for one in found] == [*[False] * 8, True, False]


def test_nothing_to_revoke_writes_nothing(store: Store) -> None:
    with store.write() as rows:
        before = rows.head()
        assert revoke(rows, [], now=NOW).killed == ()
        assert rows.head() == before
