"""Pages that go on where the reader stands, and pages that are refused."""

import math
import time
from contextlib import closing
from pathlib import Path

import pytest

from capx.resource.feed import follower
from capx.resource.feed.client import FeedSource
from capx.resource.feed.follower import Follower
from capx.resource.feed.page import PageProblem
from tests.labs.feeding import KEYS, OTHER, event, node
from tests.labs.following import Line
from tests.labs.waiting import eventually


def test_a_connection_that_is_cut_is_made_again_for_news(line: Line) -> None:
    line.feed.kill(node(1))
    line.follower.age()
    head = line.feed.head()
    line.app.cut.set()
    assert eventually(lambda: "answered 503: the authority is away" in str(line.follower.problem))
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


def test_a_store_behind_its_follower_ages_until_it_caught_up(line: Line, tmp_path: Path) -> None:
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
    assert "was sent 100 seconds ago" in str(line.follower.problem)


def test_an_authority_whose_clock_is_ahead_is_refused(line: Line) -> None:
    line.app.clock = lambda: time.time() + 100
    assert line.follower.age() == math.inf
    assert "set the clock" in str(line.follower.problem)
    line.app.clock = time.time
    assert eventually(lambda: line.follower.age() < 1)


def test_a_heartbeat_sent_again_and_again_confirms_nothing(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "_LATE", 1.0)
    replayed = event(line.feed.page(now=time.time()).text)
    line.app.before, line.app.only = lambda: replayed, True
    line.follower.age()
    assert eventually(lambda: line.follower.age() > 0.5)
    # Several processes at one store may send their pages in another order: only what lasts is a problem.
    assert line.follower.problem is None
    assert eventually(lambda: "old answer" in str(line.follower.problem))
    assert line.follower.age() > 1


def test_pages_that_are_forged_are_not_believed(line: Line) -> None:
    line.feed.kill(node(1))
    line.feed.signer = OTHER.feed_signer()
    with closing(Follower(FeedSource(line.url, {kid: KEYS[kid] for kid in KEYS if kid != OTHER.kid}))) as follower:
        assert follower.age() == math.inf
        assert isinstance(follower.problem, PageProblem)
