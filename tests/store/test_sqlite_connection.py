"""A store in SQLite: files that are busy, full, damaged, replaced or gone."""

import math
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from capx.errors import StoreProblem
from capx.resource.revocations import StoreLiveness
from capx.store.records import Unwritable
from capx.store.sqlite.store import SQLiteStore
from tests.labs.counts import repeated
from tests.labs.payers import payer
from tests.labs.processes import in_a_child
from tests.labs.store_writes import NOW, note, verified


@pytest.fixture
def store(sqlite_store: SQLiteStore) -> SQLiteStore:
    return sqlite_store


def open_files() -> list[str]:
    return [file.readlink().name for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]


def limit_pages(store: SQLiteStore, pages: int) -> None:
    """Make the disk full, or roomy, for the connection that the store will use next; never below what it has."""
    pool = store._pool  # SQLite's own limit stands in for a full disk
    with pool.connection() as connection:
        connection.execute(f"PRAGMA max_page_count = {pages}")


def test_a_new_store_is_for_its_owner_alone(store: SQLiteStore, path: Path) -> None:
    note(store)
    files = list(path.parent.iterdir())
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_creation_that_was_cut_short_can_be_made_again(path: Path) -> None:
    path.touch(0o600)
    with pytest.raises(StoreProblem, match="not a capx store"):
        SQLiteStore(path)
    SQLiteStore.create(path).close()


def test_a_damaged_file_is_a_problem_of_the_store(store: SQLiteStore, path: Path) -> None:
    for _ in range(200):
        note(store, b'{"x":"%s"}' % (b"x" * 200))
    store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    with pytest.raises(StoreProblem, match="damaged"):
        verified(SQLiteStore(path))


def test_nothing_is_written_to_a_file_that_is_no_longer_there(store: SQLiteStore, path: Path) -> None:
    note(store)
    path.rename(path.with_name("moved.db"))
    with pytest.raises(StoreProblem, match="no store at"):
        note(store)


def test_a_replaced_store_is_followed_the_old_file_left_alone(store: SQLiteStore, path: Path) -> None:
    note(store)
    other = SQLiteStore.create(path.with_name("other.db"))
    other.close()
    path.with_name("other.db").rename(path)
    path.with_name("capx.db-wal").unlink()
    path.with_name("capx.db-shm").unlink()
    assert note(store) == 1


def test_a_busy_store_waits_and_then_says_so(store: SQLiteStore, path: Path) -> None:
    other = SQLiteStore(path, busy_seconds=0.1)
    with store.write() as transaction:
        transaction.append("noted", b"{}", at=NOW)
        with pytest.raises(StoreProblem, match="busy"):
            note(other)
    assert note(other) == 2
    other.close()


def test_a_full_disk_leaves_nothing_half_done_and_is_survived(store: SQLiteStore, path: Path) -> None:
    note(store)
    limit_pages(store, 1)
    with pytest.raises(StoreProblem, match="disk is full"):
        note(store, b'"%s"' % (b"x" * 100_000))
    assert verified(store).position == 1
    limit_pages(store, 1_000_000)
    assert note(store) == 2
    assert verified(store).position == 2


WRITER = f"""
import sys
import threading
from pathlib import Path
from capx.store.sqlite.store import SQLiteStore
store = SQLiteStore(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    with store.write() as transaction:
        event = transaction.append("noted", b'{{"n":%d}}' % number, at={NOW})
        task = transaction.kill("task-%d" % event.position, "task_completed", at={NOW}, position=event.position)
    print(event.position, flush=True)
"""


