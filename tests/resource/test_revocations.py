"""What a verifier knows about deaths."""

import math
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from capx.intents.epoch import authority_of, new_epoch
from capx.resource.revocations import PolledView, StoreLiveness, View
from capx.store.records import Head, News
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.revocation_key import of_instant, of_kid
from tests.labs.copies import copied, without_wal
from tests.labs.processes import in_a_child

NOW = 1_800_000_000
NODE = b"n" * 16


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


KID = "AAECAwQFBgc"


class Place:
    """A store, what follows it, and the clock by which it does."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "capx.db"
        self.store = SQLiteStore.create(self.path)
        self.clock = Clock()
        self.liveness = StoreLiveness(self.path, poll=1.0, clock=self.clock)

    def kill(self, key: bytes | str, reason: str = "revoked") -> None:
        with self.store.write() as transaction:
            event = transaction.append("died", msgspec.json.encode({"key": str(key)}), at=NOW)
            transaction.kill(key, reason, at=NOW, position=event.position)

    def later(self, seconds: float) -> float:
        self.clock.now += seconds
        return self.liveness.age()

    def snapshot(self, name: str) -> Path:
        return copied(self.path, self.path.with_name(name))

    def killed_since_a_copy(self) -> Path:
        """The store as it was before its last death; that death is known to whoever follows."""
        self.kill("task-1", "task_completed")
        older = self.snapshot("older.db")
        self.kill(NODE)
        self.later(0)
        return older

    def without_wal(self) -> None:
        without_wal(self.path)

    def close(self) -> None:
        self.liveness.close()
        self.store.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


def test_before_the_first_look_nothing_is_known(tmp_path: Path) -> None:
    liveness = StoreLiveness(tmp_path / "capx.db", poll=0)
    assert liveness.age() == math.inf
    assert "capx init" in str(liveness.problem)
    SQLiteStore.create(tmp_path / "capx.db").close()
    assert liveness.age() < 1
    assert liveness.problem is None
    liveness.close()


def test_deaths_are_known_by_their_reason_at_the_next_look(place: Place) -> None:
    assert place.later(0) == 0
    assert dict(place.liveness.deaths) == {}
    place.kill(NODE)
    place.kill("task-1", "task_completed")
    assert place.later(0.5) == 0.5
    assert dict(place.liveness.deaths) == {}
    assert place.later(0.5) == 0
    assert dict(place.liveness.deaths) == {NODE: "revoked", "task-1": "task_completed"}


def test_a_look_without_news_is_a_confirmation(place: Place) -> None:
    place.later(0)
    assert [place.later(1.0) for _ in range(5)] == [0] * 5


def test_what_died_before_the_question_is_known_without_a_poll(place: Place) -> None:
    liveness = StoreLiveness(place.path, poll=0)
    for number in range(50):
        place.kill(f"task-{number}", "task_completed")
        liveness.age()
        assert f"task-{number}" in liveness.deaths
    liveness.close()


def test_a_gone_store_lets_knowledge_age_until_it_is_back(place: Place) -> None:
    place.kill(NODE)
    place.later(0)
    away = place.path.with_name("away.db")
    place.path.rename(away)
    assert [place.later(10) for _ in range(4)] == [10, 20, 30, 40]
    assert "no store at" in str(place.liveness.problem)
    assert place.liveness.deaths[NODE] == "revoked"
    away.rename(place.path)
    assert place.later(1) == 0
    place.kill("task-1", "task_completed")
    assert place.later(1) == 0
    assert "task-1" in place.liveness.deaths


def test_an_unreadable_store_lets_knowledge_age_until_it_is(place: Place) -> None:
    place.later(0)
    content = place.path.read_bytes()
    place.store.close()
    place.without_wal()
    place.path.write_bytes(b"not a database at all" * 1000)
    assert [place.later(10), place.later(30)] == [10, 40]
    place.path.write_bytes(content)
    place.store = SQLiteStore(place.path)
    assert place.later(1) == 0


def test_a_locked_store_lets_knowledge_age_until_it_is_free(place: Place) -> None:
    place.store.close()
    holder = sqlite3.connect(place.path, isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    holder.execute("UPDATE forgotten SET until = 1")
    assert place.later(10) == math.inf
    assert "busy" in str(place.liveness.problem)
    holder.execute("COMMIT")
    holder.close()
    assert place.later(10) == 0


def test_an_older_copy_put_in_place_is_stale(place: Place) -> None:
    older = place.killed_since_a_copy()
    place.without_wal()
    older.rename(place.path)
    assert [place.later(10), place.later(30)] == [10, 40]
    assert "older copy" in str(place.liveness.problem)
    assert place.liveness.deaths[NODE] == "revoked"


def test_an_older_copy_written_over_the_file_is_stale(place: Place) -> None:
    older = place.killed_since_a_copy()
    place.store.close()
    place.without_wal()
    inode = place.path.stat().st_ino
    shutil.copyfile(older, place.path)
    assert place.path.stat().st_ino == inode
    assert [place.later(10), place.later(30)] == [10, 40]
    assert place.liveness.deaths[NODE] == "revoked"


def test_an_older_copy_that_went_on_differently_is_stale(place: Place) -> None:
    older = place.killed_since_a_copy()
    place.without_wal()
    older.rename(place.path)
    for number in range(5):
        place.kill(f"other-{number}", "task_completed")
    assert [place.later(10), place.later(30)] == [10, 40]
    assert "is not the one that was there before" in str(place.liveness.problem)


def test_another_store_in_the_same_place_is_stale(place: Place) -> None:
    place.kill(NODE)
    place.later(0)
    place.without_wal()
    place.path.unlink()
    SQLiteStore.create(place.path).close()
    for number in range(5):
        place.kill(f"other-{number}", "task_completed")
    assert [place.later(10), place.later(30)] == [10, 40]
    assert "another one" in str(place.liveness.problem)
    assert dict(place.liveness.deaths) == {NODE: "revoked"}


def forget(place: Place, before: int) -> None:
    with place.store.write() as transaction:
        transaction.forget(before)


def begin_epoch(place: Place, origin: str, now: int) -> None:
    with place.store.write() as transaction:
        transaction.begin_epoch(new_epoch(origin, now))


def origin(place: Place) -> str:
    with place.store.read() as reading:
        return authority_of(reading.head().epoch)


def test_what_the_store_forgets_a_follower_forgets_and_no_kid(place: Place) -> None:
    place.kill(of_kid(KID))
    place.kill("task-1", "task_completed")
    place.kill(of_instant(NOW - 5))
    place.later(0)
    forget(place, NOW + 1)
    place.kill("task-2", "task_completed")
    assert place.later(10) == 0
    assert dict(place.liveness.deaths) == {of_kid(KID): "revoked", "task-2": "task_completed"}
    forget(place, NOW + 1)
    place.kill(NODE)
    assert place.later(10) == 0
    assert dict(place.liveness.deaths) == {of_kid(KID): "revoked", NODE: "revoked"}
    assert place.liveness.revoked_until == NOW - 5


def test_who_follows_after_forgetting_knows_what_is_kept(place: Place) -> None:
    place.kill("task-1", "task_completed")
    place.kill(of_kid(KID))
    forget(place, NOW + 1)
    place.kill("task-2", "task_completed")
    assert place.later(0) == 0
    assert dict(place.liveness.deaths) == {of_kid(KID): "revoked", "task-2": "task_completed"}
    forget(place, NOW + 1)
    assert place.later(10) == 0
    assert dict(place.liveness.deaths) == {of_kid(KID): "revoked"}


def test_who_missed_what_was_forgotten_starts_over(place: Place) -> None:
    place.kill("task-1", "task_completed")
    place.later(0)
    place.kill("task-2", "task_completed")
    place.kill(of_kid(KID))
    forget(place, NOW + 1)
    place.kill("task-3", "task_completed")
    assert place.later(10) == 0
    assert dict(place.liveness.deaths) == {of_kid(KID): "revoked", "task-3": "task_completed"}


def test_a_key_that_was_forgotten_and_dies_again_is_dead(place: Place) -> None:
    place.kill("task-1", "task_completed")
    place.kill("task-2", "task_completed")
    place.later(0)
    forget(place, NOW + 1)
    place.kill("task-1", "task_withdrawn")
    place.later(10)
    assert dict(place.liveness.deaths) == {"task-1": "task_withdrawn"}


def test_a_later_epoch_of_the_store_is_read_anew(place: Place) -> None:
    older = place.killed_since_a_copy()
    place.without_wal()
    older.rename(place.path)
    begin_epoch(place, origin(place), NOW * 2)
    place.kill(of_instant(NOW))
    assert place.later(10) == 0
    assert dict(place.liveness.deaths) == {"task-1": "task_completed", of_instant(NOW): "revoked"}
    assert place.liveness.revoked_until == NOW


@pytest.mark.parametrize("began", [0, 1])
def test_an_epoch_that_ended_is_stale(place: Place, began: int) -> None:
    begin_epoch(place, origin(place), NOW * 2)
    place.kill(NODE)
    place.later(0)
    begin_epoch(place, origin(place), NOW * 2 - began if began else NOW)
    assert [place.later(10), place.later(30)] == [10, 40]
    assert "epoch that ended" in str(place.liveness.problem)
    assert place.liveness.deaths[NODE] == "revoked"


def test_a_later_epoch_of_another_store_is_stale(place: Place) -> None:
    place.kill(NODE)
    place.later(0)
    begin_epoch(place, "elsewhere", NOW * 2)
    assert [place.later(10), place.later(30)] == [10, 40]
    assert "another one" in str(place.liveness.problem)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE head SET deaths = 1, position = 1",
        "UPDATE head SET hash = zeroblob(32), position = position - 1",
        "UPDATE head SET epoch = 'other'",
        "UPDATE events SET hash = zeroblob(32) WHERE position = 2",
        "DELETE FROM events WHERE position = 2",
        "DELETE FROM head",
    ],
)
def test_a_head_rolled_back_or_edited_is_stale(place: Place, statement: str) -> None:
    place.kill("task-1", "task_completed")
    place.kill(NODE)
    assert place.later(0) == 0
    connection = sqlite3.connect(place.path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    assert [place.later(10), place.later(30)] == [10, 40]
    assert place.liveness.problem is not None


def test_a_death_taken_out_before_it_was_read_is_stale(place: Place) -> None:
    place.kill("task-1", "task_completed")
    place.later(0)
    place.kill(NODE)
    place.kill("task-2", "task_completed")
    connection = sqlite3.connect(place.path)
    connection.execute("DELETE FROM deaths WHERE seq = 2")
    connection.commit()
    connection.close()
    assert [place.later(10), place.later(30)] == [10, 40]
    assert "holds 1" in str(place.liveness.problem)


class Slow:
    """A source whose looks take until they are let go."""

    def __init__(self) -> None:
        self.looks = 0
        self.go = threading.Event()
        self.first_waits = False

    def news(self, known: Head | None) -> News:
        self.looks += 1
        if known is not None or self.first_waits:
            self.go.wait(10)
        return News(Head("epoch", 0, bytes(32), 0), {})

    def close(self) -> None:
        self.go.set()


def test_a_thread_beside_another_look_goes_on_with_what_is_known() -> None:
    source, clock = Slow(), Clock()
    liveness = StoreLiveness(source, poll=1.0, clock=clock)
    liveness.age()
    clock.now += 2
    slow = threading.Thread(target=liveness.age)
    slow.start()
    while source.looks < 2:
        time.sleep(0.001)
    assert liveness.age() == 2
    assert source.looks == 2
    liveness_closed_by = threading.Thread(target=source.close)
    liveness_closed_by.start()
    slow.join()
    liveness_closed_by.join()
    assert liveness.age() == 0


def test_many_threads_that_come_first_wait_for_the_first_look(tmp_path: Path) -> None:
    SQLiteStore.create(tmp_path / "capx.db").close()
    liveness = StoreLiveness(tmp_path / "capx.db")
    ages: list[float] = []
    threads = [threading.Thread(target=lambda: ages.append(liveness.age())) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ages) == 50
    assert max(ages) < 10
    liveness.close()


def test_a_thread_that_comes_during_the_first_look_waits_for_it() -> None:
    source = Slow()
    source.go.clear()
    source.first_waits = True
    liveness = StoreLiveness(source)
    ages: list[float] = []
    threads = [threading.Thread(target=lambda: ages.append(liveness.age())) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    assert ages == []
    source.go.set()
    for thread in threads:
        thread.join()
    assert max(ages) < 10


def test_knowledge_is_as_old_as_the_beginning_of_the_look() -> None:
    clock = Clock()

    class Takes3Seconds(Slow):
        def news(self, known: Head | None) -> News:
            clock.now += 3
            return super().news(None)

    assert StoreLiveness(Takes3Seconds(), clock=clock).age() == 3


def test_a_forked_child_looks_through_a_connection_of_its_own(place: Place) -> None:
    liveness = StoreLiveness(place.path, poll=0)
    liveness.age()
    place.kill(NODE)
    assert in_a_child(lambda: liveness.age() < 10 and NODE in liveness.deaths)
    liveness.age()
    assert NODE in liveness.deaths
    liveness.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_looks_though_a_thread_of_its_parent_was_looking() -> None:
    began, over = threading.Event(), threading.Event()

    class Held(Slow):
        def news(self, known: Head | None) -> News:
            began.set()
            assert over.wait(20)
            return super().news(None)

    liveness = StoreLiveness(Held())
    looking = threading.Thread(target=liveness.age)
    looking.start()
    assert began.wait(5)

    def looks() -> bool:
        over.set()
        return liveness.age() < 10

    assert in_a_child(looks)
    over.set()
    looking.join()


def test_a_child_forked_amid_learning_forgets_nothing_twice() -> None:
    verdicts: list[bool] = []

    class ForkedAmid(dict[bytes | str, str]):
        """Deaths that fork a child each time that they are read."""

        def keys(self) -> Any:
            verdicts.append(in_a_child(knows_all))
            return super().keys()

        def __iter__(self) -> Iterator[bytes | str]:
            return iter(self.keys())

    class Source(Slow):
        deaths: dict[bytes | str, str] = ForkedAmid({"task-4": "revoked"})

        def news(self, known: Head | None) -> News:
            if known is None:
                return News(Head("epoch", 3, bytes(32), 3), dict.fromkeys(("task-1", "task-2", "task-3"), "revoked"))
            return News(Head("epoch", 4, bytes(32), 4, forgotten=1), self.deaths)

    liveness = StoreLiveness(source := Source(), poll=0)

    def knows_all() -> bool:
        source.deaths = {"task-4": "revoked"}
        return liveness.age() < 10 and set(liveness.deaths) == {"task-2", "task-3", "task-4"}

    liveness.age()
    liveness.age()
    assert verdicts == [True, True]
    assert set(liveness.deaths) == {"task-2", "task-3", "task-4"}


FOLLOWER = """
import sys, time
from capx.resource.revocations import PolledView, StoreLiveness, View
liveness = StoreLiveness(sys.argv[1])
for number in range(int(sys.argv[2])):
    liveness.age()
    print("ready", flush=True)
    while f"task-{number}" not in liveness.deaths:
        assert liveness.age() < 30
        time.sleep(0.001)
    print(time.time_ns(), flush=True)
