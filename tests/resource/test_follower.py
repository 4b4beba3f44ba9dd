"""A view of deaths that is told what died: by a store, and by an authority over HTTP."""

import itertools
import math
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from capx.errors import ConfigurationProblem, KeyProblem, StoreProblem
from capx.resource.feed.client import FeedSource
from capx.resource.feed.follower import Follower
from capx.resource.feed.page import FeedCursor, PageProblem
from capx.store.records import Head, News
from tests.labs.feeding import KEYS, OTHER, Feed, Polled, Served, event, eventually, node
from tests.labs.serving import served


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Feed]:
    made = Feed(tmp_path / "capx.db")
    yield made
    made.close()


@pytest.fixture
def follower(feed: Feed) -> Iterator[Follower]:
    with closing(Follower(Polled(feed))) as made:
        yield made


class Moved:
    """A clock that can be set."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.by = 0.0

    def __call__(self) -> float:
        return self._clock() + self.by


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(("capx-follower", "capx-watchdog"))]


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


def test_a_store_that_is_gone_lets_knowledge_age_until_it_is_back(feed: Feed, follower: Follower) -> None:
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


def test_a_source_that_ends_after_its_first_news_is_not_asked_in_a_rush() -> None:
    source = Failing(News(Head("x.1", 0, bytes(32), 0), {}))
    with closing(Follower(source)) as follower:
        follower.start()
        assert eventually(lambda: len(source.at) >= 4)
    assert source.at[3] - source.at[0] >= 0.35


def test_a_follower_that_is_closed_ends_its_thread_at_once_and_for_good(feed: Feed) -> None:
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
    clock = Moved(time.monotonic)
    with closing(Follower(Silent(), patience=0, clock=clock)) as follower:
        clock.by = 20
        assert follower.problem is None
        follower.start()
        assert follower.problem is None
        clock.by = 40
        assert "no news came for 20 seconds" in str(follower.problem)
    assert follower.problem is None


# How old knowledge is


def test_a_machine_that_slept_has_old_knowledge_by_the_clock_on_the_wall(feed: Feed) -> None:
    wall, source = Moved(time.time), Polled(feed)
    with closing(Follower(source, wall=wall)) as follower:
        assert follower.age() < 1
        source.close()
        wall.by = 600
        assert follower.age() >= 600


def test_a_clock_on_the_wall_that_is_set_back_makes_nothing_younger(feed: Feed) -> None:
    wall, clock, source = Moved(time.time), Moved(time.monotonic), Polled(feed)
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
    clock, wall, source = Moved(time.monotonic), Moved(time.time), Slow(feed)
    with closing(Follower(source, clock=clock, wall=wall)) as follower:
        follower.start()
        assert source.saw.wait(10)
        clock.by = 40
        source.go.set()
        assert eventually(lambda: follower.age() < math.inf)
        assert 40 <= follower.age() < 45
        wall.by = 50
        assert 50 <= follower.age() < 55


# Sightings


def test_what_is_known_is_told_when_it_changed_and_every_ten_seconds(feed: Feed) -> None:
    told: list[int] = []
    clock = Moved(time.monotonic)
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
    clock = Moved(time.monotonic)

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


# Over HTTP


class Line:
    """A feed that is served, and whoever follows it."""

    def __init__(self, feed: Feed, url: str, app: Served) -> None:
        self.feed, self.url, self.app = feed, url, app
        self.source = FeedSource(url, KEYS)
        self.follower = Follower(self.source)


@pytest.fixture
def line(feed: Feed) -> Iterator[Line]:
    app = Served(feed)
    with served(app) as url:
        made = Line(feed, url, app)
        yield made
        made.follower.close()
        app.cut.set()


def test_deaths_are_heard_over_http(line: Line) -> None:
    line.feed.kill(node(1))
    assert line.follower.age() < 1
    assert line.follower.deaths[node(1)] == "revoked"
    line.feed.kill("task-1", reason="task_completed")
    assert eventually(lambda: "task-1" in line.follower.deaths)
    assert line.app.connected == 1
    assert line.follower.problem is None


def test_a_heartbeat_keeps_knowledge_young(line: Line) -> None:
    line.follower.age()
    ends = time.monotonic() + 2.5
    while time.monotonic() < ends:
        assert line.follower.age() < 1.5
        time.sleep(0.02)
    assert line.app.connected == 1


def test_many_pages_are_heard_as_one(line: Line) -> None:
    line.feed.kill(*(f"task-{number}" for number in range(20_001)))
    line.follower.start()
    assert eventually(lambda: len(line.follower.deaths) == 20_001)
    assert line.app.connected == 1


def test_a_connection_that_is_cut_is_made_again_and_asks_for_what_is_new(line: Line) -> None:
    line.feed.kill(node(1))
    line.follower.age()
    head = line.feed.head()
    line.app.cut.set()
    assert eventually(lambda: "503" in str(line.follower.problem))
    assert line.follower.deaths[node(1)] == "revoked"
    line.feed.kill(node(2))
    line.app.cut.clear()
    assert eventually(lambda: node(2) in line.follower.deaths)
    assert line.follower.age() < 1
    assert line.app.asked[0][0] == {"since": "0", "position": "0"}
    assert line.app.asked[-1][0] == {"since": "1", "position": "1", "epoch": head.epoch}


def test_a_later_epoch_is_followed_over_one_connection(line: Line) -> None:
    line.feed.kill(node(1))
    line.follower.age()
    line.feed.begin_epoch(9_000_000_000)
    line.feed.kill(node(2))
    assert eventually(lambda: node(2) in line.follower.deaths)
    assert node(1) in line.follower.deaths
    assert line.app.connected == 1


def test_a_store_that_went_back_behind_its_follower_ages_until_it_has_caught_up(line: Line, tmp_path: Path) -> None:
    line.feed.kill(node(1))
    copy = line.feed.copied(tmp_path / "copy.db")
    line.feed.kill(node(2))
    line.follower.age()
    whole, line.app.feed = line.app.feed, copy
    assert eventually(lambda: "went back" in str(line.follower.problem))
    assert set(line.follower.deaths) == {node(1), node(2)}
    line.app.feed = whole
    assert eventually(lambda: line.follower.problem is None)
    copy.close()


def test_an_authority_whose_clock_is_behind_tells_old_news(line: Line) -> None:
    line.app.clock = lambda: time.time() - 100
    # A page says when it was written to the millisecond.
    assert 99.9 < line.follower.age() < 110
    assert "was said 100 seconds ago" in str(line.follower.problem)


def test_an_authority_whose_clock_is_ahead_is_refused(line: Line) -> None:
    line.app.clock = lambda: time.time() + 100
    assert line.follower.age() == math.inf
    assert "set the clock" in str(line.follower.problem)
    line.app.clock = time.time
    assert eventually(lambda: line.follower.age() < 1)


def test_a_heartbeat_sent_again_and_again_confirms_nothing(line: Line) -> None:
    replayed = event(line.feed.page(now=time.time()).text)
    line.app.before, line.app.only = lambda: replayed, True
    line.follower.age()
    assert eventually(lambda: line.follower.age() > 1)
    assert "old answer" in str(line.follower.problem)


def test_pages_that_are_forged_are_not_believed(line: Line) -> None:
    line.feed.kill(node(1))
    line.feed.signer = OTHER.feed_signer()
    with closing(Follower(FeedSource(line.url, {kid: KEYS[kid] for kid in KEYS if kid != OTHER.kid}))) as follower:
        assert follower.age() == math.inf
        assert isinstance(follower.problem, PageProblem)


def test_a_connection_over_which_nothing_comes_is_broken(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capx.resource.feed.stream.SILENCE", 0.3)
    line.app.mute.set()
    line.follower.start()
    assert eventually(lambda: line.app.connected >= 3)
    assert line.follower.problem is not None
    line.app.mute.clear()
    assert eventually(lambda: line.follower.age() < 1)


def test_a_connection_over_which_anything_but_pages_comes_is_broken(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capx.resource.feed.stream.SILENCE", 0.3)
    line.app.before, line.app.only = lambda: b": still here\n\nevent: x\nretry: 5\n\n", True
    line.follower.start()
    assert eventually(lambda: "no page came" in str(line.follower.problem))
    assert eventually(lambda: line.app.connected >= 2)


@pytest.fixture
def certified(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate with its key, and whoever believes it."""
    issuer, certificate = trustme.CA(), tmp_path / "certificate.pem"
    issuer.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    return certificate, ssl.create_default_context(cadata=issuer.cert_pem.bytes().decode())


