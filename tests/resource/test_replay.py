"""The memory of presentations."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from capx.errors import Unavailable
from capx.resource.replay import Replay
from capx.store.sqlite.store import SQLiteStore
from tests.labs.copies import copied, without_wal

NOW = 1_800_000_000


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["process", "store"])
def replay(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Replay]:
    if request.param == "process":
        yield Replay.process(clock=Clock(NOW - 1_000))
        return
    store = SQLiteStore.create(tmp_path / "capx.db")
    yield Replay.store(store)
    store.close()


def race(count: int, burn: Callable[[], bool]) -> list[bool]:
    results: list[bool] = []
    start = threading.Barrier(count)

    def one() -> None:
        start.wait()
        results.append(burn())

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_only_a_memory_on_disk_blocks(tmp_path: Path) -> None:
    store = SQLiteStore.create(tmp_path / "capx.db")
    assert Replay.store(store).blocking
    assert not Replay.process().blocking
    store.close()


def test_a_presentation_is_good_once(replay: Replay) -> None:
    assert replay.burn(b"a" * 16, NOW + 60, NOW) is True
    assert replay.burn(b"a" * 16, NOW + 60, NOW) is False
    assert replay.burn(b"b" * 16, NOW + 60, NOW) is True


def test_a_presentation_is_remembered_to_the_end_of_its_window(replay: Replay) -> None:
    assert replay.burn(b"a" * 16, NOW + 60, NOW) is True
    for number in range(60):
        replay.burn(number.to_bytes(16, "big"), NOW + 61 + number, NOW + 1 + number)
    assert replay.burn(b"a" * 16, NOW + 60, NOW + 60) is False


class Ponderous(set[bytes]):
    """A set that lets other threads go first after each look."""

    def __contains__(self, item: object) -> bool:
        found = super().__contains__(item)
        time.sleep(0.001)
        return found


def test_threads_that_look_at_the_same_instant_are_told_apart() -> None:
    replay = Replay.process(clock=Clock(NOW - 1_000))
    replay._seen = Ponderous()  # widens the instant between look and burn
    assert sum(race(20, lambda: replay.burn(b"r" * 16, NOW + 60, NOW))) == 1


def test_replay_raced_by_100_threads_is_won_by_exactly_one(replay: Replay) -> None:
    assert sorted(race(100, lambda: replay.burn(b"r" * 16, NOW + 60, NOW))) == [False] * 99 + [True]


BURNER = f"""
import sys
from pathlib import Path
from capx.resource.replay import Replay
from capx.store.sqlite.store import SQLiteStore
replay = Replay.store(SQLiteStore(Path(sys.argv[1])))
print("ready", flush=True)
sys.stdin.readline()
print(sum(replay.burn(n.to_bytes(16, "big"), {NOW + 60}, {NOW}) for n in range(100)))
"""


def test_replay_raced_by_processes_is_won_by_exactly_one(tmp_path: Path) -> None:
    SQLiteStore.create(tmp_path / "capx.db").close()
    command = [sys.executable, "-c", BURNER, str(tmp_path / "capx.db")]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    won = [int(racer.communicate(timeout=30)[0]) for racer in racers]
    assert sum(won) == 100


def test_a_store_remembers_across_a_restart(tmp_path: Path) -> None:
    first = SQLiteStore.create(tmp_path / "capx.db")
    assert Replay.store(first).burn(b"a" * 16, NOW + 60, NOW)
    first.close()
    second = SQLiteStore(tmp_path / "capx.db")
    assert not Replay.store(second).burn(b"a" * 16, NOW + 60, NOW)
    second.close()


def test_a_process_refuses_what_was_presented_before_it_was_up() -> None:
    replay = Replay.process(clock=Clock(NOW + 0.5))
    for made_at in (NOW - 30, NOW, NOW + 5):
        with pytest.raises(Unavailable, match="before this service started"):
            replay.burn(b"a" * 16, made_at + 60, NOW + 6)
    assert replay.burn(b"a" * 16, NOW + 6 + 60, NOW + 6)


def test_a_full_process_refuses_and_recovers_when_windows_pass() -> None:
    replay = Replay.process(capacity=2, clock=Clock(NOW - 1_000))
    assert replay.burn(b"a" * 16, NOW + 60, NOW)
    assert replay.burn(b"b" * 16, NOW + 60, NOW)
    with pytest.raises(Unavailable, match="no room"):
        replay.burn(b"c" * 16, NOW + 60, NOW)
    assert not replay.burn(b"a" * 16, NOW + 60, NOW)
    with pytest.raises(Unavailable):
        replay.burn(b"c" * 16, NOW + 120, NOW + 60)
    assert replay.burn(b"c" * 16, NOW + 121, NOW + 61)


def test_a_process_remembers_200_000_presentations() -> None:
    replay = Replay.process(clock=Clock(NOW - 1_000))
    assert all(replay.burn(number.to_bytes(16, "big"), NOW + 60, NOW) for number in range(200_000))
    with pytest.raises(Unavailable, match="no room"):
        replay.burn(b"c" * 16, NOW + 60, NOW)


def test_a_process_forgets_what_no_window_admits() -> None:
    replay = Replay.process(capacity=100, clock=Clock(NOW - 1_000))
    for number in range(10_000):
        assert replay.burn(number.to_bytes(16, "big"), NOW + number + 60, NOW + number)


def test_a_failing_store_is_no_answer_only_the_log_names_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SQLiteStore.create(tmp_path / "capx.db")
    replay = Replay.store(store)
    (tmp_path / "capx.db").unlink()
    with pytest.raises(Unavailable, match="cannot check for replay") as told:
        replay.burn(b"a" * 16, NOW + 60, NOW)
    store.close()
    assert str(tmp_path) not in str(told.value)
    assert f"there is no store at {tmp_path}" in caplog.text


def test_what_a_store_forgot_by_a_clock_ahead_stays_refused(tmp_path: Path) -> None:
    store = SQLiteStore.create(tmp_path / "capx.db")
    replay = Replay.store(store)
    assert replay.burn(b"a" * 16, NOW + 60, NOW)
    assert replay.burn(b"x" * 16, NOW + 10_060, NOW + 10_000)
    assert not replay.burn(b"a" * 16, NOW + 60, NOW + 1)
    assert not replay.burn(b"c" * 16, NOW + 76, NOW + 16)
    assert replay.burn(b"d" * 16, NOW + 77, NOW + 17), "and the store recovers within a window"
    store.close()


def test_one_made_five_seconds_ahead_is_refused_once_forgotten(tmp_path: Path) -> None:
    store = SQLiteStore.create(tmp_path / "capx.db")
    replay = Replay.store(store)
    assert replay.burn(b"a" * 16, NOW + 65, NOW)
    assert replay.burn(b"x" * 16, NOW + 1_060, NOW + 1_000)
    assert not replay.burn(b"a" * 16, NOW + 65, NOW)
    store.close()


def test_a_thread_after_its_window_was_forgotten_is_refused() -> None:
    replay = Replay.process(clock=Clock(NOW - 1_000))
    assert replay.burn(b"a" * 16, NOW + 60, NOW)
    assert replay.burn(b"b" * 16, NOW + 121, NOW + 61)
    with pytest.raises(Unavailable, match="forgotten"):
        replay.burn(b"a" * 16, NOW + 60, NOW + 60)
    assert replay.burn(b"c" * 16, NOW + 61, NOW + 61), "its window has not passed"


def test_what_a_process_forgot_by_a_clock_ahead_stays_refused() -> None:
    replay = Replay.process(clock=Clock(NOW - 1_000))
    assert replay.burn(b"a" * 16, NOW + 65, NOW)
    assert replay.burn(b"x" * 16, NOW + 10_060, NOW + 10_000)
    with pytest.raises(Unavailable, match="forgotten"):
        replay.burn(b"a" * 16, NOW + 65, NOW)
    assert replay.burn(b"c" * 16, NOW + 67 + 60, NOW + 67), "and the process recovers within a window"


class Swapped:
    """A store in use, and a copy of its file made before the last presentations."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "capx.db"
        self.store = SQLiteStore.create(self.path)
        self.replay = Replay.store(self.store)
        self.note()

    def note(self, body: bytes = b"{}") -> None:
        with self.store.write() as transaction:
            transaction.append("noted", body, at=NOW)

    def copy(self) -> Path:
        return copied(self.path, self.path.with_name("copy.db"))

    def put(self, copy: Path) -> None:
        copy.replace(self.path)
        without_wal(self.path)


