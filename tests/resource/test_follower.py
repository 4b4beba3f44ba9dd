"""A view of deaths that follows a source: when it asks, how old it is, what it tells."""

import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from msgspec.structs import replace

from capx.resource.feed.follower import Follower
from capx.resource.feed.page import FeedCursor
from capx.store.records import Head, News
from tests.labs.feeding import Feed, Polled, node
from tests.labs.following import IN_A_CHILD, Line, ShiftedClock, threads
from tests.labs.waiting import eventually

# The view


def test_the_first_question_knows_what_died_before_it(feed: Feed, follower: Follower) -> None:
    feed.kill(node(1), "issued:1700000000")
    assert follower.age() < 1
    assert follower.deaths[node(1)] == "revoked"
    assert follower.revoked_until == 1_700_000_000
    assert follower.problem is None


def test_what_dies_is_known_without_a_question(feed: Feed, follower: Follower) -> None:
    follower.start()
    feed.kill("task-1", reason="task_completed")
    assert eventually(lambda: "task-1" in follower.deaths)


def test_no_thread_runs_before_the_first_question(feed: Feed) -> None:
    before = len(threads())
    with closing(Follower(Polled(feed))) as follower:
        assert not follower.deaths
        assert len(threads()) == before
        follower.age()
        assert len(threads()) == before + 1
    assert len(threads()) == before


