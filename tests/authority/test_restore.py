"""A store that is brought back from a backup: what is dead, what lives, and who hears of it."""

import contextlib
import os
import sqlite3
import stat
import time
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec import structs

from capx.authority.authority import Authority
from capx.authority.restore import restore
from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u
from capx.errors import ConfigurationProblem, InvalidRequest, StoreProblem
from capx.intents.epoch import authority_of
from capx.store.backup import backup
from capx.store.factory import create_store, open_store
from capx.store.records import GrantRecord, IntentRecord, TaskRecord
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.revocation_key import of_instant, of_kid
from capx.verify.meter import Spend
from tests.labs.payers import payer
from tests.labs.restoring import (
    KEYS,
    LEAKED,
    Service,
    a_request,
    an_intent,
    authority,
    brought_back,
    place,
    saved,
    service,
)
from tests.labs.store_writes import granted_by
from tests.labs.writing import POLICY, asked_for

__all__ = ["authority", "place", "saved", "service"]  # fixtures, here of a real clock


def test_all_issued_before_a_restoration_is_refused(
    authority: Authority, service: Service, place: str, saved: Path, tmp_path: Path
) -> None:
    before = authority.open(allow=["crm.read"])
    backup(authority.store, saved)
    after = authority.open(allow=["crm.read"])
    assert service.codes(before.bundle) == service.codes(after.bundle) == []
    done = brought_back(saved, place, tmp_path)
    assert done.withdrawn == (before.id,)
    assert int(time.time()) > (done.issued or 0)
    assert "revoked" in service.codes(before.bundle)
    assert "revoked" in service.codes(after.bundle)
    assert service.liveness.problem is None
    assert [task.state for task in authority.tasks()] == ["withdrawn"]
    with pytest.raises(InvalidRequest, match="is withdrawn"):
        authority.mint(before.id, allow=["crm.read"])
    with pytest.raises(InvalidRequest, match="there is no task"):
        authority.task(after.id)
    assert service.codes(authority.open(allow=["crm.read"]).bundle) == []
    assert authority.check().position == done.position or authority.check().position > (done.position or 0)


def test_a_follower_that_has_not_read_the_new_epoch_refuses(
    authority: Authority, place: str, saved: Path, tmp_path: Path
) -> None:
    opened = authority.open(allow=["crm.read"])
    backup(authority.store, saved)
    late = Service(place)
    assert late.codes(opened.bundle) == []
    known = late.liveness._view.head  # what it had read before
    brought_back(saved, place, tmp_path)
    with contextlib.closing(late.store.source()) as source:
        news = source.news(known)
    assert news.anew
    assert known is not None
    assert authority_of(news.head.epoch) == authority_of(known.epoch)
    assert news.head.epoch > known.epoch
    assert "revoked" in late.codes(opened.bundle)
    late.close()


def test_a_backup_put_in_place_without_its_epoch_is_refused(tmp_path: Path, saved: Path) -> None:
    path = tmp_path / "capx.db"
    with Authority(SQLiteStore.create(path), KEYS) as authority:
        opened, other = (authority.open(allow=["crm.read"]) for _ in range(2))
        backup(authority.store, saved)
        service = Service(str(path))
        authority.revoke(opened.root)
        assert "revoked" in service.codes(opened.bundle)
    for companion in ("-wal", "-shm"):
        path.with_name(path.name + companion).unlink(missing_ok=True)
    saved.replace(path)
    assert service.codes(opened.bundle) == ["revoked"]
    assert "stale_liveness" in service.codes(other.bundle) or service.liveness.problem is not None
    service.close()


def test_intents_are_brought_back_requests_and_grants_are_not(
    authority: Authority, place: str, saved: Path, tmp_path: Path
) -> None:
    once, attested = an_intent(), an_intent(opened=2, withdrawn=5, attested="the login of our.example")
    unseen = IntentRecord(b64u(os.urandom(32)), withdrawn=5)
    now = int(time.time())
    task = TaskRecord("task-1", "root-1", now, now + 60, principal=once.principal, intent=once.digest)
    with authority.store.write() as writing:
        for intent in (once, unseen, attested):
            writing.keep_intent(intent)
        writing.open_task(task)
    backup(authority.store, saved)
    with authority.store.write() as writing:
        writing.keep_intent(structs.replace(once, opened=2))
        writing.keep_intent(an_intent())
        writing.keep_request(a_request("task-1"))
        writing.keep_grant(GrantRecord(b"c" * 16, (b"i" * 16,), LEAKED, 1, now))
    # Nor are those of a file that somebody wrote.
    with contextlib.closing(sqlite3.connect(saved)) as connection, connection:
        row = "1, 'a', 'task-1', 'b', 'granted', 1, 'never JSON', NULL, NULL, 2, 'ana', 'c'"
        connection.execute(f"INSERT INTO requests VALUES ({row})")
        connection.execute("INSERT INTO strengths VALUES (?, ?)", (b"i" * 16, b"x"))
    brought_back(saved, place, tmp_path)
    with authority.store.read() as reading:
        assert reading.intents() == [once, unseen, attested]
        (found,) = reading.tasks()
        assert (found.principal, found.intent, found.state) == (once.principal, once.digest, "withdrawn")
        assert reading.requests() == []
        assert granted_by(reading, b"i" * 16) == granted_by(reading, of_kid(LEAKED)) == []