@pytest.fixture
def swapped(tmp_path: Path) -> Iterator[Swapped]:
    made = Swapped(tmp_path)
    yield made
    made.store.close()


def test_a_copy_in_the_stores_place_makes_nothing_used_new(swapped: Swapped) -> None:
    copy = swapped.copy()
    assert swapped.replay.burn(b"a" * 16, NOW + 60, NOW)
    assert swapped.replay.burn(b"b" * 16, NOW + 60, NOW)
    swapped.put(copy)
    for presentation in (b"a" * 16, b"b" * 16, b"a" * 16):
        with pytest.raises(Unavailable, match="lost what was presented"):
            swapped.replay.burn(presentation, NOW + 60, NOW + 1)
    assert swapped.replay.burn(b"c" * 16, NOW + 17 + 60, NOW + 17), "what was made since is known"


def test_what_an_older_copy_may_have_burnt_is_refused(swapped: Swapped) -> None:
    copy = swapped.copy()
    assert swapped.replay.burn(b"a" * 16, NOW + 60, NOW)
    swapped.put(copy)
    for _ in range(3):
        with pytest.raises(Unavailable, match="lost what was presented"):
            swapped.replay.burn(b"a" * 16, NOW + 60, NOW)
        with pytest.raises(Unavailable, match="lost what was presented"):
            swapped.replay.burn(b"b" * 16, NOW + 75, NOW + 10)
    assert swapped.replay.burn(b"c" * 16, NOW + 76, NOW + 11)


