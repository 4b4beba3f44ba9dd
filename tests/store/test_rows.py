"""The rows of both kinds of store: one order, one way to clear them, and whom a change of the head wakes."""

from collections.abc import Callable

import psycopg
import pytest
from msgspec import structs

from capx.store.log import GENESIS
from capx.store.protocols import Store, Writing
from capx.store.records import GrantRecord, Head, IntentRecord, RequestRecord, TaskRecord
from capx.store.sql.rows import SqlRows
from tests.store.conftest import Places

NOW = 1_800_000_000
NODE = b"n" * 16


def request(id_: str) -> RequestRecord:
    return RequestRecord(
        id=id_, task="task-1", audience="crm", action="crm.read", args=None, ids=("a",), kid="k1", issued=NOW,
        path=("node-1",), labels=(), block="[]", asked=NOW, until=NOW + 60,
    )  # fmt: skip


def clear(rows: Writing) -> None:
    assert isinstance(rows, SqlRows)
    rows.clear()


def fill(rows: Writing) -> None:
    event = rows.append("revoked", b'{"task":"task-1"}', at=NOW)
    rows.kill(NODE, "revoked", at=NOW, position=event.position)
    rows.open_task(TaskRecord("task-1", "root-1", NOW, NOW + 60))
    rows.keep_intent(IntentRecord("digest-1", withdrawn=NOW))
    rows.keep_request(request("request-1"))
    rows.keep_grant(GrantRecord(NODE, (b"i" * 16, b"j" * 16), "k1", NOW, NOW))
    rows.count_revocation("task-1", NODE, now=NOW)


def test_cleared_rows_hold_nothing_but_their_epoch(store: Store) -> None:
    with store.write() as rows:
        epoch = rows.head().epoch
        fill(rows)
    store.sighted("crm", 1, now=NOW)
    with store.write() as rows:
        clear(rows)
    with store.read() as reading:
        assert reading.head() == Head(epoch, 0, GENESIS, 0, 0)
        held = [reading.tasks(), reading.intents(), reading.requests(), reading.counters(), reading.follower_acks()]
        assert (*held, list(reading.events()), list(reading.deaths())) == ([],) * 7
        assert (reading.granted_by(b"i" * 16), reading.granted_by("kid:k1")) == ([], [])


def test_a_presentation_stays_burnt_when_rows_are_cleared(store: Store) -> None:
    assert store.burn(b"p" * 16, until=NOW + 60, now=NOW).new
    with store.write() as rows:
        clear(rows)
    assert not store.burn(b"p" * 16, until=NOW + 60, now=NOW).new


def test_cleared_rows_are_filled_again(store: Store) -> None:
    for _ in range(2):
        with store.write() as rows:
            clear(rows)
            fill(rows)
            assert (rows.head().position, rows.head().deaths) == (1, 1)


def test_rows_that_are_kept_again_keep_their_order(store: Store) -> None:
    with store.write() as rows:
        for id_ in ("c", "a", "b"):
            rows.keep_request(request(id_))
            rows.keep_intent(IntentRecord(id_, withdrawn=NOW))
        rows.keep_request(structs.replace(request("c"), state="denied"))
        rows.keep_intent(IntentRecord("c", withdrawn=NOW + 1))
    with store.read() as reading:
        requests = [(one.id, one.state) for one in reading.requests()]
        intents = [(one.digest, one.withdrawn) for one in reading.intents()]
    assert requests == [("c", "denied"), ("a", "pending"), ("b", "pending")]
    assert intents == [("c", NOW + 1), ("a", NOW), ("b", NOW)]


CHANGES: list[tuple[Callable[[Writing], object], bool]] = [
    (lambda rows: rows.append("noted", b"{}", at=NOW), False),
    (lambda rows: rows.forget(0), False),
    (lambda rows: rows.kill(NODE, "revoked", at=NOW, position=1), True),
    (lambda rows: rows.forget(NOW + 1), True),
    (lambda rows: rows.begin_epoch("another.1"), True),
]


@pytest.mark.parametrize(("change", "wakes"), CHANGES)
def test_followers_wake_for_deaths_and_epochs_alone(
    tmp_path_factory: pytest.TempPathFactory, change: Callable[[Writing], object], wakes: bool
) -> None:
    places = Places("postgres", tmp_path_factory.mktemp("postgres"))
    try:
        store = places.create()
        with store.write() as rows:
            rows.kill(b"d" * 16, "revoked", at=NOW, position=1)
        with psycopg.connect(store.place, autocommit=True) as listening:
            listening.execute("LISTEN capx")
            with store.write() as rows:
                change(rows)
            assert bool(list(listening.notifies(timeout=0.5, stop_after=1))) == wakes
    finally:
        places.end()
