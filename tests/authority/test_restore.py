"""Backups, and stores that are brought back from them: on both kinds of store, with verifiers that follow them."""

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from capx.authority.authority import Authority
from capx.authority.restore import Restoration, restore
from capx.crypto.base64url import b64u
from capx.crypto.canonical_json import canonical
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import BrokenLog, ConfigurationProblem, InvalidRequest, StoreProblem
from capx.intents.epoch import origin_of
from capx.intents.intent import Intent
from capx.resource.replay import Replay
from capx.resource.revocations import StoreLiveness
from capx.store.backup import backup
from capx.store.factory import create_store, open_store
from capx.store.records import DecisionRecord, GrantRecord, Head, IntentRecord, RequestRecord, TaskRecord
from capx.store.sqlite.death_source import SQLiteDeathSource
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.revocation_key import of_instant, of_kid
from capx.verify.meter import Spend
from capx.verify.verifier import Verifier
from capx_caveats import Call, budget
from tests.labs.postgres import postgres_database, postgres_server, postgres_url
from tests.labs.writing import POLICY, asked_for

if TYPE_CHECKING:
    from capx.authority.opening import OpenedTask
    from capx.store.protocols import Store

__all__ = ["postgres_database", "postgres_server", "postgres_url"]

KEYS = KeyRing(RootKey(bytes(range(32))))
LEAKED = "AAAAAAAAAAA"


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new store is, as text."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    path = tmp_path / "capx.db"
    SQLiteStore.create(path).close()
    return str(path)


@pytest.fixture
def authority(place: str) -> Iterator[Authority]:
    with Authority(open_store(place), KEYS) as made:
        yield made


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return tmp_path / "saved.db"


class Service:
    """A service that is there all the time, and follows the store by itself."""

    def __init__(self, place: str) -> None:
        self.store: Store = open_store(place)
        self.liveness = StoreLiveness(self.store.source(), poll=0)
        # As if it had been up for long.
        replay = Replay.process(clock=lambda: 0)
        self.verifier = Verifier("crm", KEYS.audience_keys("crm"), liveness=self.liveness, replay=replay)

    def codes(self, bundle: Bundle) -> list[str]:
        received = ToolCall("crm.read")
        token = bundle.present("crm", received).text
        return [one.code for one in self.verifier.decide(token, received, Call("crm.read")).refusals]

    def close(self) -> None:
        self.liveness.close()
        self.store.close()


@pytest.fixture
def service(place: str) -> Iterator[Service]:
    made = Service(place)
    yield made
    made.close()


def brought_back(saved: Path, place: str, tmp_path: Path) -> Restoration:
    return restore(saved, place, keep=None if place.endswith(".db") else tmp_path / "kept.db")


def test_a_backup_holds_all_and_stands_alone(authority: Authority, saved: Path) -> None:
    opened = authority.open(allow=["crm.read"])
    authority.complete(opened.id)
    head = backup(authority.store, saved)
    assert head.position == 4
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert [path.name for path in saved.parent.iterdir() if path.name.startswith((".", "saved"))] == ["saved.db"]
    with contextlib.closing(SQLiteStore(saved)) as copy, copy.read() as there, authority.store.read() as here:
        assert there.head() == here.head() == head
        assert list(there.events()) == list(here.events())
        assert list(there.deaths()) == list(here.deaths())
        assert there.tasks() == here.tasks()


def test_a_backup_is_read_where_nothing_may_be_written(authority: Authority, saved: Path, tmp_path: Path) -> None:
    backup(authority.store, saved)
    assert saved.read_bytes()[18:20] == b"\x01\x01"  # SQLite's mark of a file that needs no -wal beside it


def test_a_backup_is_never_written_over_anything(authority: Authority, saved: Path) -> None:
    saved.write_text("precious")
    with pytest.raises(ConfigurationProblem, match="there already"):
        backup(authority.store, saved)
    saved.unlink()
    saved.symlink_to(saved.with_name("nowhere"))
    with pytest.raises(ConfigurationProblem, match="there already"):
        backup(authority.store, saved)
    with pytest.raises(StoreProblem, match="nothing can be written"):
        backup(authority.store, saved.parent / "no" / "folder.db")


