"""A store that is replaced while others read and write it, or while the restoration is killed."""

import contextlib
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from capx.authority.authority import Authority
from capx.authority.restore import restore
from capx.errors import ConfigurationProblem, StoreProblem
from capx.intents.epoch import authority_of
from capx.store.backup import backup
from capx.store.factory import open_store
from capx.store.records import Head
from capx.store.sqlite.death_source import SQLiteDeathSource
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.bundle import Bundle
from tests.labs.commands import plain_environment, start_program, warm_python
from tests.labs.counts import nightly
from tests.labs.restoring import KEYS, LEAKED, RESTORING, Service, killed_at

if TYPE_CHECKING:
    from capx.authority.opening import OpenedTask


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


def test_a_waiting_writer_goes_on_in_the_restored_store(tmp_path: Path, saved: Path) -> None:
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
from tests.labs.restoring import Service
service = Service(sys.argv[1])
print("up", flush=True)
for line in sys.stdin:
    print(*service.codes(Bundle.parse(line.strip())), flush=True)
"""


class Elsewhere:
    """A service in a process of its own, for within one process all name a file alike."""

    def __init__(self, place: str) -> None:
        self.process = subprocess.Popen(
            [warm_python(), "-c", FOLLOWING, place],
            env=plain_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
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
def test_a_verifier_of_a_file_by_another_name_follows_a_restore(tmp_path: Path, saved: Path, through: str) -> None:
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


def test_a_verifier_through_a_bind_mount_follows_a_restore(tmp_path: Path, saved: Path) -> None:
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


def test_a_reader_of_a_file_that_lost_its_place_is_refused(tmp_path: Path, saved: Path) -> None:
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
        assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'forgetting'").fetchone() == (0,)
    with contextlib.closing(SQLiteDeathSource(done.kept)) as source:
        for known in (None, Head(f"{authority_of(done.backup.epoch)}.0", 3, bytes(32), 0)):
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


def test_a_service_with_the_old_file_open_goes_on_with_the_new(tmp_path: Path, saved: Path) -> None:
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


def test_what_opens_while_a_store_is_replaced_is_dead_or_known(tmp_path: Path, saved: Path) -> None:
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


def test_a_restoration_killed_at_any_step_leaves_a_store(tmp_path: Path, saved: Path) -> None:
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


@nightly
def test_a_replacement_killed_at_any_step_can_be_done_again(tmp_path: Path, saved: Path) -> None:
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
def test_a_restoration_killed_leaves_the_old_store_or_the_new(place: str, saved: Path, delay: float) -> None:
    with Authority(open_store(place), KEYS) as authority:
        with authority.store.write() as transaction:
            for number in range(2_000):
                transaction.append("noted", b'{"n":%d}' % number, at=1)
        backup(authority.store, saved)
        later = authority.open(allow=["crm.read"])
    process = start_program(RESTORING, saved, place)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    time.sleep(delay)
    process.kill()
    process.communicate(timeout=30)
    with Authority(open_store(place), KEYS) as authority:
        kinds = [event.kind for event in authority.log(2_000)]
        # A new second may have begun while the store was replaced: what was issued in it is revoked, too.
        new = kinds in (["restored"], ["restored", "revoked"])
        assert new or kinds == ["task_opened", "capability_minted", "capability_minted"]
        assert [task.id for task in authority.tasks()] == ([] if new else [later.id])
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
