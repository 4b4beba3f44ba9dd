"""The log of an authority verifies; what was edited in it is found."""

import sqlite3
from pathlib import Path

import pytest

from capx.authority.authority import Authority
from capx.errors import BrokenLog, InvalidRequest, StoreProblem
from capx.store.decision_index import BLOCK
from capx.store.records import DecisionRecord
from tests.labs.hostile_reports import LABEL, decided, nonce, recordable
from tests.labs.timed_authority import NOW, Clock, kinds


def test_neither_tokens_nor_keys_are_ever_in_the_store(authority: Authority) -> None:
    opened = authority.open(allow=["crm.read"], tenant="Acme")
    more = authority.mint(opened.id, allow=["crm.write"])
    authority.complete(opened.id)
    secrets = [opened.bundle.text, more.text, authority.export_keys("crm").dump().split()[-1]]
    for file in Path(authority.store.place).parent.iterdir():
        content = file.read_bytes()
        assert b"task_completed" in content or file.suffix != ".db-wal"
        assert not any(secret.encode() in content for secret in secrets)
        assert b"capx1_" not in content
    for shown in (repr(authority), repr(opened), repr(authority.export_keys("crm"))):
        assert not any(secret in shown for secret in secrets)


def test_the_log_of_all_this_verifies(authority: Authority) -> None:
    opened = authority.open(allow=["a.b", "b.c"])
    authority.complete(opened.id)
    assert kinds(authority) == ["task_opened", *["capability_minted"] * 3, "task_completed"]
    assert [event.position for event in authority.log(since=2, limit=1)] == [3]
    assert authority.check().position == 5


@pytest.mark.parametrize(
    ("statement", "position"),
    [
        ("DELETE FROM deaths WHERE seq = 1", 4),
        ("UPDATE deaths SET key = 'another' WHERE seq = 1", 4),
        ("UPDATE deaths SET reason = 'revoked' WHERE seq = 1", 4),
        ("UPDATE deaths SET position = 1 WHERE seq = 2", 1),
        ("UPDATE deaths SET at = 1 WHERE seq = 1", 4),
        ("UPDATE deaths SET seq = 9 WHERE seq = 2", 5),
        ("INSERT INTO deaths VALUES (3, 'another', 'task_completed', 1, 9)", 9),
        ("DELETE FROM events WHERE position = 2", 2),
        ("UPDATE events SET body = replace(body, 'id', 'by') WHERE kind = 'revoked'", 5),
        ("UPDATE head SET position = 4", 4),
    ],
)
def test_a_death_or_event_that_was_edited_is_found(authority: Authority, statement: str, position: int) -> None:
    opened = authority.open(allow=["a.b"])
    authority.complete(opened.id)
    authority.revoke("A" * 22)
    assert authority.check().position == 5
    assert broken_at(authority, statement) == position


def broken_at(authority: Authority, statement: str) -> int:
    """The position at which the log is found broken after this statement."""
    connection = sqlite3.connect(Path(authority.store.place))
    connection.execute(statement)
    connection.commit()
    connection.close()
    with pytest.raises(BrokenLog) as broken:
        authority.check()
    return broken.value.position


@pytest.mark.parametrize(
    ("statement", "position"),
    [
        ("DELETE FROM deaths WHERE seq = 2", 7),
        ("DELETE FROM deaths WHERE seq = 3", 7),
        ("UPDATE deaths SET key = zeroblob(16) WHERE seq = 2", 7),
        ("INSERT INTO deaths VALUES (4, 'another', 'revoked', 1, 7)", 7),
        ("UPDATE deaths SET position = 5 WHERE seq = 3", 5),
    ],
)
def test_a_death_of_many_that_was_edited_is_found(authority: Authority, statement: str, position: int) -> None:
    opened = authority.open(allow=["a.b"])
    authority.store.record([recordable(decided(opened, [hop]), at=NOW) for hop in (nonce(), nonce(), nonce())])
    assert len(authority.revoke(where={"agent": LABEL}).killed) == 3
    assert authority.check().position == 7
    assert broken_at(authority, statement) == position


def test_a_count_of_deaths_that_was_edited_is_found(authority: Authority) -> None:
    authority.complete(authority.open(allow=["a.b"]).id)
    connection = sqlite3.connect(Path(authority.store.place))
    connection.execute("UPDATE head SET deaths = 0")
    connection.commit()
    connection.close()
    with pytest.raises(StoreProblem, match="counts 0 deaths and holds 1"):
        authority.check()


@pytest.mark.parametrize("body", [b"{}", b'{"id":5}', b'{"id":"no id"}', b"[]"])
def test_an_ending_that_was_made_up_with_its_hash_is_found(authority: Authority, body: bytes) -> None:
    with authority.store.write() as transaction:
        transaction.append("revoked", body, at=NOW)
        transaction.kill("another", "revoked", at=NOW, position=1)
    with pytest.raises(BrokenLog) as broken:
        authority.check()
    assert broken.value.position == 1


def test_the_key_of_the_authority_itself_is_not_exported(authority: Authority) -> None:
    for make in (authority.export_keys, authority.verifier):
        with pytest.raises(InvalidRequest, match="reserved"):
            make("authority")


def test_followers_that_lag_are_told_and_those_gone_are_not(clock: Clock, authority: Authority) -> None:
    authority.revoke("A" * 22)
    for follower, deaths, at in (("knows", 1, clock.now), ("lags", 0, clock.now), ("gone", 0, clock.now - 31)):
        authority.store.sighted(follower, deaths, now=at)
    assert [one.follower for one in authority.unaware()] == ["lags"]
    assert [one.follower for one in authority.unaware(within=100)] == ["gone", "lags"]
    authority.store.sighted("lags", 1, now=clock.now)
    assert authority.unaware() == []


def test_whoever_searches_indexes_what_resources_recorded(authority: Authority) -> None:
    """And the next search reads less."""
    bodies = [b'{"id":"d.%022d","outcome":"allowed","audience":"crm"}' % nth for nth in range(40 * BLOCK)]
    authority.store.record([DecisionRecord(f"d.{nth:022}", NOW, body) for nth, body in enumerate(bodies)])
    with authority.store.read() as reading:
        assert reading.indexed_blocks() == 0
    assert authority.calls(tenant="Acme").groups == ()
    with authority.store.read() as reading:
        assert reading.indexed_blocks() == 40
    more = [DecisionRecord(f"e.{nth:022}", NOW, body.replace(b"d.", b"e.")) for nth, body in enumerate(bodies[:BLOCK])]
    authority.store.record(more)
    authority.end_overdue()
    with authority.store.read() as reading:
        assert reading.indexed_blocks() == 41
    authority.check()
