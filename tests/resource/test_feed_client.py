"""An authority's feed over HTTP: by a stream, by single pages, over TLS."""

import itertools
import math
import socket
import ssl
import time
from contextlib import closing
from pathlib import Path

import pytest

from capx.errors import ConfigurationProblem, KeyProblem, StoreProblem
from capx.resource.feed.client import FeedSource
from capx.resource.feed.follower import Follower
from tests.labs.feeding import KEYS, Feed, FeedApp, node
from tests.labs.following import Crowded, Line, threads
from tests.labs.serving import served
from tests.labs.waiting import eventually


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


def test_who_gets_no_stream_stays_fresh_by_single_pages(
    crowded: tuple[Line, Crowded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capx.resource.feed.client.STREAM_AGAIN", 1.5)
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
    assert all(later - earlier >= 1.5 for earlier, later in itertools.pairwise(crowd.refused))
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


def test_no_stream_is_a_problem_only_without_pages(crowded: tuple[Line, Crowded]) -> None:
    line, crowd = crowded
    line.app.status = 429
    line.follower.start()
    assert eventually(lambda: "answered 429" in str(line.follower.problem))
    line.app.status = 200
    assert eventually(lambda: line.follower.age() < 1)
    assert line.follower.problem is None
    line.app.status = 500
    assert eventually(lambda: "answered 500" in str(line.follower.problem))
    crowd.full.clear()
    line.app.status = 200
    assert eventually(lambda: line.follower.problem is None)


@pytest.mark.parametrize(
    "junk",
    [b"x" * (3 << 20), b"data: " + b"x" * (3 << 20) + b"\n\n", b"data: 1\ndata: 2\n\n", b": x\ndata: 1\n" * 2],
    ids=["an endless line", "a huge page", "two lines of data", "two lines of data between comments"],
)
def test_what_is_longer_than_a_page_is_refused(line: Line, junk: bytes) -> None:
    line.app.before = lambda: junk
    line.follower.start()
    assert eventually(lambda: "more than a page can hold" in str(line.follower.problem))


@pytest.mark.parametrize("junk", [b"data: \n\n", b"data: {}\n\n", b"data: \xff\xfe\n\n", b"data:\0\n\n"])
def test_an_event_that_is_no_page_is_refused(line: Line, junk: bytes) -> None:
    line.app.before = lambda: junk
    line.follower.start()
    assert eventually(lambda: "not a page of a feed" in str(line.follower.problem))


def test_comments_carriage_returns_and_other_fields_are_skipped(line: Line) -> None:
    page = line.feed.page(now=time.time()).text.encode()
    line.app.before = lambda: b": hello\r\n\r\nevent: page\r\nid: 1\r\ndata:" + page + b"\r\n\r\n"
    line.app.mute.set()
    assert line.follower.age() < 1


def test_redirects_are_not_followed(line: Line) -> None:
    line.app.status, line.app.headers = 307, [(b"location", "https://elsewhere.example/\u202e".encode())]
    line.follower.start()
    assert eventually(lambda: "follows no redirect" in str(line.follower.problem))
    assert "elsewhere.example" in str(line.follower.problem)
    assert str(line.follower.problem).isascii()


@pytest.mark.parametrize(
    ("status", "headers", "why"),
    [
        (404, [], "answered 404"),
        (500, [], "answered 500"),
        (204, [], "answered 204"),
        (200, [(b"content-encoding", b"gzip")], "wanted text/event-stream"),
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


def test_a_refused_connection_says_so() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with closing(Follower(FeedSource(url, KEYS), patience=0)) as follower:
            follower.start()
            assert eventually(lambda: f"no news from {url}/feed" in str(follower.problem))


def test_a_feed_is_followed_over_tls_with_its_certificate_only(
    feed: Feed, certified: tuple[Path, ssl.SSLContext]
) -> None:
    app = FeedApp(feed)
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
    with pytest.raises(StoreProblem, match="answered 500"):
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