def test_a_store_that_lost_presentations_is_trusted_again(swapped: Swapped) -> None:
    copy = swapped.copy()
    assert swapped.replay.burn(b"a" * 16, NOW + 60, NOW)
    swapped.put(copy)
    with pytest.raises(Unavailable, match="lost what was presented"):
        swapped.replay.burn(b"b" * 16, NOW + 60, NOW)
    assert swapped.replay.burn(b"c" * 16, NOW + 76, NOW + 11)


def test_an_empty_store_in_the_place_takes_nothing_of_before(swapped: Swapped) -> None:
    assert swapped.replay.burn(b"a" * 16, NOW + 60, NOW)
    SQLiteStore.create(swapped.path.with_name("empty.db")).close()
    swapped.put(swapped.path.with_name("empty.db"))
    with pytest.raises(Unavailable, match="lost what was presented"):
        swapped.replay.burn(b"a" * 16, NOW + 60, NOW)


def test_a_store_that_grows_between_burns_is_the_same(swapped: Swapped) -> None:
    for number in range(5):
        assert swapped.replay.burn(number.to_bytes(16, "big"), NOW + 60, NOW)
        swapped.note()


@pytest.fixture
def losing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Replay, Callable[[], None]]]:
    """The memory of a new store, and what brings its file back to before the first presentation."""
    path = tmp_path / "capx.db"
    SQLiteStore.create(path).close()
    copy = path.read_bytes()
    stores = [SQLiteStore(path)]
    replay = Replay.store(stores[0])

    def lose() -> None:
        stores.pop().close()
        path.write_bytes(copy)
        stores.append(SQLiteStore(path))
        monkeypatch.setattr(replay, "_store", stores[0])

    yield replay, lose
    stores.pop().close()


def test_an_old_presentation_is_refused_after_a_lost_burn(losing: tuple[Replay, Callable[[], None]]) -> None:
    replay, lose = losing
    assert replay.burn(b"lost".ljust(16), 1060, 1000)
    lose()
    with pytest.raises(Unavailable):
        replay.burn(b"lost".ljust(16), 1060, 1001)
    assert replay.burn(b"fresh".ljust(16), 1081, 1021)
    with pytest.raises(Unavailable):
        replay.burn(b"lost".ljust(16), 1060, 1012)


def test_the_witness_of_a_lost_burn_has_the_longest_window(losing: tuple[Replay, Callable[[], None]]) -> None:
    replay, lose = losing
    assert replay.burn(b"lost".ljust(16), 1060, 1000)
    assert replay.burn(b"old".ljust(16), 1002, 1001)
    lose()
    with pytest.raises(Unavailable):
        replay.burn(b"lost".ljust(16), 1060, 1030)