class Spoofed:
    """Answers for an authority, and holds whoever asks; passes all on to the true one once it is `over`."""

    def __init__(self, authority: str, start: bytes, drip: bytes, tls: ssl.SSLContext | None = None) -> None:
        self._authority = "127.0.0.1", int(authority.rpartition(":")[2])
        self._start, self._drip, self._tls = start, drip, tls
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []
        self.over = threading.Event()
        self.held = 0
        self.left = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self._listening.getsockname()[1]}"
        self._run(self._listen)

    def close(self) -> None:
        self._end.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listening.close()

    def _run(self, what: Callable[..., None], *given: socket.socket) -> None:
        thread = threading.Thread(target=what, args=given)
        self._threads.append(thread)
        thread.start()

    def _listen(self) -> None:
        with suppress(OSError):
            while not self._end.is_set():
                connection, _ = self._listening.accept()
                self._run(self._pass_on if self.over.is_set() else self._hold, connection)

    def _hold(self, connection: socket.socket) -> None:
        self.held += 1
        with suppress(OSError), connection:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                connection.recv(1 << 16)
                connection.sendall(self._start)
                while self._drip and not self._end.wait(0.02):
                    connection.sendall(self._drip)
                connection.recv(1)
        self.left += 1

    def _pass_on(self, asking: socket.socket) -> None:
        with socket.create_connection(self._authority) as answering, asking:
            self._run(self._pump, answering, asking)
            self._pump(asking, answering)

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(1 << 16):
                target.sendall(piece)
            target.shutdown(socket.SHUT_RDWR)