def writer(path: Path, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(count)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_eight_processes_append_at_once_without_gaps(store: SQLiteStore, path: Path) -> None:
    writers = [writer(path, 40) for _ in range(8)]
    for process in writers:
        go(process)
    positions = [int(line) for process in writers for line in process.communicate(timeout=60)[0].split()]
    assert sorted(positions) == list(range(1, 321))
    assert verified(store).position == 320


def test_a_writer_killed_at_any_instant_loses_nothing_answered(store: SQLiteStore, path: Path) -> None:
    chance = random.Random(30)
    acknowledged = 0
    for _ in range(repeated(30)):
        process = writer(path, 100_000)
        go(process)
        time.sleep(chance.uniform(0.001, 0.04))
        process.send_signal(signal.SIGKILL)
        lines = process.communicate(timeout=30)[0].split("\n")
        # The last line may have been cut off; a whole one ends with a newline.
        acknowledged = max([acknowledged, *map(int, lines[:-1])])
        reached = verified(store).position
        assert reached >= acknowledged
        with store.read() as reading:
            assert [death.position for death in reading.deaths()] == list(range(1, reached + 1))
            assert reading.head().deaths == reached
    assert acknowledged > repeated(30)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs a list of open files")
def test_no_connection_is_open_across_a_fork(store: SQLiteStore, path: Path) -> None:
    note(store)
    liveness = StoreLiveness(path)
    assert liveness.age() < 10
    assert any("capx.db" in name for name in open_files())
    assert in_a_child(lambda: not any("capx.db" in name for name in open_files()))
    liveness.close()


@pytest.mark.parametrize("mode", [0o666, 0o640, 0o604])
def test_a_store_is_not_built_into_a_file_that_others_may_use(path: Path, mode: int) -> None:
    path.touch()
    path.chmod(mode)
    with pytest.raises(StoreProblem, match="chmod 600"):
        SQLiteStore.create(path)
    assert path.stat().st_size == 0


def test_a_store_that_others_may_use_is_not_opened(store: SQLiteStore, path: Path) -> None:
    note(store)
    store.close()
    path.chmod(0o620)
    with pytest.raises(StoreProblem, match="chmod 600"):
        SQLiteStore(path)
    liveness = StoreLiveness(path)
    assert liveness.age() == math.inf
    assert "chmod 600" in str(liveness.problem)
    path.chmod(0o600)
    assert verified(SQLiteStore(path)).position == 1


@pytest.mark.parametrize("suffixes", [("-wal", "-shm"), ("-wal",), ("-shm",)])
def test_a_wal_deleted_under_a_connection_is_a_store_problem(
    store: SQLiteStore, path: Path, suffixes: tuple[str, ...]
) -> None:
    note(store)
    for suffix in suffixes:
        path.with_name(f"capx.db{suffix}").unlink()
    for _ in range(2):
        with pytest.raises(StoreProblem, match="while it was in use"):
            note(store)
    with pytest.raises(StoreProblem, match="while it was in use"):
        SQLiteStore(path)


def liveness_without_wal(path: Path) -> StoreLiveness:
    """What follows a store, and was up to date when the files beside it were deleted."""
    liveness = StoreLiveness(path, poll=0)
    assert liveness.age() < 10
    for suffix in ("-wal", "-shm"):
        path.with_name(f"capx.db{suffix}").unlink()
    return liveness


def test_a_death_beside_a_deleted_wal_is_read_or_knowledge_ages(path: Path) -> None:
    SQLiteStore.create(path).close()
    liveness = liveness_without_wal(path)
    process = writer(path, 1)
    go(process)
    process.communicate(timeout=30)
    assert liveness.age() < 10
    assert "task-1" in liveness.deaths
    liveness.close()


def test_knowledge_ages_while_a_deleted_wal_is_held(store: SQLiteStore, path: Path) -> None:
    note(store)
    liveness = liveness_without_wal(path)
    before = liveness.age()
    time.sleep(0.02)
    assert liveness.age() >= before + 0.02
    assert "while it was in use" in str(liveness.problem)
    liveness.close()


@pytest.mark.parametrize("body", [b'{"x":"%s"}' % (b"x" * 60_000), b'{"x":%s%s}' % (b"[" * 3_000, b"]" * 3_000)])
def test_what_a_store_can_never_hold_is_told_apart(store: SQLiteStore, body: bytes) -> None:
    pool = store._pool  # SQLite's limit of a gigabyte, made smaller
    with pool.connection() as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 50_000)
    with pytest.raises(Unwritable), store.write() as transaction:
        transaction.append("decision", body, at=NOW)
    assert note(store) == 1


def test_threads_write_in_turns_and_one_too_late_is_told(path: Path, store: SQLiteStore) -> None:
    with closing(SQLiteStore(path, busy_seconds=0.2)) as impatient:
        began, over = threading.Event(), threading.Event()

        def hold() -> None:
            with impatient.write():
                began.set()
                over.wait(10)

        holder = threading.Thread(target=hold)
        holder.start()
        assert began.wait(10)
        with pytest.raises(StoreProblem, match="another thread held it for too long"):
            impatient.spend(payer(), [], now=0)
        with impatient.read() as reading:
            assert reading.head().position == 0
        over.set()
        holder.join()
        impatient.spend(payer(), [], now=0)


def test_a_folder_in_place_of_a_store_is_named_as_one(tmp_path: Path) -> None:
    with pytest.raises(StoreProblem, match="it is a folder; name the file in it"):
        SQLiteStore(tmp_path)