"""


def test_a_death_is_known_in_another_process_within_50_ms(place: Place) -> None:
    follower = subprocess.Popen(
        [sys.executable, "-c", FOLLOWER, str(place.path), "20"], stdout=subprocess.PIPE, text=True
    )
    assert follower.stdout is not None
    delays: list[float] = []
    for number in range(20):
        assert follower.stdout.readline() == "ready\n"
        place.kill(f"task-{number}", "task_completed")
        durable = time.time_ns()
        delays.append((int(follower.stdout.readline()) - durable) / 1e6)
    follower.stdout.close()
    assert follower.wait(10) == 0
    assert sorted(delays)[len(delays) // 2] < 50


# One view


def head(deaths: int = 0, forgotten: int = 0, epoch: str = "epoch") -> Head:
    """A head of one store."""
    return Head(epoch, 0, bytes(32), deaths, forgotten)


def news(known: Head, *keys: str, anew: bool = False, lasting: int = 0) -> News:
    """News of deaths that came before a head."""
    return News(known, dict.fromkeys(keys, "revoked"), anew=anew, lasting=lasting)


def test_a_view_learns_what_it_did_not_know() -> None:
    view = View()
    view.learn(news(head(2), "a", "b"))
    view.learn(news(head(3), "c"))
    assert (list(view.deaths), view.head) == (["a", "b", "c"], head(3))


def test_a_view_that_is_told_anew_knows_that_alone() -> None:
    view = View()
    view.learn(news(head(1), "a"))
    view.learn(news(head(1), "b", anew=True))
    assert list(view.deaths) == ["b"]


def test_a_view_forgets_the_oldest_that_were_forgotten() -> None:
    view = View()
    view.learn(news(head(4, 1), "b", "c", "d"))
    view.learn(news(head(5, 3), "e"))
    assert list(view.deaths) == ["d", "e"]


def test_a_view_keeps_what_lasts_in_front_of_what_it_forgets() -> None:
    view = View()
    view.learn(news(head(4, 2), of_kid("k1"), "c", "d", lasting=1))
    view.learn(news(head(6, 3), of_kid("k2"), "f"))
    assert list(view.deaths) == [of_kid("k1"), "d", of_kid("k2"), "f"]
    view.learn(news(head(7, 5), "g"))
    assert list(view.deaths) == [of_kid("k1"), of_kid("k2"), "f", "g"]
    view.learn(news(head(7, 6)))
    assert list(view.deaths) == [of_kid("k1"), of_kid("k2"), "g"]


def test_a_view_that_forgets_nothing_disturbs_nobody() -> None:
    view = View()
    view.learn(news(head(1), "a"))
    before = view.deaths
    view.learn(news(head(2), "b"))
    assert view.deaths is before


def test_a_view_that_forgets_leaves_the_old_one_to_its_readers() -> None:
    view = View()
    view.learn(news(head(2), "a", "b"))
    before = view.deaths
    view.learn(news(head(2, 1)))
    assert (list(before), list(view.deaths)) == (["a", "b"], ["b"])


def test_an_instant_of_revocation_outlives_its_entry() -> None:
    view = View()
    assert view.revoked_until == -1
    view.learn(news(head(1), of_instant(50)))
    view.learn(news(head(1), anew=True))
    view.learn(news(head(2), of_instant(40)))
    assert view.revoked_until == 50


def test_nothing_is_looked_up_before_the_poll_is_over() -> None:
    source, clock = Slow(), Clock()
    source.go.set()
    liveness = StoreLiveness(source, poll=1.0, clock=clock)
    for later, looks in ((0, 1), (0.9, 1), (0.1, 2), (0, 2)):
        clock.now += later
        liveness.age()
        assert source.looks == looks


def test_a_view_polls_50_times_a_second_by_itself() -> None:
    source, clock = Slow(), Clock()
    source.go.set()
    clock.now = 0.0
    liveness = StoreLiveness(source, clock=clock)
    for now, looks in ((0.0, 1), (0.01, 1), (0.021, 2)):
        clock.now = now
        liveness.age()
        assert source.looks == looks


def test_knowledge_from_the_future_is_as_young_as_new() -> None:
    source, clock = Slow(), Clock()
    liveness = StoreLiveness(source, poll=1.0, clock=clock)
    liveness.age()
    clock.now -= 5
    assert liveness.age() == 0


def test_a_closed_view_closes_its_source() -> None:
    source = Slow()
    StoreLiveness(source).close()
    assert source.go.is_set()


def test_a_place_may_be_named_by_a_text(place: Place) -> None:
    liveness = StoreLiveness(str(place.path), poll=0)
    place.kill(NODE)
    assert liveness.age() < 10
    assert liveness.deaths == {NODE: "revoked"}
    liveness.close()


def test_before_the_first_look_there_is_no_problem() -> None:
    assert StoreLiveness(Slow()).problem is None


class Looking(PolledView):
    """Knows something after its first look; each later one takes until `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.looks, self.go = 0, threading.Event()

    def _look(self) -> None:
        self.looks += 1
        if self.looks == 1:
            self._view.learn(news(head()))
        else:
            self.go.wait(10)


def test_a_thread_waits_for_no_look_unless_it_is_told_to() -> None:
    looking = Looking()
    looking._look_once()  # the only look that does not wait
    other = threading.Thread(target=looking._look_once)
    other.start()
    while looking.looks < 2:
        time.sleep(0.001)
    looking._look_once()
    assert looking.looks == 2
    looking.go.set()
    other.join()


def test_without_a_poll_a_look_that_goes_on_is_not_good_enough() -> None:
    source = Slow()
    liveness = StoreLiveness(source, poll=0, clock=Clock())
    liveness.age()
    other = threading.Thread(target=liveness.age)
    other.start()
    while source.looks < 2:
        time.sleep(0.001)
    ending = threading.Timer(0.2, source.go.set)
    ending.start()
    liveness.age()
    assert source.looks == 3
    ending.join()
    other.join()


def test_a_key_that_dies_anew_is_dead_in_every_view() -> None:
    class Watched(View):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "deaths":
                seen.append(dict(value))
            super().__setattr__(name, value)

    seen = list[dict[bytes | str, str]]()
    key, epoch = b"k" * 16, new_epoch("A" * 22, 0)
    view = Watched()
    view.learn(News(Head(epoch, 1, b"", 1), {key: "revoked"}, anew=True))
    view.learn(News(Head(epoch, 2, b"", 2, 1), {key: "revoked"}))
    assert view.deaths == {key: "revoked"}
    assert all(key in one for one in seen[1:])
