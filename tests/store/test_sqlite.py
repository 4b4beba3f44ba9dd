"""The store in a SQLite file."""

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
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from capx.chain import root_node
from capx.errors import StoreProblem
from capx.liveness import StoreLiveness
from capx.log import Place, check
from capx.store import Store, TaskRecord, Unwritable
from capx.store.sqlite import SQLiteStore

NOW = 1_800_000_000
TASK = TaskRecord("task-1", "root-1", NOW, NOW + 60, tenant="Acme", purpose=None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "capx.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    made = SQLiteStore.create(path)
    yield made
    made.close()


def note(store: Store, body: bytes = b"{}", *, durable: bool = True) -> int:
    with store.write(durable=durable) as transaction:
        return transaction.append("noted", body, at=NOW).position


def burn_and_note(store: Store) -> None:
    with store.write() as transaction:
        transaction.burn(b"a" * 16, until=NOW, now=NOW)
        transaction.append("noted", b"{}", at=NOW)


def in_a_child(holds: Callable[[], bool]) -> bool:
    """Fork, and tell whether it holds in the child."""
    child = os.fork()
    if child == 0:
        verdict = 1
        try:
            verdict = 0 if holds() else 1
        finally:
            os._exit(verdict)
    return os.waitpid(child, 0)[1] == 0


def open_files() -> list[str]:
    return [file.readlink().name for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]


def limit_pages(store: SQLiteStore, pages: int) -> None:
    """Make the disk full, or roomy, for the connection that the store will use next; never below what it has."""
    pool = store._pool  # pyright: ignore[reportPrivateUsage] # SQLite's own limit stands in for a full disk
    with pool.connection() as connection:
        connection.execute(f"PRAGMA max_page_count = {pages}")


def verified(store: Store) -> Place:
    with store.read() as reading:
        return check(reading.events(), head=reading.head().place)


def tamper(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_new_store_is_for_its_owner_alone(store: SQLiteStore, path: Path) -> None:
    note(store)
    files = list(path.parent.iterdir())
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_store_is_never_made_over_another(store: SQLiteStore, path: Path) -> None:
    note(store)
    with pytest.raises(StoreProblem, match="already"):
        SQLiteStore.create(path)
    assert verified(store).position == 1


def test_a_creation_that_was_cut_short_can_be_made_again(path: Path) -> None:
    path.touch(0o600)
    with pytest.raises(StoreProblem, match="not a capx store"):
        SQLiteStore(path)
    SQLiteStore.create(path).close()


def test_no_store_says_how_to_create_one(path: Path) -> None:
    with pytest.raises(StoreProblem, match="capx init"):
        SQLiteStore(path)
    assert not path.exists()


def test_a_newer_version_is_refused(store: SQLiteStore, path: Path) -> None:
    store.close()
    tamper(path, "PRAGMA user_version = 2")
    with pytest.raises(StoreProblem, match="newer capx"):
        SQLiteStore(path)


def test_another_programs_database_is_refused_and_not_touched(path: Path) -> None:
    tamper(path, "CREATE TABLE other (x)")
    before = path.read_bytes()
    for opened in (SQLiteStore, SQLiteStore.create):
        with pytest.raises(StoreProblem, match=r"not a capx store|another program"):
            opened(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"never a database " * 500)
    for opened in (SQLiteStore, SQLiteStore.create):
        with pytest.raises(StoreProblem, match="not a database"):
            opened(path)


def test_a_block_that_raises_leaves_nothing(store: SQLiteStore) -> None:
    def interrupted() -> None:
        with store.write() as transaction:
            event = transaction.append("noted", b"{}", at=NOW)
            transaction.open_task(TASK)
            transaction.kill("task-1", "task_completed", at=NOW, position=event.position)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    with store.read() as reading:
        assert (reading.head().position, reading.head().deaths) == (0, 0)
        assert (list(reading.events()), reading.tasks(), list(reading.deaths())) == ([], [], [])


def test_a_reader_sees_one_instant(store: SQLiteStore) -> None:
    note(store)
    with store.read() as reading:
        assert reading.head().position == 1
        note(store)
        assert reading.head().position == 1
        assert len(list(reading.events())) == 1
    assert verified(store).position == 2


def test_a_reader_that_stops_half_way_holds_nothing_up(store: SQLiteStore) -> None:
    for _ in range(3):
        note(store)
    with store.read() as reading:
        next(reading.events())
    assert note(store) == 4
    assert verified(store).position == 4


def test_events_come_by_position_and_limit(store: SQLiteStore) -> None:
    with store.write() as transaction:
        for _ in range(2_500):
            transaction.append("noted", b"{}", at=NOW)
    with store.read() as reading:
        assert [event.position for event in reading.events(after=10, limit=3)] == [11, 12, 13]
        assert len(list(reading.events(after=1, limit=2_000))) == 2_000
        assert list(reading.events(limit=0)) == []
    assert verified(store).position == 2_500


def test_a_task_ends_once(store: SQLiteStore) -> None:
    with store.write() as transaction:
        transaction.open_task(TASK)
        transaction.end_task("task-1", "completed", at=NOW + 1, position=7)
        transaction.end_task("task-1", "withdrawn", at=NOW + 2, position=8)
        task = transaction.task("task-1")
        assert task == transaction.rooted(root_node("root-1"))
        assert transaction.task("task-2") is None
    assert task is not None
    assert (task.state, task.ended, task.position) == ("completed", NOW + 1, 7)
    assert (task.tenant, task.purpose) == ("Acme", None)


def test_a_task_is_opened_once(store: SQLiteStore) -> None:
    with store.write() as transaction:
        transaction.open_task(TASK)
    with pytest.raises(StoreProblem), store.write() as transaction:
        transaction.open_task(TASK)


def test_a_key_dies_once_and_deaths_are_numbered_without_gaps(store: SQLiteStore) -> None:
    keys: list[bytes | str] = [b"n" * 16, "task-1", b"n" * 16, "n" * 16]
    with store.write() as transaction:
        deaths = [transaction.kill(key, "revoked", at=NOW + i, position=i) for i, key in enumerate(keys)]
    assert [death.seq for death in deaths] == [1, 2, 1, 3]
    assert deaths[2] == deaths[0]
    with store.read() as reading:
        assert [death.key for death in reading.deaths()] == [b"n" * 16, "task-1", "n" * 16]
        assert [death.seq for death in reading.deaths(after=1)] == [2, 3]
        assert reading.head().deaths == 3


def test_decisions_are_events_found_by_their_id(store: SQLiteStore) -> None:
    with store.write(durable=False) as transaction:
        transaction.append("noted", b'{"id":"dec-1"}', at=NOW)
        recorded = transaction.append("decision", b'{"id":"dec-1","outcome":"denied"}', at=NOW)
    with store.read() as reading:
        assert reading.decision("dec-1") == recorded
        assert reading.decision("dec-2") is None


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM events WHERE position = 2",
        "UPDATE events SET body = '{\"x\":1}' WHERE position = 2",
        "UPDATE events SET at = at + 1 WHERE position = 2",
        "UPDATE events SET position = 99 WHERE position = 2",
    ],
)
def test_an_event_edited_or_taken_out_of_the_file_is_found(store: SQLiteStore, path: Path, statement: str) -> None:
    for _ in range(4):
        note(store)
    tamper(path, statement)
    with pytest.raises(StoreProblem, match="broken at position 2"):
        verified(store)