HELD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = HELD + b"transfer-encoding: chunked\r\n\r\n"
HOLDS = {
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "a dripped status": (b"HTTP/1.1 200 ", b"O"),
    "a dripped header": (HELD + b"x: ", b"a"),
    "endless headers": (HELD, b"x: y\r\n"),
    "a dripped chunk extension": (CHUNKED + b"1;", b"a"),
    "a dripped chunk": (CHUNKED + b"ffff\r\ndata: ", b"a"),
    "comments": (HELD + b"\r\n", b":\n"),
    "a dripped page": (HELD + b"\r\ndata: ", b"a"),
    "a dripped refusal": (b"HTTP/1.1 503 Busy\r\nx: ", b"a"),
    "nothing": (b"", b""),
}


@pytest.mark.parametrize(("start", "drip"), HOLDS.values(), ids=HOLDS)
def test_nothing_that_a_spoofed_authority_sends_holds_a_follower(
    line: Line, monkeypatch: pytest.MonkeyPatch, start: bytes, drip: bytes
) -> None:
    monkeypatch.setattr("capx.resource.feed.stream.SILENCE", 0.3)
    with (
        closing(Spoofed(line.url, start, drip)) as spoofed,
        closing(Follower(FeedSource(spoofed.url, KEYS), patience=0)) as follower,
    ):
        follower.start()
        assert eventually(lambda: spoofed.held >= 2)
        assert "no page came" in str(follower.problem)
        assert len(threads()) <= 2
        monkeypatch.setattr("capx.resource.feed.stream.SILENCE", 5.0)
        spoofed.over.set()
        assert eventually(lambda: follower.age() < 1)
        assert follower.problem is None
        # Those that were given up are not left open.
        assert eventually(lambda: spoofed.left == spoofed.held)
        follower.close()
        assert not threads()


