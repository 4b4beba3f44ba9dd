"""The index of decisions, in both stores: it finds what the log has, whatever resources wrote there."""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from capx.store.backup import backup
from capx.store.call_page import call_page
from capx.store.decision_index import ANY, BLOCK, check_index, indexed, sought
from capx.store.decision_query import Query
from capx.store.log import Event
from capx.store.protocols import Store
from capx.store.records import Damaged, DecisionRecord
from capx.store.sqlite.backup_reader import open_backup
from tests.labs.store_writes import note

FIRST = {"id": "d.0", "outcome": "allowed", "audience": "crm", "hops": ["planner"], "action": "crm.read"}


def body(nth: int, **facts: Any) -> bytes:
    return msgspec.json.encode(FIRST | {"id": f"d.{nth:022}"} | facts)


def event(said: bytes, at: int = 7) -> Event:
    return Event(1, at, "decision", said, bytes(32))


def values(**facts: Any) -> set[str]:
    return set(indexed(0, [event(body(1, **facts))]).values)


def every(store: Store, query: Query) -> list[int]:
    """The positions of all decisions that match, by pages."""
    found, before = list[int](), 2**53
    while before:
        with store.read() as reading:
            page = call_page(reading, query, before=before, limit=40, each=True)
        found += [group.last.position for group in page.groups]
        before = page.reached
    return found


def write(store: Store, *bodies: bytes, at: int = 1_000) -> None:
    with store.write(durable=False) as transaction:
        transaction.append_all("decision", bodies, at=at)


def filled(store: Store, *bodies: bytes, at: int = 1_000) -> None:
    """Write decisions, and others until their block is full."""
    with store.read() as reading:
        position = reading.head().position
    others = BLOCK - (position + len(bodies)) % BLOCK
    write(store, *bodies, *(body(position + nth, id=f"o.{position + nth:022}") for nth in range(others)), at=at)


def test_a_block_has_each_value_by_which_a_query_asks() -> None:
    assert values(tenant="Acme", hops=["planner", "reader"], action="crm.accounts.read", outcome="denied") == {
        "tenant:Acme",
        "agent:planner",
        "agent:reader",
        "action:crm.accounts.read",
        "action:crm.accounts.*",
        "action:crm.*",
        "denied",
    }


@pytest.mark.parametrize(
    "facts",
    [
        {"tenant": 7},
        {"outcome": 7},
        {"hops": "planner"},
        {"reasons": 7},
        {"hops": [f"agent {nth}" for nth in range(33)]},
        {"action": "a" + ".a" * 9},
        {"action": "." * 60_000},
    ],
    ids=lambda facts: next(iter(facts)),
)
def test_what_cannot_be_read_or_has_too_much_has_any_value(facts: dict[str, Any]) -> None:
    assert values(**facts) == {ANY}


def test_what_no_query_can_name_is_not_in_the_index() -> None:
    assert values(tenant="x" * 129, hops=["", "a\0b"], action="x" * 129) == set()
    assert values(hops=[], action="crm." + "x" * 200) == {"action:crm.*"}


def test_the_time_of_a_block_is_that_of_its_latest_decision() -> None:
    assert indexed(0, [event(body(1), at=9), event(body(2), at=4)]).latest == 9