def test_a_key_of_an_agent_stays_dead(authority: Authority, place: str, saved: Path, tmp_path: Path) -> None:
    before, after, alive = (AgentKey.generate(name).public for name in ("before", "after", "alive"))
    for key in (before, alive):
        authority.open(allow=["crm.read"], agent_key=key)
    authority.revoke(key=before)
    head = backup(authority.store, saved)
    authority.revoke(key=after)
    assert restore(saved, place, dry_run=True).agent_keys == (after,)
    assert brought_back(saved, place, tmp_path).agent_keys == (after,)
    with authority.store.read() as reading:
        assert [task.holder for task in reading.tasks()] == [before, alive]
    assert [event.facts()["key"] for event in authority.log(head.position) if event.kind == "revoked"] == [after]
    for key in (before, after):
        with pytest.raises(InvalidRequest, match="was revoked, and nothing is bound or sealed to it"):
            authority.open(allow=["crm.read"], agent_key=key)
    assert authority.open(allow=["crm.read"], agent_key=alive).holder == alive
    authority.check()


def test_an_intent_of_before_a_restoration_opens_nothing(place: str, saved: Path, tmp_path: Path) -> None:
    with Authority(open_store(place), KEYS, policy=POLICY) as authority:
        used, unused = (structs.replace(asked_for(authority.store), max_tasks=1) for _ in range(2))
        backup(authority.store, saved)
        authority.open(used, attested="the login")
        second = brought_back(saved, place, tmp_path).issued
        assert second is not None
        for intent in (used, unused):
            with pytest.raises(InvalidRequest, match="was restored and is now"):
                authority.open(intent, attested="the login")
        later = asked_for(authority.store)
        assert authority.task(authority.open(later, attested="the login").id).intent == later.digest


def test_an_intent_is_refused_in_a_copy_restored_elsewhere(place: str, saved: Path, tmp_path: Path) -> None:
    with Authority(open_store(place), KEYS, policy=POLICY) as authority:
        once = structs.replace(asked_for(authority.store), max_tasks=1)
        # Even one that says it was issued when the restoration is over.
        ahead = structs.replace(once, issued=int(time.time()) + 5)
        backup(authority.store, saved)
        restore(saved, str(tmp_path / "elsewhere.db"))
        with Authority(SQLiteStore(tmp_path / "elsewhere.db"), KEYS, policy=POLICY) as copy:
            for intent in (once, ahead):
                assert authority.open(intent, attested="the login").intent == intent.digest
                with pytest.raises(InvalidRequest, match="was restored and is now"):
                    copy.open(intent, attested="the login")
            there = structs.replace(asked_for(copy.store), max_tasks=1)
            assert copy.open(there, attested="the login").intent == there.digest
            with pytest.raises(InvalidRequest, match="is for"):
                authority.open(there, attested="the login")


def test_a_restored_store_knows_how_it_came_to_be(
    authority: Authority, place: str, saved: Path, tmp_path: Path
) -> None:
    authority.open(allow=["crm.read"])
    head = backup(authority.store, saved)
    done = brought_back(saved, place, tmp_path)
    events = list(authority.log(head.position))
    assert [event.kind for event in events] == ["restored", "task_withdrawn"]
    assert events[0].facts() == {"issued": done.issued, "epoch": done.epoch, "backup": head.position}
    with authority.store.read() as reading:
        assert reading.head().epoch == done.epoch
        assert reading.death(of_instant(done.issued or 0)) is not None
    assert authority.check().position == done.position