def test_everything_issued_before_a_restoration_is_dead_and_no_task_is_active(
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
    known = late.liveness._view.head  # pyright: ignore[reportPrivateUsage] # what it had read before
    brought_back(saved, place, tmp_path)
    with contextlib.closing(late.store.source()) as source:
        news = source.news(known)
    assert news.anew
    assert known is not None
    assert origin_of(news.head.epoch) == origin_of(known.epoch)
    assert news.head.epoch > known.epoch
    assert "revoked" in late.codes(opened.bundle)
    late.close()


def test_a_backup_that_is_put_in_place_without_its_epoch_is_refused_by_followers(tmp_path: Path, saved: Path) -> None:
    path = tmp_path / "capx.db"
    with Authority(SQLiteStore.create(path), KEYS) as authority:
        opened = authority.open(allow=["crm.read"])
        backup(authority.store, saved)
        service = Service(str(path))
        authority.revoke(opened.root)
        assert "revoked" in service.codes(opened.bundle)
    for companion in ("-wal", "-shm"):
        path.with_name(path.name + companion).unlink(missing_ok=True)
    saved.replace(path)
    assert "stale_liveness" in service.codes(opened.bundle) or service.liveness.problem is not None
    service.close()


def an_intent(*, opened: int = 1, withdrawn: int | None = None, attested: str | None = None) -> IntentRecord:
    """One as it is kept, which nobody signed."""
    intent = Intent(
        principal="ana@our.example",
        authority="origin.1",
        purpose="refund",
        statement="Refund Zoë\nwhat T-1 says",
        max_tasks=2,
        issued=1,
        not_after=2_000_000_000,
        nonce=b64u(os.urandom(16)),
        parameters={"ticket": "T-1 \0", "amounts": (0.01, 50), "urgent": True},
    )
    document = canonical(intent.document()).decode()
    proof = b64u(os.urandom(64)) if attested is None else f"attested: {attested}"
    return IntentRecord(intent.digest, intent.principal, document, proof, opened, withdrawn)


def a_request(task: str) -> RequestRecord:
    return RequestRecord(
        id=b64u(os.urandom(16)),
        task=task,
        audience="crm",
        action="crm.read",
        args=None,
        ids=("A" * 22,),
        kid=LEAKED,
        issued=1,
        path=("B" * 22,),
        labels=(),
        block="[]",
        asked=1,
        until=2_000_000_000,
    )


def test_intents_are_brought_back_and_neither_requests_nor_what_was_granted(
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
        connection.execute("INSERT INTO requests VALUES (1, 'a', 'task-1', 'b', 'granted', 1, 'never JSON')")
        connection.execute("INSERT INTO strengths VALUES (?, ?)", (b"i" * 16, b"x"))
    brought_back(saved, place, tmp_path)
    with authority.store.read() as reading:
        assert reading.intents() == [once, unseen, attested]
        (found,) = reading.tasks()
        assert (found.principal, found.intent, found.state) == (once.principal, once.digest, "withdrawn")
        assert reading.requests() == []
        assert reading.granted_by(b"i" * 16) == reading.granted_by(of_kid(LEAKED)) == []


def test_an_intent_of_before_a_restoration_opens_nothing(place: str, saved: Path, tmp_path: Path) -> None:
    with Authority(open_store(place), KEYS, policy=POLICY) as authority:
        used, unused = (structs.replace(asked_for(authority.store), max_tasks=1) for _ in range(2))
        backup(authority.store, saved)
        authority.open(used, attested="the login")
        second = brought_back(saved, place, tmp_path).issued
        assert second is not None
        for intent in (used, unused):
            with pytest.raises(InvalidRequest, match="was restored since"):
                authority.open(intent, attested="the login")
        later = asked_for(authority.store)
        assert authority.task(authority.open(later, attested="the login").id).intent == later.digest


def test_an_intent_does_not_open_in_a_store_and_in_its_copy_that_was_restored_elsewhere(
    place: str, saved: Path, tmp_path: Path
) -> None:
    with Authority(open_store(place), KEYS, policy=POLICY) as authority:
        once = structs.replace(asked_for(authority.store), max_tasks=1)
        # Even one that says it was issued when the restoration is over.
        ahead = structs.replace(once, issued=int(time.time()) + 5)
        backup(authority.store, saved)
        restore(saved, str(tmp_path / "elsewhere.db"))
        with Authority(SQLiteStore(tmp_path / "elsewhere.db"), KEYS, policy=POLICY) as copy:
            for intent in (once, ahead):
                assert authority.open(intent, attested="the login").intent == intent.digest
                with pytest.raises(InvalidRequest, match="was restored since"):
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
    again = restore(kept, place)
    assert again.withdrawn == (later.id,)
    assert [task.state for task in authority.tasks()] == ["withdrawn"]
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


def test_a_backup_that_was_tampered_with_is_refused_and_changes_nothing(
    authority: Authority, place: str, saved: Path, tmp_path: Path
) -> None:
    opened = authority.open(allow=["crm.read"])
    backup(authority.store, saved)
    with contextlib.closing(sqlite3.connect(saved)) as connection, connection:
        connection.execute("UPDATE events SET body = replace(body, 'crm', 'crn') WHERE position = 2")
    for dry_run in (True, False):
        with pytest.raises(BrokenLog) as broken:
            restore(saved, place, dry_run=dry_run)
        assert broken.value.position == 2
    assert authority.task(opened.id).state == "active"


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
        origin = origin_of(backup(other.store, tmp_path / "second.db").epoch)
    done = restore(saved, place)
    assert origin_of(done.epoch or "") == origin
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


def test_a_store_is_no_backup_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "capx.db"
    SQLiteStore.create(path).close()
    (tmp_path / "link.db").hardlink_to(path)
    for source in (path, tmp_path / "link.db"):
        with pytest.raises(ConfigurationProblem, match="is the store itself"):
            restore(source, str(path))


@pytest.mark.parametrize("damage", ["gone", "emptied", "garbled", "half"])
def test_a_store_that_is_lost_or_cannot_be_read_is_replaced(tmp_path: Path, saved: Path, damage: str) -> None:
    path = tmp_path / "capx.db"
    with Authority(SQLiteStore.create(path), KEYS) as authority:
        opened = [authority.open(allow=["crm.read"]) for _ in range(50)]
        backup(authority.store, saved)
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"emptied": b"", "garbled": b"x" * 9000, "half": content[: len(content) // 2]}[damage])
    done = restore(saved, str(path))
    assert done.unread == (damage != "gone")
    assert (done.kept is None) == (damage == "gone")
    with Authority(SQLiteStore(path), KEYS) as authority:
        assert [authority.task(each.id).state for each in opened] == ["withdrawn"] * 50
        authority.check()


def test_whoever_waits_to_write_while_a_store_is_replaced_goes_on_in_the_restored_one(
    tmp_path: Path, saved: Path
) -> None:
    path = tmp_path / "capx.db"
    with Authority(SQLiteStore.create(path), KEYS) as authority:
        backup(authority.store, saved)
        before = authority.open(allow=["crm.read"])
        opening: list[Thread] = []
        opened: list[OpenedTask] = []

        def clock() -> float:
            # Under the lock of the store, which whoever opens a task meanwhile waits for.
            if list(tmp_path.glob(".capx.db.*")) and not opening:
                opening.append(Thread(target=lambda: opened.append(authority.open(allow=["crm.read"]))))
                opening[0].start()
            return time.time()

        restore(saved, str(path), clock=clock)
        opening[0].join()
        assert [task.id for task in authority.tasks()] == [opened[0].id] != [before.id]
        authority.check()


FOLLOWING = """
import sys
from capx.tokens.bundle import Bundle
from capx.crypto.base64url import b64u
from tests.authority.test_restore import Service
service = Service(sys.argv[1])
print("up", flush=True)
for line in sys.stdin:
    print(*service.codes(Bundle.parse(line.strip())), flush=True)
"""


class Elsewhere:
    """A service in a process of its own, for within one process all name a file alike."""

    def __init__(self, place: str) -> None:
        command = [sys.executable, "-c", FOLLOWING, place]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.hear()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def codes(self, bundle: Bundle) -> list[str]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{bundle.text}\n")
        return self.hear().split()

    def close(self) -> None:
        self.process.communicate(timeout=30)


@pytest.mark.parametrize("through", ["capx.db", "data.db"])
def test_a_verifier_that_reaches_the_file_by_another_name_hears_of_the_restoration(
    tmp_path: Path, saved: Path, through: str
) -> None:
    real, link = tmp_path / "data.db", tmp_path / "capx.db"
    SQLiteStore.create(real).close()
    link.symlink_to(real)
    services = [Elsewhere(str(real)), Elsewhere(str(link))]
    with Authority(SQLiteStore(tmp_path / through), KEYS) as authority:
        opened = authority.open(allow=["crm.read"])
        backup(authority.store, saved)
        assert [service.codes(opened.bundle) for service in services] == [[], []]
        done = restore(saved, str(tmp_path / through))
        assert (done.place, link.readlink()) == (str(real), real)
        assert all("revoked" in service.codes(opened.bundle) for service in services)
        later = authority.open(allow=["crm.read"])
        assert [service.codes(later.bundle) for service in services] == [[], []]
        authority.revoke(later.root)
        assert all("revoked" in service.codes(later.bundle) for service in services)
    for service in services:
        service.close()


def test_a_verifier_that_reaches_the_file_through_a_bind_mount_hears_of_the_restoration(
    tmp_path: Path, saved: Path
) -> None:
    path, bound = tmp_path / "capx.db", tmp_path / "bound.db"
    bound.touch(0o600)
    with Authority(SQLiteStore.create(path), KEYS) as authority:
        opened = authority.open(allow=["crm.read"])
        backup(authority.store, saved)
    if subprocess.run(["mount", "--bind", path, bound], capture_output=True, check=False).returncode:
        pytest.skip("only root may mount")
    try:
        service = Elsewhere(str(bound))
        assert service.codes(opened.bundle) == []
        restore(saved, str(path))
        said = service.codes(opened.bundle)
        service.close()
    finally:
        subprocess.run(["umount", "--lazy", bound], check=True)
    assert "revoked" in said


def test_a_file_with_another_hard_link_is_not_replaced(tmp_path: Path, saved: Path) -> None:
    path = tmp_path / "capx.db"
    with Authority(SQLiteStore.create(path), KEYS) as authority:
        opened = authority.open(allow=["crm.read"])
        backup(authority.store, saved)
        (tmp_path / "other.db").hardlink_to(path)
        for dry_run in (True, False):
            with pytest.raises(ConfigurationProblem, match="has another name"):
                restore(saved, str(path), dry_run=dry_run)
        assert authority.task(opened.id).state == "active"
        (tmp_path / "other.db").unlink()
        assert restore(saved, str(path)).withdrawn == (opened.id,)


def test_whoever_still_reads_a_file_that_lost_its_place_is_refused(tmp_path: Path, saved: Path) -> None:
    path = tmp_path / "capx.db"
    with Authority(SQLiteStore.create(path), KEYS) as authority:
        opened = authority.open(allow=["crm.read"])
        backup(authority.store, saved)
        authority.revoke(kid=LEAKED)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TRIGGER forgetting AFTER INSERT ON deaths BEGIN DELETE FROM deaths; END")
    done = restore(saved, str(path))
    assert (done.kids, done.unread) == ((LEAKED,), False)
    assert done.kept is not None
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'").fetchone() == (0,)
    with contextlib.closing(SQLiteDeathSource(done.kept)) as source:
        for known in (None, Head(f"{origin_of(done.backup.epoch)}.0", 3, bytes(32), 0)):
            with pytest.raises(StoreProblem, match="a backup took its place"):
                source.news(known)
    late = Service(done.kept)
    assert "unknown_liveness" in late.codes(opened.bundle)
    late.close()
    with (
        pytest.raises(StoreProblem, match="replaced by a backup"),
        contextlib.closing(SQLiteStore(done.kept)) as old,
        old.write() as writing,
    ):
        writing.append("noted", b"{}", at=1)


def test_a_clock_that_is_behind_leaves_nothing_alive_that_was_issued_since(
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


def test_nobody_is_kept_from_writing_while_a_restoration_waits_for_its_clock(
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
    backup(authority.store, saved)
    with pytest.raises(StoreProblem, match="lay ahead"):
        restore(saved, place)
    assert authority.task(opened.id).state == "active"


def replaced_by_a_view(table: str, columns: str) -> str:
    return f"ALTER TABLE {table} RENAME TO hidden; CREATE VIEW {table} AS SELECT {columns} FROM hidden"


ENDLESS = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r)"
CRAFTED = {
    "an amount that is none": ("UPDATE counters SET spent = 'abc'", "no amount"),
    "an amount that is no number": ("UPDATE counters SET spent = 'sNaN'", "no amount"),
    "an amount below nothing": ("UPDATE counters SET spent = '-1000'", "no amount"),
    "an amount without end": ("UPDATE counters SET spent = '1E+999999999999'", "no amount"),
    "an amount with a sign": ("UPDATE counters SET spent = '+1'", "no amount"),
    "a counter before all time": ("UPDATE counters SET last = -1", "is no time"),
    "an epoch of many digits": ("UPDATE head SET epoch = epoch || printf('%05000d', 1)", "is no epoch"),
    "an epoch to come": (
        "UPDATE head SET epoch = substr(epoch, 1, instr(epoch, '.')) || '9999999999999999'",
        "has not begun yet",
    ),
    "an epoch without a second": ("UPDATE head SET epoch = 'x'", "is no epoch"),
    "an epoch that is bytes": ("UPDATE head SET epoch = CAST(x'ff' AS TEXT)", "is damaged|failed|UTF-8"),
    "a hash that is short": ("UPDATE head SET hash = x'00'", "is no hash"),
    "less than nothing": ("UPDATE head SET deaths = -1", "is no count"),
    "more forgotten than died": ("UPDATE head SET forgotten = deaths + 1", "is more than there were"),
    "a state that is none": ("UPDATE tasks SET state = 'zombie'", "is no state"),
    "an end of what is active": ("UPDATE tasks SET ended = 1", "is an end of what is active"),
    "an end that is none": ("UPDATE tasks SET state = 'completed'", "is no time"),
    "an id that is none": ("UPDATE tasks SET id = 'a b'", "is no id"),
    "a tenant that shows otherwise": ("UPDATE tasks SET tenant = char(8238)", "is no name"),
    "a time that is none": ("UPDATE tasks SET expires = -5", "is no time"),
    "somebody who shows otherwise": ("UPDATE tasks SET principal = char(8238)", "is no name"),
    "a task on an intent that is none": ("UPDATE tasks SET intent = 'AAAA'", "is no digest"),
    "an intent without a digest": ("UPDATE intents SET digest = 'AAAA'", "is no digest"),
    "an intent under another digest": (
        "UPDATE intents SET digest = replace(hex(zeroblob(21)), '0', 'A') || 'A'",
        "is the digest of another document",
    ),
    "an intent that says more than was signed": (
        "UPDATE intents SET document = replace(document, '\"max_tasks\":2', '\"max_tasks\":9'), opened = 9",
        "is the digest of another document",
    ),
    "an intent that is laid out otherwise": (
        "UPDATE intents SET document = document || ' '",
        "is the digest of another document",
    ),
    "an intent that says something twice": (
        """UPDATE intents SET document = replace(document, '{"authority"', '{"nonce":"A","authority"')""",
        "holds what is no intent",
    ),
    "an intent that is no JSON": ("UPDATE intents SET document = 'abc'", "holds what is no intent"),
    "an intent of somebody else": ("UPDATE intents SET principal = 'ben'", "is not who asked for it"),
    "a signature that is short": ("UPDATE intents SET proof = 'AAAA'", "is no proof"),
    "an intent that nobody signed": ("UPDATE intents SET proof = NULL", "is no proof"),
    "an intent that nobody attested": ("UPDATE intents SET proof = 'attested: '", "is no proof"),
    "an intent that somebody hidden attested": ("UPDATE intents SET proof = 'attested: ' || char(8238)", "is no proof"),
    "more tasks than were asked for": ("UPDATE intents SET opened = 3", "is no number of tasks"),
    "less than no task": ("UPDATE intents SET opened = -1", "is no number of tasks"),
    "an intent that was withdrawn before all time": ("UPDATE intents SET withdrawn = -1", "is no time"),
    "an intent unseen and opened": (
        "UPDATE intents SET document = NULL, proof = NULL, principal = NULL, withdrawn = 1",
        "nobody has seen",
    ),
    "an intent unseen and not withdrawn": (
        "UPDATE intents SET document = NULL, proof = NULL, principal = NULL, opened = 0",
        "is no time",
    ),
    "an event before all time": ("UPDATE events SET at = -1 WHERE position = 1", "is no time"),
    "an event of no kind": ("UPDATE events SET kind = '\x1b[2J' WHERE position = 1", "is no kind"),
    "an event without its place": ("DELETE FROM events WHERE position = 2", "the log is broken at position 2"),
    "a death that nothing caused": ("INSERT INTO deaths VALUES (9, x'00', 'revoked', 1, 1)", "nothing that can die"),
    "a death that is a number": ("INSERT INTO deaths VALUES (9, 7, 'revoked', 1, 1)", "nothing that can die"),
    "a death for another reason": ("INSERT INTO deaths VALUES (9, 'A', 'bored', 1, 1)", "is no reason"),
    "a death of an instant to come": ("INSERT INTO deaths VALUES (9, 'issued:5', 'revoked', 1, 1)", "lay ahead"),
    "a death of an instant beyond numbers": (
        "INSERT INTO deaths VALUES (9, 'issued:' || printf('%05000d', 1), 'revoked', 1, 1)",
        "nothing that can die",
    ),
    "a death that the log does not know": (
        "INSERT INTO deaths VALUES (9, 'A', 'revoked', 1, 1)",
        "the log is broken at position 1",
    ),
    "a row of twenty megabytes": (
        "UPDATE events SET body = json_quote(hex(zeroblob(10000000))) WHERE position = 1",
        "too big",
    ),
    "text for a time": (replaced_by_a_view("events", "position, 'x' AS at, kind, body, hash"), "not built as capx"),
    "nothing for a kind": (replaced_by_a_view("events", "position, at, NULL AS kind, body, hash"), "not built as capx"),
    "a number for an epoch": (
        replaced_by_a_view("head", "only_row, 5 AS epoch, position, hash, deaths, forgotten"),
        "not built as capx",
    ),
    "tasks without end": (
        f"ALTER TABLE tasks RENAME TO hidden; CREATE VIEW tasks AS {ENDLESS} SELECT n AS id, n AS root, 1 AS opened, 2",
        "not built as capx",
    ),
    "a table of one's own": ("CREATE TABLE mine (x)", "see the table 'mine'"),
    "a trigger": ("CREATE TRIGGER t AFTER INSERT ON deaths BEGIN DELETE FROM deaths; END", "see the trigger 't'"),
    "a view": (f"CREATE VIEW v AS {ENDLESS} SELECT n FROM r", "see the view 'v'"),
    "a missing index": ("DROP INDEX decisions", "see the index decisions"),
    "a schema that was written by hand": (
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = 2 WHERE name = 'deaths'",
        "damaged",
    ),
}


@pytest.mark.parametrize("craft", CRAFTED)
def test_a_crafted_backup_is_refused_and_changes_nothing(tmp_path: Path, saved: Path, craft: str) -> None:
    path = tmp_path / "capx.db"
    with Authority(SQLiteStore.create(path), KEYS) as authority:
        opened = authority.open(allow=["crm.read"], caveats=[budget("calls", 5)])
        authority.store.spend([Spend("AAAA", "calls", Decimal(1), Decimal(5))], now=1)
        with authority.store.write() as writing:
            writing.keep_intent(an_intent())
        backup(authority.store, saved)
        crafting, said = CRAFTED[craft]
        with contextlib.closing(sqlite3.connect(saved)) as connection:
            with contextlib.suppress(sqlite3.IntegrityError):
                connection.executescript(crafting)
            connection.commit()
        before, files = list(authority.log()), sorted(tmp_path.iterdir())
        for dry_run in (True, False):
            with pytest.raises(StoreProblem, match=said):
                restore(saved, str(path), dry_run=dry_run)
        assert list(authority.log()) == before
        assert authority.task(opened.id).state == "active"
        assert [found for found in sorted(tmp_path.iterdir()) if found not in files] == []


def test_whatever_capx_writes_can_be_brought_back(
    authority: Authority, place: str, saved: Path, tmp_path: Path
) -> None:
    ends = [authority.open(allow=["crm.read"], tenant="Acmé 1", caveats=[budget("calls", "0.5")]) for _ in range(4)]
    authority.complete(ends[0].id)
    authority.withdraw(ends[1].id)
    authority.revoke(ends[2].root)
    authority.revoke(kid=LEAKED)
    authority.revoke(issued=int(time.time()) - 1)
    long_ago = Authority(open_store(place), KEYS, clock=lambda: 1_000_000_000)
    long_ago.complete(long_ago.open(allow=["crm.read"]).id)
    long_ago.close()
    authority.end_overdue()
    (token,) = [each for each in ends[3].bundle if each.audience == "authority"]
    with authority.store.write() as transaction:
        transaction.count_revocation(ends[3].id, token.path[-1], now=int(time.time()))
    authority.store.spend(
        [Spend("any\nname", "Of a resource", Decimal("0.000001"), Decimal(10**14))], now=int(time.time())
    )
    ids = [b64u(bytes([nth]) * 16) for nth in range(2)]
    authority.store.record([DecisionRecord(id_, nth, b'{"id":"%s"}' % id_.encode()) for nth, id_ in enumerate(ids)])
    authority.prune()
    head = backup(authority.store, saved)
    again = tmp_path / "again.db"
    done = brought_back(saved, place, tmp_path)
    assert done.backup == head
    backup(authority.store, again)
    restore(again, place)
    restore(saved, str(tmp_path / "new.db"))


def test_a_counter_that_was_damaged_is_a_problem_of_the_store(tmp_path: Path) -> None:
    path = tmp_path / "capx.db"
    with contextlib.closing(SQLiteStore.create(path)) as store:
        spend = Spend("A", "calls", Decimal(1), Decimal(5))
        store.spend([spend], now=1)
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE counters SET spent = 'sNaN'")
        with pytest.raises(StoreProblem, match="which is no amount"):
            store.spend([spend], now=1)
        with pytest.raises(StoreProblem, match="which is no amount"):
            store.spent([("A", "calls")])


def test_a_service_with_the_old_file_open_goes_on_with_the_new_one(tmp_path: Path, saved: Path) -> None:
    path = tmp_path / "capx.db"
    with Authority(SQLiteStore.create(path), KEYS) as authority:
        backup(authority.store, saved)
        for _ in range(3):
            authority.open(allow=["crm.read"])
        done = restore(saved, str(path))
        assert [event.kind for event in authority.log()] == ["restored"]
        opened = authority.open(allow=["crm.read"])
    assert done.kept is not None
    with contextlib.closing(SQLiteStore(path)) as store, store.read() as reading:
        assert [task.id for task in reading.tasks()] == [opened.id]
    with contextlib.closing(SQLiteStore(Path(done.kept))) as old, old.read() as reading:
        assert len(reading.tasks()) == 3


OPENING = """
import contextlib, sys
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.errors import StoreProblem
from capx.crypto.keys import KeyRing, RootKey
from capx.store.sqlite.store import SQLiteStore
with Authority(SQLiteStore(sys.argv[1]), KeyRing(RootKey(bytes(range(32))))) as authority:
    while True:
        with contextlib.suppress(StoreProblem):
            opened = authority.open(allow=["crm.read"])
            print(opened.id, next(iter(opened.bundle)).issued_at, flush=True)
"""


def test_what_is_opened_while_a_store_is_replaced_is_dead_or_known_to_it(tmp_path: Path, saved: Path) -> None:
    path = tmp_path / "capx.db"
    with Authority(SQLiteStore.create(path), KEYS) as authority:
        backup(authority.store, saved)
        opening = subprocess.Popen([sys.executable, "-c", OPENING, str(path)], stdout=subprocess.PIPE, text=True)
        assert opening.stdout is not None
        opened = [opening.stdout.readline().split()]
        done = restore(saved, str(path))
        assert done.issued is not None
        while int(opened[-1][1]) <= done.issued:
            opened.append(opening.stdout.readline().split())
        opening.terminate()
        opened += [line.split() for line in opening.stdout]
        opening.wait(timeout=30)
        opening.stdout.close()
        known = {task.id for task in authority.tasks()}
        assert all(int(issued) <= done.issued for id_, issued in opened if id_ not in known)
        assert opened[0][0] not in known
        authority.check()
    assert [found.name for found in tmp_path.iterdir() if found.name.startswith(".")] == []


WRITING = """
import sys
from pathlib import Path
from capx.store.backup import backup
from capx.store.sqlite.store import SQLiteStore
store = SQLiteStore(sys.argv[1])
print("begun", flush=True)
backup(store, Path(sys.argv[2]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("delay", [0.0, 0.02, 0.06, 0.15])
def test_a_backup_that_is_cut_short_leaves_none(tmp_path: Path, saved: Path, how: signal.Signals, delay: float) -> None:
    path = tmp_path / "capx.db"
    with Authority(SQLiteStore.create(path), KEYS) as authority, authority.store.write() as transaction:
        for number in range(3_000):
            transaction.append("noted", b'{"n":%d}' % number, at=1)
    # Without what measures coverage, which an interrupt may leave waiting for itself.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING, str(path), str(saved)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(delay)
    process.send_signal(how)
    process.wait(timeout=30)
    process.stdout.close()
    if saved.exists():
        with contextlib.closing(SQLiteStore(saved)) as whole, whole.read() as reading:
            assert reading.head().position == 3_000
    elif how is signal.SIGINT:
        assert sorted(found.name for found in tmp_path.iterdir() if "draft" in found.name or found.name[0] == ".") == []


def test_a_disk_that_is_full_leaves_no_backup(tmp_path: Path, saved: Path) -> None:
    path = tmp_path / "capx.db"
    with Authority(SQLiteStore.create(path), KEYS) as authority, authority.store.write() as transaction:
        for number in range(3_000):
            transaction.append("noted", b'{"n":%d}' % number, at=1)
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n{WRITING}"
    done = subprocess.run(
        [sys.executable, "-c", f"import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n{limited}", path, saved],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "StoreProblem" in done.stderr
    assert sorted(found.name for found in tmp_path.iterdir() if not found.name.startswith("capx.db")) == []


RESTORING = """
import os, signal, sys
from pathlib import Path
from capx.authority.restore import restore
left = int(sys.argv[3]) if len(sys.argv) > 3 else -1
def step(event, _):
    global left
    if event in {"os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "sqlite3.connect"}:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(step)
print("begun", flush=True)
restore(Path(sys.argv[1]), sys.argv[2])
"""


def killed_at(step: int, saved: Path, path: Path) -> bool:
    """Restore in a process that is killed before its so-manieth step upon files; whether it came that far."""
    process = subprocess.run([sys.executable, "-c", RESTORING, saved, path, str(step)], check=False, timeout=60)
    return process.returncode == -signal.SIGKILL


def test_at_whatever_step_a_restoration_is_killed_there_is_a_store(tmp_path: Path, saved: Path) -> None:
    path = tmp_path / "capx.db"
    with Authority(SQLiteStore.create(path), KEYS) as authority:
        backup(authority.store, saved)
        later = authority.open(allow=["crm.read"])
    step = 1
    while killed_at(step, saved, path):
        with Authority(SQLiteStore(path), KEYS) as authority:
            assert [task.id for task in authority.tasks()] in ([later.id], [])
            authority.check()
        step += 1
    assert step > 5
    restore(saved, str(path))


def test_at_whatever_step_the_replacement_of_a_damaged_store_is_killed_it_can_be_done_again(
    tmp_path: Path, saved: Path
) -> None:
    path = tmp_path / "capx.db"
    with Authority(SQLiteStore.create(path), KEYS) as authority:
        backup(authority.store, saved)
    step, killed = 1, True
    while killed:
        for beside in tmp_path.glob("capx.db*"):
            beside.unlink()
        path.write_bytes(b"x" * 9_000)
        path.chmod(0o600)
        killed = killed_at(step, saved, path)
        if killed:
            restore(saved, str(path))
        assert [found for found in tmp_path.glob("capx.db.before-*") if found.read_bytes() == b"x" * 9_000]
        with Authority(SQLiteStore(path), KEYS) as authority:
            authority.check()
        step += 1
    assert step > 5


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.03, 0.06, 0.1, 0.2])
def test_a_restoration_that_is_killed_leaves_the_old_store_or_the_new_one(
    place: str, saved: Path, delay: float
) -> None:
    with Authority(open_store(place), KEYS) as authority:
        with authority.store.write() as transaction:
            for number in range(2_000):
                transaction.append("noted", b'{"n":%d}' % number, at=1)
        backup(authority.store, saved)
        later = authority.open(allow=["crm.read"])
    process = subprocess.Popen(
        [sys.executable, "-c", RESTORING, str(saved), place], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(delay)
    process.kill()
    process.wait(timeout=30)
    process.stdout.close()
    with Authority(open_store(place), KEYS) as authority:
        kinds = [event.kind for event in authority.log(2_000)]
        assert kinds in (["task_opened", "capability_minted", "capability_minted"], ["restored"])
        assert [task.id for task in authority.tasks()] == ([] if kinds == ["restored"] else [later.id])
        authority.check()
        assert authority.open(allow=["crm.read"]).position > 2_000


def test_a_restoration_that_is_interrupted_moves_nothing(tmp_path: Path, saved: Path) -> None:
    path = tmp_path / "capx.db"
    with Authority(SQLiteStore.create(path), KEYS) as authority:
        opened = authority.open(allow=["crm.read"])
        backup(authority.store, saved)

        def clock() -> float:
            # While the other one is being written.
            if list(tmp_path.glob(".capx.db.*")):
                raise KeyboardInterrupt
            return time.time()

        before = sorted(found.name for found in tmp_path.iterdir())
        with pytest.raises(KeyboardInterrupt):
            restore(saved, str(path), clock=clock)
        assert sorted(found.name for found in tmp_path.iterdir()) == before
        assert authority.task(opened.id).state == "active"
        authority.complete(opened.id)