@pytest.mark.parametrize("seed", range(3))
def test_pages_have_just_what_the_log_has(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    at = 1_000
    for _ in range(30):
        at += chance.choice((0, 1, -3, 40))
        many = [
            body(
                chance.randrange(10**9),
                tenant=chance.choice(("Acme", "Bolt", None, 7) if chance.random() < 0.02 else ("Acme", "Bolt")),
                hops=chance.choice((["planner"], ["planner", "rare"]) if chance.random() < 0.01 else (["planner"],)),
                action=chance.choice(("crm.read", "crm.accounts.read", "crmx.read")),
                outcome="denied" if chance.random() < 0.02 else "allowed",
            )
            for _ in range(chance.randrange(60))
        ]
        write(store, *many, at=at)
        if chance.random() < 0.3:
            note(store)
    with store.read() as reading:
        log = list(reading.events())
        check_index(reading)
        assert reading.indexed_blocks() == len(log) // BLOCK
    for query in (
        Query(tenant="Acme"),
        Query(tenant="nobody"),
        Query(agent="rare"),
        Query(action="crm.*"),
        Query(action="crm.accounts.*", denied=True),
        Query(reasons=("expired",)),
        Query(since=at - 5),
        Query(since=at + 1),
        Query(tenant="Bolt", agent="rare", since=1_100),
    ):
        assert every(store, query) == [one.position for one in reversed(log) if query.matches(one)], query


def test_a_decision_of_another_spelling_is_found(store: Store) -> None:
    filled(store, body(1, tenant="Acme").replace(b"Acme", rb"\u0041cme"))
    filled(store)
    assert every(store, Query(tenant="Acme")) == [1]


def test_nonsense_is_found_whatever_is_looked_for(store: Store) -> None:
    filled(store, body(1, tenant=7))
    filled(store)
    assert every(store, Query(tenant="Acme", agent="nobody", action="x.y")) == [1]


def test_a_decision_recorded_late_is_found_by_its_time(store: Store) -> None:
    filled(store, at=5_000)
    filled(store, at=1_000)
    filled(store, body(1, tenant="Acme"), at=4_000)
    filled(store, at=1_000)
    assert every(store, Query(tenant="Acme", since=3_000)) == [2 * BLOCK + 1]
    assert every(store, Query(tenant="Acme", since=4_001)) == []


def test_to_record_writes_no_index_and_the_next_change_does(store: Store) -> None:
    store.record([DecisionRecord(f"d.{nth:022}", 7, body(nth, tenant="Acme")) for nth in range(2 * BLOCK)])
    with store.read() as reading:
        assert reading.indexed_blocks() == 0
    assert len(every(store, Query(tenant="Acme"))) == 2 * BLOCK
    write(store, *(body(nth) for nth in range(BLOCK)))
    with store.read() as reading:
        assert reading.indexed_blocks() == 3
        check_index(reading)
    assert len(every(store, Query(tenant="Acme"))) == 2 * BLOCK


def test_a_change_that_fills_very_many_blocks_leaves_some_for_later(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capx.store.sql.rows._MOST_FILLED", 2)
    for blocks, in_index in ((12, 10), (1, 13)):
        write(store, *(body(nth, tenant="Acme") for nth in range(blocks * BLOCK)))
        with store.read() as reading:
            assert reading.indexed_blocks() == in_index
            check_index(reading)
    assert len(every(store, Query(tenant="Acme"))) == 13 * BLOCK


def test_of_a_long_log_a_rare_value_needs_few_events(store: Store) -> None:
    write(store, body(1, tenant="Acme"), *(body(nth) for nth in range(2, 20_000)))
    with store.read() as reading:
        page = call_page(reading, Query(tenant="Acme"), before=2**53, limit=50, each=True)
        assert (len(page.groups), page.reached) == (1, 0)
        values = sought(Query(tenant="Acme"))
        assert reading.blocks_with(values, since=0, first=0, end=999, limit=9) == [0]


def _lose(store: Store, statement: str) -> None:
    with store.write() as transaction:
        rows: Any = transaction
        rows._execute(statement)


@pytest.fixture
def whole(store: Store) -> Store:
    filled(store, body(1, tenant="Acme"))
    with store.read() as reading:
        check_index(reading)
    return store


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM capx.found_in WHERE value = 'tenant:Acme'",
        "UPDATE capx.blocks SET latest = 999",
        "UPDATE capx.found_in SET block = 9",
    ],
)
def test_a_check_finds_what_is_missing_in_the_index(whole: Store, statement: str) -> None:
    _lose(whole, statement)
    with whole.read() as reading, pytest.raises(Damaged, match="from position 1 on"):
        check_index(reading)


def test_an_index_that_was_lost_does_not_stop_writers(whole: Store) -> None:
    _lose(whole, "DELETE FROM capx.blocks")
    filled(whole)
    write(whole, *(body(nth) for nth in range(BLOCK)))
    with whole.read() as reading:
        check_index(reading)


def test_a_copy_gets_an_index_of_its_own(whole: Store, tmp_path: Path) -> None:
    _lose(whole, "DELETE FROM capx.found_in")
    backup(whole, tmp_path / "copy.db")
    with open_backup(tmp_path / "copy.db") as reading:
        check_index(reading)
        assert reading.indexed_blocks() == 1