def test_a_key_that_was_revoked_since_the_backup_stays_revoked(
    authority: Authority, place: str, saved: Path, tmp_path: Path
) -> None:
    backup(authority.store, saved)
    authority.revoke(kid=LEAKED)
    assert restore(saved, place, dry_run=True).kids == (LEAKED,)
    assert brought_back(saved, place, tmp_path).kids == (LEAKED,)
    with authority.store.read() as reading:
        assert reading.death(of_kid(LEAKED)) is not None
    authority.check()


def test_what_was_there_is_kept_and_can_itself_be_restored(
    authority: Authority, place: str, saved: Path, tmp_path: Path
) -> None:
    backup(authority.store, saved)
    later = authority.open(allow=["crm.read"])
    done = brought_back(saved, place, tmp_path)
    assert done.kept is not None
    kept = Path(done.kept)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with contextlib.closing(SQLiteStore(kept)) as old, old.read() as reading:
        assert [task.id for task in reading.tasks()] == [later.id]
    foreseen = restore(kept, place, dry_run=True)
    assert foreseen.parted == 0
    events = list(authority.log())
    with pytest.raises(ConfigurationProblem, match="the store has 1 events since that the backup lacks"):
        restore(kept, place)
    assert list(authority.log()) == events
    again = restore(kept, place, discard=True)
    assert again.withdrawn == (later.id,)
    assert [task.state for task in authority.tasks()] == ["withdrawn"]
    authority.check()


def test_a_backup_of_the_way_not_taken_is_told_where_it_parted(
    authority: Authority, place: str, saved: Path, tmp_path: Path
) -> None:
    for _ in range(7):
        authority.open(allow=["crm.read"])
    backup(authority.store, saved)
    common = authority.end()
    authority.open(allow=["crm.read"])
    ahead = tmp_path / "ahead.db"
    backup(authority.store, ahead)
    # An older copy is a part of the store, and the store goes on from it.
    assert brought_back(saved, place, tmp_path).parted is None
    assert restore(ahead, place, dry_run=True).parted == common
    revoked = authority.revoke(kid=LEAKED)
    assert revoked.killed
    with pytest.raises(ConfigurationProblem, match=f"the same up to position {common}, and the store has"):
        restore(ahead, place)
    kept = tmp_path / "kept again.db"
    done = restore(ahead, place, keep=None if place.endswith(".db") else kept, discard=True)
    assert (done.parted, done.kids) == (common, (LEAKED,))
    authority.check()


def test_restoring_twice_within_one_second_begins_two_epochs(
    authority: Authority, place: str, saved: Path, tmp_path: Path
) -> None:
    backup(authority.store, saved)
    first = brought_back(saved, place, tmp_path)
    again = tmp_path / "again.db"
    backup(authority.store, again)
    second = restore(again, place)
    assert (first.epoch or "") < (second.epoch or "")
    authority.check()


def test_a_dry_run_changes_nothing(authority: Authority, place: str, saved: Path, tmp_path: Path) -> None:
    opened = authority.open(allow=["crm.read"])
    head = backup(authority.store, saved)
    authority.open(allow=["crm.read"])
    before, files = list(authority.log()), set(tmp_path.iterdir())
    foreseen = restore(saved, place, keep=tmp_path / "kept.db", dry_run=True)
    assert (foreseen.withdrawn, foreseen.backup, foreseen.epoch) == ((opened.id,), head, None)
    assert foreseen.replaced is not None
    assert foreseen.replaced.position == before[-1].position
    assert list(authority.log()) == before
    assert {path for path in tmp_path.iterdir() if not path.name.startswith("capx.db-")} <= files


def test_a_backup_of_another_store_is_refused_where_one_was_used(
    authority: Authority, place: str, saved: Path, tmp_path: Path
) -> None:
    with Authority(SQLiteStore.create(tmp_path / "other.db"), KEYS) as other:
        other.open(allow=["crm.read"])
        backup(other.store, saved)
    opened = authority.open(allow=["crm.read"])
    for dry_run in (True, False):
        with pytest.raises(ConfigurationProblem, match="of another store"):
            restore(saved, place, dry_run=dry_run)
    assert authority.task(opened.id).state == "active"
    assert authority.check().position == 3


def test_a_backup_goes_into_a_store_that_was_never_used(place: str, saved: Path, tmp_path: Path) -> None:
    with Authority(SQLiteStore.create(tmp_path / "other.db"), KEYS) as other:
        opened = other.open(allow=["crm.read"])
        backup(other.store, saved)
        origin = authority_of(backup(other.store, tmp_path / "second.db").epoch)
    done = restore(saved, place)
    assert authority_of(done.epoch or "") == origin
    with Authority(open_store(place), KEYS) as authority:
        assert authority.task(opened.id).state == "withdrawn"