@pytest.mark.parametrize("table", ["head", "events", "forgotten"])
def test_a_table_that_is_gone_is_a_problem_of_the_store(store: SQLiteStore, path: Path, table: str) -> None:
    note(store)
    tamper(path, f"DROP TABLE {table}")
    with pytest.raises(StoreProblem):
        burn_and_note(store)


def test_a_damaged_file_is_a_problem_of_the_store(store: SQLiteStore, path: Path) -> None:
    for _ in range(200):
        note(store, b'{"x":"%s"}' % (b"x" * 200), durable=False)
    store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    with pytest.raises(StoreProblem, match="damaged"):
        verified(SQLiteStore(path))


def test_a_closed_store_says_so(store: SQLiteStore) -> None:
    store.close()
    with pytest.raises(StoreProblem, match="closed"):
        note(store)


def test_nothing_is_written_to_a_file_that_is_no_longer_there(store: SQLiteStore, path: Path) -> None:
    note(store)
    path.rename(path.with_name("moved.db"))
    with pytest.raises(StoreProblem, match="no store at"):
        note(store)


def test_a_store_that_was_replaced_is_followed_and_the_old_file_left_alone(store: SQLiteStore, path: Path) -> None:
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


def test_threads_write_without_gaps(store: SQLiteStore) -> None:
    def write() -> None:
        for _ in range(25):
            note(store, durable=False)

    threads = [threading.Thread(target=write) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verified(store).position == 400


WRITER = f"""
import sys
from pathlib import Path
from capx.store.sqlite import SQLiteStore
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


def test_a_writer_killed_at_any_instant_loses_nothing_acknowledged_and_leaves_nothing_half_done(
    store: SQLiteStore, path: Path
) -> None:
    chance = random.Random(30)
    acknowledged = 0
    for _ in range(30):
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
    assert acknowledged > 30


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs a list of open files")
def test_no_connection_is_open_across_a_fork(store: SQLiteStore, path: Path) -> None:
    note(store)
    liveness = StoreLiveness(path)
    assert liveness.age() < 10
    assert any("capx.db" in name for name in open_files())
    assert in_a_child(lambda: not any("capx.db" in name for name in open_files()))
    liveness.close()


def test_a_forked_child_uses_connections_of_its_own(store: SQLiteStore) -> None:
    note(store)
    assert in_a_child(lambda: note(store) == 2)
    assert note(store) == 3
    assert verified(store).position == 3


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
def test_a_wal_deleted_under_an_open_connection_is_a_problem_of_the_store(
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


def test_a_death_written_beside_a_deleted_wal_is_read_or_knowledge_ages(path: Path) -> None:
    SQLiteStore.create(path).close()
    liveness = StoreLiveness(path, poll=0)
    assert liveness.age() < 10
    for suffix in ("-wal", "-shm"):
        path.with_name(f"capx.db{suffix}").unlink()
    process = writer(path, 1)
    go(process)
    process.communicate(timeout=30)
    assert liveness.age() < 10
    assert "task-1" in liveness.deaths
    liveness.close()


def test_knowledge_ages_while_this_process_holds_a_wal_that_was_deleted(store: SQLiteStore, path: Path) -> None:
    note(store)
    liveness = StoreLiveness(path, poll=0)
    assert liveness.age() < 10
    for suffix in ("-wal", "-shm"):
        path.with_name(f"capx.db{suffix}").unlink()
    before = liveness.age()
    time.sleep(0.02)
    assert liveness.age() >= before + 0.02
    assert "while it was in use" in str(liveness.problem)
    liveness.close()


@pytest.mark.parametrize("body", [b'{"x":"%s"}' % (b"x" * 60_000), b'{"x":%s%s}' % (b"[" * 3_000, b"]" * 3_000)])
def test_what_the_store_can_never_hold_is_told_from_what_it_cannot_hold_now(store: SQLiteStore, body: bytes) -> None:
    pool = store._pool  # pyright: ignore[reportPrivateUsage] # SQLite's limit of a gigabyte, made smaller
    with pool.connection() as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 50_000)
    with pytest.raises(Unwritable), store.write() as transaction:
        transaction.append("decision", body, at=NOW)
    assert note(store) == 1
