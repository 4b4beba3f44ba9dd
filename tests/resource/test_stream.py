"""Nothing that an authority sends, or does not send, holds a follower."""

import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from capx.errors import StoreProblem
from capx.resource.feed.client import FeedSource
from capx.resource.feed.follower import Follower
from tests.labs.feeding import KEYS, event
from tests.labs.following import IN_A_CHILD, Crowded, Line, Spoofed, threads
from tests.labs.waiting import eventually


def test_a_connection_over_which_nothing_comes_is_broken(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capx.resource.feed.stream.SILENCE", 0.3)
    line.app.mute.set()
    line.follower.start()
    assert eventually(lambda: line.app.connected >= 3)
    assert line.follower.problem is not None
    line.app.mute.clear()
    assert eventually(lambda: line.follower.age() < 1)


def test_a_connection_over_which_no_pages_come_is_broken(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capx.resource.feed.stream.SILENCE", 0.3)
    line.app.before, line.app.only = lambda: b": still here\n\nevent: x\nretry: 5\n\n", True
    line.follower.start()
    assert eventually(lambda: "no page came" in str(line.follower.problem))
    assert eventually(lambda: line.app.connected >= 2)


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


def test_a_connection_that_sent_a_page_is_not_alive_for_it(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_single_page_is_not_waited_for_longer_than_any(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capx.resource.feed.stream.SILENCE", 0.3)
    with closing(Spoofed(line.url, *HOLDS["early hints"])) as spoofed:
        with pytest.raises(StoreProblem, match="no page came"):
            FeedSource(spoofed.url, KEYS).pages()
        assert not threads()


def test_a_line_that_nobody_could_watch_over_is_not_used(line: Line) -> None:
    usual = threading.stack_size(1 << 46)
    try:
        with pytest.raises(StoreProblem, match="cannot start a thread"):
            line.source.pages()
    finally:
        threading.stack_size(usual)
    assert line.app.connected == 0
    assert line.source.pages()


def test_who_needs_long_for_the_news_keeps_the_connection(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_who_waits_to_ask_for_the_next_page_is_closed_at_once(
    crowded: tuple[Line, Crowded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capx.resource.feed.client.PAGE_EVERY", 4.0)
    line, _ = crowded
    assert line.follower.age() < 1
    began = time.monotonic()
    line.follower.close()
    assert time.monotonic() - began < 1
    assert not threads()


def test_a_follower_over_http_is_closed_at_once(line: Line) -> None:
    line.follower.age()
    began = time.monotonic()
    line.follower.close()
    assert time.monotonic() - began < 1
    assert not threads()
    assert eventually(lambda: line.app.open == 0)
    with pytest.raises(StoreProblem, match="it was closed"):
        next(line.source.stream(lambda: None))


def test_who_waits_for_an_answer_that_never_comes_is_closed() -> None:
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