def test_a_store_moves_to_postgresql_by_a_backup(
    postgres_server: object, postgres_database: str, saved: Path, tmp_path: Path
) -> None:
    url = getattr(postgres_server, "url")(postgres_database)  # noqa: B009 - a fixture of any kind
    with Authority(SQLiteStore.create(tmp_path / "capx.db"), KEYS) as here:
        opened = here.open(allow=["crm.read"])
        backup(here.store, saved)
    restore(saved, url)
    with Authority(open_store(url), KEYS) as there:
        assert there.task(opened.id).state == "withdrawn"
        there.check()
    with pytest.raises(StoreProblem, match="already"):
        create_store(url)


def test_a_clock_behind_leaves_nothing_of_before_alive(
    authority: Authority, service: Service, place: str, saved: Path, tmp_path: Path
) -> None:
    backup(authority.store, saved)
    later = authority.open(allow=["crm.read"])
    authority.complete(later.id)
    (token,) = [each for each in later.bundle if each.audience == "crm"]
    done = restore(saved, place, keep=tmp_path / "kept.db", clock=lambda: time.time() - 2)
    assert done.issued is not None
    assert done.issued >= token.issued_at
    assert "revoked" in service.codes(later.bundle)
    assert service.codes(authority.open(allow=["crm.read"]).bundle) == []
    authority.check()


def test_a_clock_that_is_far_behind_restores_nothing(
    authority: Authority, place: str, saved: Path, tmp_path: Path
) -> None:
    backup(authority.store, saved)
    opened = authority.open(allow=["crm.read"])
    backup(authority.store, tmp_path / "later.db")
    for source, whose in ((saved, "the store that is there"), (tmp_path / "later.db", "the backup")):
        for dry_run in (True, False):
            with pytest.raises((ConfigurationProblem, StoreProblem), match=f"clock here is behind.*{whose}|not begun"):
                restore(source, place, dry_run=dry_run, clock=lambda: time.time() - 3_600)
    assert authority.task(opened.id).state == "active"


def test_a_restoration_that_waits_keeps_nobody_from_writing(
    authority: Authority, place: str, saved: Path, tmp_path: Path
) -> None:
    authority.open(allow=["crm.read"])
    backup(authority.store, saved)
    calls = 0

    def clock() -> float:
        nonlocal calls
        calls += 1
        if calls == 10:
            authority.open(allow=["crm.read"])
        return time.time() - 2

    done = restore(saved, place, keep=tmp_path / "kept.db", clock=clock)
    assert done.replaced is not None
    assert done.replaced.position == 6
    assert calls > 10


def test_deaths_of_each_coming_second_do_not_hold_a_restoration(authority: Authority, place: str, saved: Path) -> None:
    opened = authority.open(allow=["crm.read"])
    now = int(time.time())
    with authority.store.write() as transaction:
        for second in range(now, now + 3_600):
            event = transaction.append("revoked", b'{"issued":%d}' % second, at=now)
            transaction.kill(of_instant(second), "revoked", at=now, position=event.position)
    # Refused where it is made: whoever makes a backup does not wait for the incident to find this out.
    with pytest.raises(StoreProblem, match="is later than all that it could revoke"):
        backup(authority.store, saved)
    assert not saved.exists()
    assert authority.task(opened.id).state == "revoked"


def test_what_was_revoked_ahead_of_the_clock_can_be_restored(
    authority: Authority, place: str, saved: Path, tmp_path: Path
) -> None:
    ahead = Authority(authority.store, KEYS, clock=lambda: time.time() + 3)
    issued = ahead.task(ahead.open(allow=["crm.read"]).id).opened
    (killed,) = authority.revoke(issued="now").killed
    assert killed.key == f"issued:{issued}"
    backup(authority.store, saved)
    restored = restore(saved, place, keep=tmp_path / "kept.db")
    assert restored.issued is not None
    assert restored.issued > issued


def test_a_counter_that_was_damaged_is_a_problem_of_the_store(tmp_path: Path) -> None:
    path = tmp_path / "capx.db"
    with contextlib.closing(SQLiteStore.create(path)) as store:
        spend = Spend("A", "calls", Decimal(1), Decimal(5))
        store.spend(payer(), [spend], now=1)
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE counters SET spent = 'sNaN'")
        with pytest.raises(StoreProblem, match="which is not an amount"):
            store.spend(payer(), [spend], now=1)
        with pytest.raises(StoreProblem, match="which is not an amount"):
            store.spent([("A", "calls")])