def test_a_connection_that_told_a_page_is_not_believed_to_be_alive_for_it(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capx.resource.feed.stream.SILENCE", 0.3)
    page = event(line.feed.page(now=time.time()).text)
    start = CHUNKED + b"%x\r\n%b\r\n1;" % (len(page), page)
    with (
        closing(Spoofed(line.url, start, b"a")) as spoofed,
        closing(Follower(FeedSource(spoofed.url, KEYS))) as follower,
    ):
        assert follower.age() < 1
        assert eventually(lambda: "no page came" in str(follower.problem))
        assert eventually(lambda: spoofed.held >= 2)


def test_a_page_asked_for_by_itself_is_not_waited_for_longer_than_for_any(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capx.resource.feed.stream.SILENCE", 0.3)
    with closing(Spoofed(line.url, *HOLDS["early hints"])) as spoofed:
        with pytest.raises(StoreProblem, match="no page came"):
            FeedSource(spoofed.url, KEYS).pages()
        assert not threads()


def test_a_line_that_nobody_could_watch_over_is_not_used(line: Line) -> None:
    usual = threading.stack_size(1 << 46)
    try:
        with pytest.raises(StoreProblem, match="no thread can be had"):
            line.source.pages()
    finally:
        threading.stack_size(usual)
    assert line.app.connected == 0
    assert line.source.pages()


def test_whoever_needs_long_for_the_news_does_not_lose_the_connection(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capx.resource.feed.stream.SILENCE", 1.5)
    news = line.source.stream(lambda: None)
    first = next(news)
    time.sleep(2)
    assert next(news).head == first.head
    assert line.app.connected == 1


@pytest.mark.parametrize("hold", ["early hints", "a dripped header", "a dripped chunk extension", "nothing"])
def test_nothing_holds_a_follower_over_tls(
    line: Line, monkeypatch: pytest.MonkeyPatch, certified: tuple[Path, ssl.SSLContext], hold: str
) -> None:
    monkeypatch.setattr("capx.resource.feed.stream.SILENCE", 0.3)
    certificate, trusting = certified
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(certificate)
    with (
        closing(Spoofed(line.url, *HOLDS[hold], serving)) as spoofed,
        closing(Follower(FeedSource(spoofed.url, KEYS, tls=trusting), patience=0)) as follower,
    ):
        follower.start()
        assert eventually(lambda: spoofed.held >= 3)
        assert "no page came" in str(follower.problem)
        assert eventually(lambda: spoofed.left >= 2)


def test_nothing_holds_a_follower_in_a_handshake(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capx.resource.feed.stream.SILENCE", 0.3)
    # A record of TLS that promises more than comes.
    with closing(Spoofed(line.url, b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b"a")) as spoofed:
        url = spoofed.url.replace("http:", "https:")
        with closing(Follower(FeedSource(url, KEYS), patience=0)) as follower:
            follower.start()
            assert eventually(lambda: spoofed.held >= 3)
            assert "no page came" in str(follower.problem)
            monkeypatch.setattr("capx.resource.feed.stream.SILENCE", 60.0)
            held = spoofed.held
            assert eventually(lambda: spoofed.held > held)
            began = time.monotonic()
            follower.close()
            assert time.monotonic() - began < 1
            assert not threads()


class Crowded:
    """Before an authority: while it is `full` of streams, it gives no other."""

    def __init__(self, app: Served) -> None:
        self._app = app
        self.full = threading.Event()
        self.full.set()
        self.refused: list[float] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and self.full.is_set() and (b"accept", b"text/event-stream") in scope["headers"]:
            self.refused.append(time.monotonic())
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b"400 streams are open already"})
            return
        await self._app(scope, receive, send)


@pytest.fixture
def crowded(feed: Feed) -> Iterator[tuple[Line, Crowded]]:
    app = Served(feed)
    crowd = Crowded(app)
    with served(crowd) as url:
        made = Line(feed, url, app)
        yield made, crowd
        made.follower.close()
        app.cut.set()


def test_whoever_gets_no_stream_stays_fresh_by_single_pages_and_streams_again_when_it_can(
    crowded: tuple[Line, Crowded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capx.resource.feed.client.STREAM_AGAIN", 2.5)
    line, crowd = crowded
    line.feed.kill(node(1))
    assert line.follower.age() < 1
    assert node(1) in line.follower.deaths
    line.feed.kill(node(2))
    began, oldest, problems = time.monotonic(), 0.0, set[str]()
    while len(crowd.refused) < 3:
        oldest = max(oldest, line.follower.age())
        problems.add(str(line.follower.problem))
        assert time.monotonic() - began < 20
        time.sleep(0.005)
    assert node(2) in line.follower.deaths
    assert oldest < 2
    assert problems == {"None"}
    # Neither pages nor streams were asked for in a rush.
    assert [headers["accept"] for _, headers in line.app.asked] == ["application/json"] * len(line.app.asked)
    assert len(line.app.asked) <= 1.5 + time.monotonic() - began
    assert all(later - earlier >= 2.5 for earlier, later in itertools.pairwise(crowd.refused))
    crowd.full.clear()
    assert eventually(lambda: line.app.open == 1)
    assert line.follower.problem is None
    line.feed.kill(node(3))
    assert eventually(lambda: node(3) in line.follower.deaths, within=0.9)


def test_many_deaths_are_told_by_single_pages_at_once(crowded: tuple[Line, Crowded]) -> None:
    line, _ = crowded
    line.feed.kill(*(f"task-{number}" for number in range(20_001)))
    line.follower.start()
    assert eventually(lambda: len(line.follower.deaths) == 20_001)
    assert [query["since"] for query, _ in line.app.asked][:3] == ["0", "10000", "20000"]


def test_no_stream_is_a_problem_only_where_there_is_no_page_either(crowded: tuple[Line, Crowded]) -> None:
    line, crowd = crowded
    line.app.status = 429
    line.follower.start()
    assert eventually(lambda: "answers 429" in str(line.follower.problem))
    line.app.status = 200
    assert eventually(lambda: line.follower.age() < 1)
    assert line.follower.problem is None
    line.app.status = 500
    assert eventually(lambda: "answers 500" in str(line.follower.problem))
    crowd.full.clear()
    line.app.status = 200
    assert eventually(lambda: line.follower.problem is None)


def test_whoever_waits_to_ask_for_the_next_page_is_closed_at_once(
    crowded: tuple[Line, Crowded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capx.resource.feed.client.PAGE_EVERY", 4.0)
    line, _ = crowded
    assert line.follower.age() < 1
    began = time.monotonic()
    line.follower.close()
    assert time.monotonic() - began < 1
    assert not threads()


@pytest.mark.parametrize(
    "junk",
    [b"x" * (3 << 20), b"data: " + b"x" * (3 << 20) + b"\n\n", b"data: 1\ndata: 2\n\n", b": x\ndata: 1\n" * 2],
    ids=["an endless line", "a huge page", "two lines of data", "two lines of data between comments"],
)
def test_what_is_longer_than_a_page_is_refused(line: Line, junk: bytes) -> None:
    line.app.before = lambda: junk
    line.follower.start()
    assert eventually(lambda: "longer than a page" in str(line.follower.problem))


@pytest.mark.parametrize("junk", [b"data: \n\n", b"data: {}\n\n", b"data: \xff\xfe\n\n", b"data:\0\n\n"])
def test_an_event_that_is_no_page_is_refused(line: Line, junk: bytes) -> None:
    line.app.before = lambda: junk
    line.follower.start()
    assert eventually(lambda: "no page of a feed" in str(line.follower.problem))


def test_comments_carriage_returns_and_other_fields_are_passed_over(line: Line) -> None:
    page = line.feed.page(now=time.time()).text.encode()
    line.app.before = lambda: b": hello\r\n\r\nevent: page\r\nid: 1\r\ndata:" + page + b"\r\n\r\n"
    line.app.mute.set()
    assert line.follower.age() < 1


def test_redirects_are_not_followed(line: Line) -> None:
    line.app.status, line.app.headers = 307, [(b"location", "https://elsewhere.example/\u202e".encode())]
    line.follower.start()
    assert eventually(lambda: "which is not followed" in str(line.follower.problem))
    assert "elsewhere.example" in str(line.follower.problem)
    assert str(line.follower.problem).isascii()


@pytest.mark.parametrize(
    ("status", "headers", "why"),
    [
        (404, [], "answers 404"),
        (500, [], "answers 500"),
        (204, [], "answers 204"),
        (200, [(b"content-encoding", b"gzip")], "not with plain text/event-stream"),
    ],
)
def test_other_answers_are_refused(line: Line, status: int, headers: list[tuple[bytes, bytes]], why: str) -> None:
    line.app.status, line.app.headers = status, headers
    line.follower.start()
    assert eventually(lambda: why in str(line.follower.problem))


def test_nothing_compressed_is_asked_for_and_no_secret_is_sent(line: Line) -> None:
    line.follower.age()
    query, headers = line.app.asked[0]
    assert set(query) <= {"since", "position", "epoch"}
    assert headers["accept-encoding"] == "identity"
    assert "authorization" not in headers


def test_a_follower_over_http_is_closed_at_once(line: Line) -> None:
    line.follower.age()
    began = time.monotonic()
    line.follower.close()
    assert time.monotonic() - began < 1
    assert not threads()
    assert eventually(lambda: line.app.open == 0)
    with pytest.raises(StoreProblem, match="it was closed"):
        next(line.source.stream(lambda: None))


def test_who_waits_for_an_answer_that_never_comes_is_closed_at_once() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        follower = Follower(FeedSource(f"http://127.0.0.1:{listening.getsockname()[1]}", KEYS), patience=0)
        follower.start()
        connection, _ = listening.accept()
        assert connection.recv(1)
        began = time.monotonic()
        follower.close()
        assert time.monotonic() - began < 1
        assert not threads()
        connection.close()


def test_a_refused_connection_says_so() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with closing(Follower(FeedSource(url, KEYS), patience=0)) as follower:
            follower.start()
            assert eventually(lambda: f"nothing is heard from {url}/feed" in str(follower.problem))


def test_a_feed_is_followed_over_tls_by_those_who_believe_its_certificate(
    feed: Feed, certified: tuple[Path, ssl.SSLContext]
) -> None:
    app = Served(feed)
    feed.kill(node(1))
    certificate, trusting = certified
    with served(app, ssl_certfile=str(certificate)) as origin:
        url = origin.replace("http:", "https:")
        with closing(Follower(FeedSource(url, KEYS, tls=trusting))) as follower:
            assert follower.age() < 1
            assert node(1) in follower.deaths
            began = time.monotonic()
            follower.close()
            assert time.monotonic() - began < 1
            assert not threads()
        with closing(Follower(FeedSource(url, KEYS))) as follower:
            assert follower.age() == math.inf
            assert "CERTIFICATE_VERIFY_FAILED" in str(follower.problem)
        app.cut.set()


def test_pages_asked_for_one_by_one_tell_all(line: Line) -> None:
    line.feed.kill(*(f"task-{number}" for number in range(10_001)))
    pages = line.source.pages()
    assert len(pages) == 2
    assert {headers["accept"] for _, headers in line.app.asked} == {"application/json"}
    assert [query["since"] for query, _ in line.app.asked] == ["0", "10000"]
    line.app.status = 500
    with pytest.raises(StoreProblem, match="answers 500"):
        line.source.pages()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "authority.internal",
        "/feed",
        "ftp://authority.internal",
        "http://",
        "http://a b",
        "https://name:secret@authority.internal",
        "https://authority.internal/?x=1",
        "https://authority.internal/#x",
        "https://[",
        "https://authority.internal:99999",
        "https://authority.internal\n",
        "https://authority.internal/\u202e",
    ],
)
def test_a_url_that_names_no_authority_is_a_mistake_told_at_once(url: str) -> None:
    with pytest.raises(ConfigurationProblem) as caught:
        FeedSource(url, KEYS)
    assert "secret" not in str(caught.value)


def test_a_source_without_a_key_is_a_mistake_told_at_once() -> None:
    with pytest.raises(KeyProblem):
        FeedSource("http://127.0.0.1", {})


# Processes

IN_A_CHILD = """
import math, os, sys, threading
import capx.resource.feed.stream
from capx.resource.feed.client import FeedSource
from capx.resource.feed.follower import Follower
from tests.labs.feeding import KEYS, eventually

def in_a_child(*holds):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if all(hold() for hold in holds) else 1
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0
"""

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


HELD_IN_A_CHILD = f"""
{IN_A_CHILD}
def is_told():
    return eventually(lambda: "no page came" in str(follower.problem))

capx.resource.feed.stream.SILENCE = 0.3
follower = Follower(FeedSource(sys.argv[1], KEYS), patience=0)
follower.start()
assert is_told()
for _ in range(5):
    assert in_a_child(
        lambda: follower.problem is None,
        lambda: not follower.start(),
        is_told,
        lambda: not follower.close(),
        lambda: threading.active_count() == 1,
    )
assert is_told()
follower.close()
assert threading.active_count() == 1
"""


def test_nothing_holds_a_follower_in_a_forked_child(line: Line, checkout: Path) -> None:
    with closing(Spoofed(line.url, *HOLDS["a dripped header"])) as spoofed:
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", HELD_IN_A_CHILD, spoofed.url]
        assert subprocess.run(command, cwd=checkout, timeout=60, check=False).returncode == 0
        assert eventually(lambda: spoofed.left == spoofed.held)


def test_what_is_asked_of_a_source_says_where_its_follower_stands(line: Line) -> None:
    line.feed.kill(node(1))
    news = next(line.source.stream(lambda: None))
    line.feed.kill(node(2))
    more = next(line.source.stream(lambda: news.head))
    assert (news.anew, more.anew) == (True, False)
    assert more.deaths == {node(2): "revoked"}
    assert FeedCursor.read(line.app.asked[-1][0]) == FeedCursor.of(news.head)