def test_a_hundred_first_questions_start_one_thread(feed: Feed) -> None:
    source = Polled(feed)
    feed.kill(node(1))
    with closing(Follower(source)) as follower:
        ages: list[float] = []
        together = threading.Barrier(100)

        def ask() -> None:
            together.wait()
            ages.append(follower.age())

        askers = [threading.Thread(target=ask) for _ in range(100)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        assert max(ages) < 1
        assert source.streams == 1


class Silent:
    """Tells nothing, until it is closed."""

    def __init__(self) -> None:
        self.end = threading.Event()

    def stream(self, known: Callable[[], Head | None]) -> Iterator[News]:
        while not self.end.wait(1):
            yield from ()

    def close(self) -> None:
        self.end.set()


def test_only_the_first_questions_wait_and_not_for_long() -> None:
    with closing(Follower(Silent(), patience=0.2)) as follower:
        began = time.monotonic()
        assert follower.age() == math.inf
        first = time.monotonic() - began
        assert 0.2 <= first < 2
        began = time.monotonic()
        assert [follower.age() for _ in range(100)] == [math.inf] * 100
        assert time.monotonic() - began < 0.2


def test_a_gone_store_lets_knowledge_age_until_it_is_back(feed: Feed, follower: Follower) -> None:
    feed.kill(node(1))
    assert follower.age() < 1
    path = Path(feed.store.place)
    away = path.with_name("away.db")
    path.rename(away)
    assert eventually(lambda: follower.problem is not None)
    assert "no store at" in str(follower.problem)
    aged = follower.age()
    assert eventually(lambda: follower.age() > aged + 0.1)
    assert follower.deaths[node(1)] == "revoked"
    away.rename(path)
    assert eventually(lambda: follower.problem is None)
    assert follower.age() < 1


class Failing:
    """Fails, again and again."""

    def __init__(self, *news: News) -> None:
        self.news = news
        self.at: list[float] = []

    def stream(self, known: Callable[[], Head | None]) -> Iterator[News]:
        self.at.append(time.monotonic())
        yield from self.news
        raise ZeroDivisionError("not foreseen")

    def close(self) -> None:
        pass


def test_whatever_fails_is_tried_again_after_pauses_that_grow() -> None:
    source = Failing()
    with closing(Follower(source, patience=0)) as follower:
        follower.start()
        assert eventually(lambda: len(source.at) >= 5)
        assert "ZeroDivisionError: not foreseen" in str(follower.problem)
        assert follower.age() == math.inf
    pauses = [later - earlier for earlier, later in zip(source.at, source.at[1:], strict=False)]
    for pause, least in zip(pauses, (0.05, 0.1, 0.2, 0.4), strict=False):
        assert pause >= least


def test_a_source_that_ends_after_its_first_news_is_not_rushed() -> None:
    source = Failing(News(Head("x.1", 0, bytes(32), 0), {}))
    with closing(Follower(source)) as follower:
        follower.start()
        assert eventually(lambda: len(source.at) >= 4)
    assert source.at[3] - source.at[0] >= 0.35


def test_a_follower_that_is_closed_ends_its_thread_for_good(feed: Feed) -> None:
    before = len(threads())
    follower = Follower(Polled(feed))
    feed.kill(node(1))
    follower.age()
    began = time.monotonic()
    follower.close()
    assert time.monotonic() - began < 1
    assert len(threads()) == before
    follower.close()
    aged = follower.age()
    assert eventually(lambda: follower.age() > aged)
    assert len(threads()) == before
    assert follower.deaths[node(1)] == "revoked"


def test_a_follower_that_was_closed_unasked_never_begins(feed: Feed) -> None:
    follower = Follower(Polled(feed))
    follower.close()
    assert follower.age() == math.inf
    assert not threads()


def test_news_that_do_not_come_for_whatever_reason_are_a_problem() -> None:
    clock = ShiftedClock(time.monotonic)
    with closing(Follower(Silent(), patience=0, clock=clock)) as follower:
        clock.by = 20
        assert follower.problem is None
        follower.start()
        assert follower.problem is None
        clock.by = 40
        assert "no news came for 20 seconds" in str(follower.problem)
    assert follower.problem is None


# How old knowledge is


def test_a_machine_that_slept_has_old_knowledge_by_wall_clock(feed: Feed) -> None:
    wall, source = ShiftedClock(time.time), Polled(feed)
    with closing(Follower(source, wall=wall)) as follower:
        assert follower.age() < 1
        source.close()
        wall.by = 600
        assert follower.age() >= 600


def test_a_wall_clock_that_is_set_back_makes_nothing_younger(feed: Feed) -> None:
    wall, clock, source = ShiftedClock(time.time), ShiftedClock(time.monotonic), Polled(feed)
    with closing(Follower(source, wall=wall, clock=clock)) as follower:
        assert follower.age() < 1
        source.close()
        wall.by, clock.by = -3600, 100
        assert follower.age() >= 100


class Slow:
    """Looks, and tells what it saw when it is let go."""

    def __init__(self, feed: Feed) -> None:
        self.source = feed.store.source()
        self.saw, self.go, self.end = threading.Event(), threading.Event(), threading.Event()

    def stream(self, known: Callable[[], Head | None]) -> Iterator[News]:
        news = self.source.news(known())
        self.saw.set()
        self.go.wait()
        yield news
        self.end.wait()

    def close(self) -> None:
        self.go.set()
        self.end.set()
        self.source.close()


def test_what_a_store_says_is_as_old_as_the_look_at_it(feed: Feed) -> None:
    clock, wall, source = ShiftedClock(time.monotonic), ShiftedClock(time.time), Slow(feed)
    with closing(Follower(source, clock=clock, wall=wall)) as follower:
        follower.start()
        assert source.saw.wait(10)
        clock.by = 40
        source.go.set()
        assert eventually(lambda: follower.age() < math.inf)
        assert 40 <= follower.age() < 45
        wall.by = 50
        assert 50 <= follower.age() < 55


class Confirmed(Polled):
    """A store whose server has confirmed a write so many seconds ago."""

    age = math.inf

    def stream(self, known: Callable[[], Head | None]) -> Iterator[News]:
        for news in super().stream(known):
            yield replace(news, confirmation_age=lambda: self.age)


def test_what_a_store_says_is_as_old_as_what_it_confirmed(feed: Feed) -> None:
    clock, source = ShiftedClock(time.monotonic), Confirmed(feed)
    with closing(Follower(source, clock=clock)) as follower:
        assert follower.age() == math.inf
        assert eventually(lambda: follower.authority is not None)
        assert follower.age() == math.inf
        # A process that has just begun has not had the time for a write.
        assert follower.problem is None
        clock.by = 6
        assert "confirmed no write of this process for 6 seconds" in str(follower.problem)
        source.age = 4
        assert eventually(lambda: 4 <= follower.age() < 5)
        assert follower.problem is None
        # The news come, and say nothing.
        clock.by, source.age = 60, 40
        assert eventually(lambda: 40 <= follower.age() < 41)
        assert "confirmed no write of this process for 40 seconds" in str(follower.problem)


# Sightings


def test_what_is_known_is_told_on_change_and_every_ten_seconds(feed: Feed) -> None:
    told: list[int] = []
    clock = ShiftedClock(time.monotonic)
    with closing(Follower(Polled(feed), sighted=told.append, clock=clock)) as follower:
        follower.age()
        assert eventually(lambda: told == [0])
        feed.kill(node(1), node(2))
        assert eventually(lambda: told == [0, 2])
        feed.note()
        position = feed.head().position
        assert eventually(lambda: follower.age() < 1 and position == 3)
        assert told == [0, 2]
        clock.by = 10
        assert eventually(lambda: told == [0, 2, 2])


def test_a_sighting_that_fails_is_noted_and_told_again_later(feed: Feed) -> None:
    calls: list[int] = []
    clock = ShiftedClock(time.monotonic)

    def sighted(deaths: int) -> None:
        calls.append(deaths)
        if len(calls) == 1:
            raise OSError("no answer")

    with closing(Follower(Polled(feed), sighted=sighted, clock=clock)) as follower:
        assert follower.age() < 1
        assert eventually(lambda: follower.sighting_problem is not None)
        assert str(follower.sighting_problem) == "no answer"
        feed.kill(node(1))
        assert eventually(lambda: node(1) in follower.deaths)
        clock.by = 1
        assert eventually(lambda: calls == [0, 1])
        assert eventually(lambda: follower.sighting_problem is None)
        assert follower.problem is None


def test_a_sighting_that_hangs_delays_no_news(feed: Feed) -> None:
    calls: list[int] = []
    go, clock = threading.Event(), ShiftedClock(time.monotonic)

    def sighted(deaths: int) -> None:
        calls.append(deaths)
        go.wait()

    with closing(Follower(Polled(feed), sighted=sighted, clock=clock)) as follower:
        follower.start()
        assert eventually(lambda: calls == [0])
        clock.by = 20
        feed.kill(node(1))
        assert eventually(lambda: node(1) in follower.deaths)
        assert eventually(lambda: follower.age() < 1)
        # No second one begins beside it.
        assert calls == [0]
        go.set()
        assert eventually(lambda: calls == [0, 1])


def test_at_the_end_a_sighting_under_way_is_waited_for(feed: Feed) -> None:
    began, told = threading.Event(), list[int]()

    def sighted(deaths: int) -> None:
        began.set()
        time.sleep(0.2)
        told.append(deaths)

    with closing(Follower(Polled(feed), sighted=sighted)) as follower:
        follower.start()
        assert began.wait(10)
    assert told == [0]


FORKED = f"""
{IN_A_CHILD}
source = FeedSource(sys.argv[1], KEYS)
follower = Follower(source)
assert follower.age() < 1
known = len(follower.deaths)
assert in_a_child(lambda: follower.age() < 1, lambda: len(follower.deaths) == known, lambda: not follower.close())
assert in_a_child(lambda: not source.close())
print("forked", flush=True)
sys.stdin.readline()
assert eventually(lambda: len(follower.deaths) == known + 1)
assert follower.problem is None
closed = Follower(FeedSource(sys.argv[1], KEYS))
closed.close()
assert in_a_child(lambda: closed.age() == math.inf, lambda: threading.active_count() == 1)
print("followed", flush=True)
"""


def test_a_forked_child_follows_by_itself_and_its_parent_goes_on(line: Line, checkout: Path) -> None:
    line.feed.kill(node(1))
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, line.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=checkout) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "forked\n"
        assert line.app.connected == 2
        line.feed.kill(node(2))
        process.stdin.write("\n")
        process.stdin.flush()
        # It ends with its follower open: that holds up no exit.
        assert process.stdout.read() == "followed\n"
    assert process.returncode == 0
    assert line.app.connected == 2


def test_what_is_asked_of_a_source_says_where_its_follower_is(line: Line) -> None:
    line.feed.kill(node(1))
    news = next(line.source.stream(lambda: None))
    line.feed.kill(node(2))
    more = next(line.source.stream(lambda: news.head))
    assert (news.anew, more.anew) == (True, False)
    assert more.deaths == {node(2): "revoked"}
    assert FeedCursor.read(line.app.asked[-1][0]) == FeedCursor.of(news.head)
