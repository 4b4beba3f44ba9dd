"""Signed pages: what is in them, what refuses them, and what a reader makes of them."""

import json
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capx.crypto.base64url import b64u
from capx.crypto.hashing import digest
from capx.crypto.keys import RootKey
from capx.errors import InvalidRequest, KeyProblem, StoreProblem
from capx.resource.feed.page import FeedCursor, PageProblem, read_page
from capx.resource.feed.reader import PageReader
from capx.resource.revocations import View
from capx.store.records import Head
from capx.store.sqlite.store import SQLiteStore
from tests.labs.counts import repeated
from tests.labs.feeding import KEY, KEYS, NOW, OTHER, Feed, ReaderWithView, node

MALLORY = RootKey(bytes(range(2, 34)))


def said(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.loads(text)["page"])
    return found


def signed(page: str, signer: RootKey = KEY, by: str | None = None) -> str:
    signature = signer.feed_signer().sign(digest(b"capx/1/feed-page", page.encode()))
    return json.dumps({"by": by or signer.kid, "page": page, "sig": b64u(signature)}, separators=(",", ":"))


def with_said(text: str, **changes: Any) -> str:
    """The page with other facts, rightly signed."""
    return signed(json.dumps(said(text) | changes, separators=(",", ":")))


def refused(text: str, *, now: float = NOW) -> str:
    with pytest.raises(PageProblem) as caught:
        read_page(text, KEYS, now=now)
    return str(caught.value)


# What a page says


def test_a_page_says_the_head_and_every_death(feed: Feed) -> None:
    feed.kill(node(1))
    feed.kill("task-1", reason="task_completed")
    feed.kill(f"kid:{OTHER.kid}", "issued:1799999999")
    page = read_page(feed.page().text, KEYS, now=NOW)
    assert page.head == feed.head()
    assert (page.by, page.at, page.asked, page.since, page.lasting) == (KEY.kid, NOW, None, 0, 0)
    assert list(page.deaths.items()) == [
        (node(1), "revoked"),
        ("task-1", "task_completed"),
        (f"kid:{OTHER.kid}", "revoked"),
        ("issued:1799999999", "revoked"),
    ]
    assert not page.has_more


def test_a_page_is_one_line_of_ascii_as_documented(feed: Feed) -> None:
    feed.kill(node(1))
    text = feed.page(now=NOW + 0.12345).text
    assert text.isascii()
    assert text.isprintable()
    head = feed.head()
    assert said(text) == {
        "v": 1,
        "epoch": head.epoch,
        "position": 1,
        "hash": b64u(head.hash),
        "deaths": 1,
        "forgotten": 0,
        "at": NOW + 0.123,
        "from": None,
        "since": 0,
        "lasting": 0,
        "dead": [[f"id:{b64u(node(1))}", "revoked"]],
    }


def test_no_spelling_of_sixteen_bytes_is_that_of_a_task(feed: Feed) -> None:
    twin = b64u(node(1))
    feed.kill(node(1))
    feed.kill(twin, reason="task_completed")
    assert read_page(feed.page().text, KEYS, now=NOW).deaths == {node(1): "revoked", twin: "task_completed"}


def test_a_page_confirms_the_place_that_was_asked_about(feed: Feed) -> None:
    feed.kill(node(1))
    known = feed.head()
    feed.kill(node(2))
    page = read_page(feed.page(FeedCursor.of(known)).text, KEYS, now=NOW)
    assert page.asked == known.place
    assert page.deaths == {node(2): "revoked"}
    assert read_page(feed.page(FeedCursor.of(feed.head())).text, KEYS, now=NOW).asked == feed.head().place


def test_who_asks_for_more_than_there_is_sees_the_head(feed: Feed) -> None:
    feed.kill(node(1))
    page = read_page(feed.page(FeedCursor(99, 98, feed.head().epoch)).text, KEYS, now=NOW)
    assert (page.head, page.asked, page.deaths, page.has_more) == (feed.head(), None, {}, False)


def test_no_place_of_another_epoch_is_confirmed(feed: Feed) -> None:
    feed.kill(node(1), node(2))
    page = read_page(feed.page(FeedCursor(1, 1, "another.1")).text, KEYS, now=NOW)
    assert (page.asked, page.since, len(page.deaths)) == (None, 0, 2)


def test_what_can_never_be_read_is_not_signed(feed: Feed) -> None:
    feed.kill("a b")
    with pytest.raises(StoreProblem, match="not the key of a death"):
        feed.page()


def test_what_no_page_can_say_is_not_signed(feed: Feed) -> None:
    feed.kill(node(1), node(2), node(3))
    feed.store.close()
    with sqlite3.connect(feed.store.path) as connection:
        connection.execute("DELETE FROM deaths WHERE seq = 2")
    connection.close()
    damaged = Feed.__new__(Feed)
    damaged.store, damaged.signer = SQLiteStore(feed.store.path), feed.signer
    with pytest.raises(StoreProblem, match="no death 2"):
        damaged.page()
    with sqlite3.connect(feed.store.path) as connection:
        connection.execute("DELETE FROM deaths WHERE seq = 3")
    connection.close()
    with pytest.raises(StoreProblem, match="no death 2"):
        damaged.page(FeedCursor(1))
    damaged.close()


# What is no page


@pytest.fixture(scope="module")
def text() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        feed = Feed(Path(folder) / "capx.db")
        feed.kill(node(1), "task-1", f"kid:{OTHER.kid}")
        known = feed.head()
        feed.kill(node(2))
        yield feed.page(FeedCursor.of(known)).text
        feed.close()


def test_any_bit_changed_anywhere_is_refused(text: str) -> None:
    raw = text.encode()
    for at in range(len(raw)):
        for bit in range(8):
            changed = raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]
            refused(changed.decode("latin-1"))
    assert read_page(text, KEYS, now=NOW).since == 3


def test_a_page_cut_short_anywhere_is_refused(text: str) -> None:
    for length in range(len(text)):
        refused(text[:length])


@given(st.text(max_size=200))
def test_any_text_at_all_is_refused_in_one_way(junk: str) -> None:
    refused(junk)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.integers(), st.lists, max_leaves=20))
def test_any_signed_value_at_all_is_refused_in_one_way(value: object) -> None:
    refused(signed(json.dumps(value)))


@pytest.mark.parametrize("junk", ["[" * 3000, '{"by":' * 3000, "\ud800", "\0", "{}", "[]", "null", '"', "{   "])
def test_junk_is_refused(junk: str) -> None:
    refused(junk)
    refused(signed(junk) if junk != "\ud800" else junk)


def test_a_text_that_is_too_long_is_refused_before_it_is_read() -> None:
    assert "characters" in refused("x" * (2 << 20 | 1))


def test_an_unsigned_page_is_refused(text: str) -> None:
    envelope = json.loads(text)
    for sig in ("", "A" * 86, envelope["sig"][:-4], envelope["sig"] + "AAAA", envelope["sig"] + "="):
        refused(json.dumps(envelope | {"sig": sig}, separators=(",", ":")))
    del envelope["sig"]
    refused(json.dumps(envelope, separators=(",", ":")))
    refused(envelope["page"])


def test_another_signer_is_refused_by_whatever_name(text: str) -> None:
    page = json.loads(text)["page"]
    assert "not among the feed keys" in refused(signed(page, MALLORY))
    assert "not that of the key" in refused(signed(page, MALLORY, KEY.kid))
    assert "not that of the key" in refused(signed(page, OTHER, KEY.kid))
    assert read_page(signed(page, OTHER), KEYS, now=NOW).by == OTHER.kid


def test_a_signature_of_something_else_is_refused(text: str) -> None:
    envelope = json.loads(text)
    page = envelope["page"].encode()
    for message in (page, digest(b"capx/1/sig", page), digest(b"capx/1/feed", page)):
        envelope["sig"] = b64u(KEY.feed_signer().sign(message))
        refused(json.dumps(envelope, separators=(",", ":")))


def test_another_spelling_is_refused_though_it_is_signed(text: str) -> None:
    page = json.loads(text)["page"]
    assert read_page(signed(page), KEYS, now=NOW).since == 3
    others = [
        page.replace(",", ", ", 1),
        page.replace('"v":1', '"v":1,"v":1'),
        page.replace('"since":3', '"since":0,"since":3'),
        page.replace('"since":3', '"since":3.0'),
        page.replace('"since":3', '"since":03'),
        page.replace('"since":3', '"since":"3"'),
        page.replace('"since":3', '"since":true'),
        page.replace('"lasting":0', '"lasting":-0'),
        page.replace(f'"at":{NOW}.0', f'"at":{NOW}'),
        page.replace(f'"at":{NOW}.0', '"at":NaN'),
        page.replace(f'"at":{NOW}.0', '"at":-1.0'),
        page.replace(f'"at":{NOW}.0', '"at":1e999'),
        page.replace('"position":4', f'"position":{10**400}'),
        page.replace('"position":4', '"position":-4'),
        page.replace('"revoked"', '"\\u0072evoked"'),
        page.replace('"v":1,', "") + " ",
        page + "\n",
        "\ufeff" + page,
    ]
    for other in others:
        assert other != page
        refused(signed(other))
    for other in (text + "\n", " " + text, text.replace('"by"', '"by":"x","by"'), text.replace(",", ", ", 1)):
        refused(other)


@pytest.mark.parametrize(
    "changes",
    [
        {"more": 1},
        {"v": 2},
        {"v": None},
        {"dead": None},
        {"from": 1},
        {"from": [4]},
        {"from": [3, "short"]},
        {"from": [0, "A" * 43]},
        {"from": [5, "A" * 43]},
        {"from": [4, "A" * 43]},
        {"hash": "A" * 42},
        {"hash": "A" * 43},
        {"hash": "A" * 44},
        {"position": 0},
        {"epoch": ""},
        {"epoch": "x"},
        {"epoch": "x.1.2"},
        {"epoch": "x.01"},
        {"epoch": "x.-1"},
        {"epoch": "x\n.1"},
        {"deaths": 2},
        {"deaths": 3},
        {"forgotten": 4},
        {"forgotten": 5},
        {"since": 5},
        {"since": 4},
        {"lasting": 1},
        {"lasting": 2},
        {"since": 0, "lasting": 1, "forgotten": 1},
        {"since": 0, "lasting": 1, "dead": [[f"kid:{OTHER.kid}", "revoked"]]},
        {"since": 0, "deaths": 9, "forgotten": 9, "lasting": 2, "dead": [[f"kid:{OTHER.kid}", "revoked"]]},
        {"dead": []},
        {"dead": [["task", "revoked", 1]]},
        {"dead": [["task"]]},
        {"dead": [["task", "revoked"], ["task", "revoked"]], "deaths": 5},
        {"dead": [[7, "revoked"]]},
        {"dead": [["task", "bored"]]},
        {"dead": [["task", ""]]},
        {"dead": [["task", None]]},
    ],
    ids=str,
)
def test_a_senseless_page_is_refused_though_it_is_signed(text: str, changes: dict[str, Any]) -> None:
    refused(with_said(text, **changes))


@pytest.mark.parametrize(
    "key",
    [
        "",
        "a b",
        "x" * 65,
        "id:",
        "id:AAAA",
        f"id:{'A' * 21}B",
        f"id:{'A' * 22}=",
        f"id:{'A' * 21}+",
        "ID:" + "A" * 22,
        "kid:",
        "kid:AAAAAAAAAAB",
        "kid:../../etc/p",
        "issued:",
        "issued:-1",
        "issued:01",
        "issued:1.5",
        "issued:" + "9" * 17,
        "issued:٣",
        "other:x",
        "task\n",
        "ü",
    ],
)
def test_nothing_but_what_can_die_is_dead(text: str, key: str) -> None:
    refused(with_said(text, dead=[[key, "revoked"]]))


def test_too_many_deaths_for_one_page_are_refused(text: str) -> None:
    dead = [[f"t{number}", "revoked"] for number in range(10_001)]
    refused(with_said(text, dead=dead, deaths=3 + len(dead)))
    page = read_page(with_said(text, dead=dead[:-1], deaths=3 + len(dead)), KEYS, now=NOW)
    assert page.has_more


def test_a_page_from_the_future_is_refused_beyond_five_seconds(text: str) -> None:
    assert read_page(text, KEYS, now=NOW - 5).at == NOW
    assert "set the clock" in refused(text, now=NOW - 5.001)


# What a reader makes of pages


def test_a_reader_without_a_key_is_a_mistake_told_at_once() -> None:
    with pytest.raises(KeyProblem, match="capx keys export"):
        PageReader({})


def test_pages_of_one_death_say_what_one_page_says(feed: Feed) -> None:
    feed.kill(*(node(number) for number in range(7)))
    told = ReaderWithView()
    pages = list(feed.pages(at_most=2))
    assert len(pages) == 4
    for page in pages[:-1]:
        assert told.take(page) is None
        assert told.view.head is None
        assert told.reader.is_amid
    news = told.take(pages[-1])
    assert news is not None
    assert (news.head, len(news.deaths), news.anew, news.at) == (feed.head(), 7, True, NOW)
    assert not told.reader.is_amid


def test_a_heartbeat_is_news_without_a_death(feed: Feed) -> None:
    feed.kill(node(1))
    told = ReaderWithView()
    told.catch_up(feed)
    news = told.take(feed.page(told.reader.cursor, now=NOW + 1).text)
    assert news is not None
    assert (news.deaths, news.anew, news.at) == ({}, False, NOW + 1)


class Crowd:
    """A reader that knows three deaths of a store that then went on, to five."""

    def __init__(self, folder: Path) -> None:
        self.feed = Feed(folder / "capx.db")
        self.feed.kill(node(1), node(2), "task-3")
        self.earlier = self.feed.copied(folder / "earlier.db")
        self.told = ReaderWithView()
        self.feed.note()
        self.told.catch_up(self.feed)
        self.known = self.feed.head()
        self.feed.kill("task-4", "task-5")

    def refuses(self, *pages: str, kind: type[StoreProblem] = StoreProblem) -> str:
        """The pages but the last are taken; the last one changes nothing, and what is right is taken thereafter."""
        self.told.take(*pages[:-1])
        deaths, head = dict(self.told.view.deaths), self.told.view.head
        with pytest.raises(kind) as caught:
            self.told.take(pages[-1])
        assert (self.told.view.deaths, self.told.view.head) == (deaths, head)
        self.told.reader.begin(head)
        self.told.catch_up(self.feed)
        assert len(self.told.view.deaths) == 5
        return str(caught.value)

    def close(self) -> None:
        self.feed.close()
        self.earlier.close()


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Crowd]:
    made = Crowd(tmp_path)
    yield made
    made.close()


def test_a_store_that_went_back_is_refused(crowd: Crowd) -> None:
    assert "went back" in crowd.refuses(crowd.earlier.page(crowd.told.reader.cursor).text)


def test_all_told_anew_from_an_older_copy_is_refused(crowd: Crowd) -> None:
    assert "went back" in crowd.refuses(crowd.earlier.page().text)


def test_another_history_is_refused(crowd: Crowd) -> None:
    crowd.earlier.kill("elsewhere")
    crowd.earlier.kill("again", "and-again")
    assert "is not the one that was there before" in crowd.refuses(crowd.earlier.page(crowd.told.reader.cursor).text)


def test_another_store_is_refused(crowd: Crowd, tmp_path: Path) -> None:
    other = Feed(tmp_path / "other.db")
    other.kill(*(node(number) for number in range(9)))
    for page in (other.page(crowd.told.reader.cursor).text, other.page().text):
        assert "another one" in crowd.refuses(page)
    other.close()


def test_an_earlier_epoch_is_refused(crowd: Crowd) -> None:
    crowd.earlier.begin_epoch(1)
    for asked in (crowd.told.reader.cursor, FeedCursor()):
        assert "an epoch that ended" in crowd.refuses(crowd.earlier.page(asked).text)


def test_a_later_epoch_is_told_anew_and_not_otherwise(crowd: Crowd) -> None:
    crowd.earlier.begin_epoch(9_000_000_000)
    crowd.earlier.kill(node(9))
    known = crowd.told.reader.cursor
    gap = crowd.earlier.page(FeedCursor(known.since, known.position)).text
    with pytest.raises(PageProblem, match="those after 0 must come next"):
        crowd.told.take(gap)
    assert len(crowd.told.view.deaths) == 3
    page = crowd.earlier.page(known).text
    assert said(page)["since"] == 0
    crowd.told.reader.begin(crowd.told.view.head)
    news = crowd.told.take(page)
    assert news is not None
    assert news.anew
    assert set(crowd.told.view.deaths) == {node(1), node(2), "task-3", node(9)}


def test_a_page_for_another_follower_is_refused(crowd: Crowd) -> None:
    known = crowd.told.reader.cursor
    fewer = FeedCursor(known.since - 1, known.position, known.epoch)
    more = FeedCursor(known.since + 1, known.position, known.epoch)
    for asked in (fewer, more):
        assert "after 3 must come next" in crowd.refuses(crowd.feed.page(asked).text)
        crowd.told.reader.begin(crowd.known)
        crowd.told.view.head = crowd.known


def test_a_page_for_another_position_or_none_is_refused(crowd: Crowd) -> None:
    known = crowd.told.reader.cursor
    for position in (0, known.position - 1, known.position + 1):
        page = crowd.feed.page(FeedCursor(known.since, position, known.epoch)).text
        with pytest.raises(PageProblem, match="does not give the hash at position 4"):
            crowd.told.take(page)


def test_all_told_anew_is_refused_where_only_news_are_due(crowd: Crowd) -> None:
    known = crowd.told.reader.cursor
    page = crowd.feed.page(FeedCursor(0, known.position, known.epoch)).text
    assert "after 0, but those after 3" in crowd.refuses(page)


def test_a_page_that_was_taken_is_not_taken_again(crowd: Crowd) -> None:
    page = crowd.feed.page(crowd.told.reader.cursor).text
    assert crowd.told.take(page) is not None
    crowd.refuses(page, kind=PageProblem)


def test_pages_out_of_order_and_gaps_between_them_are_refused(feed: Feed) -> None:
    feed.kill(*(node(number) for number in range(9)))
    first, second, third = feed.pages(at_most=3)
    for pages in ((second,), (third,), (first, third), (first, first), (first, second, second), (first, second, first)):
        told = ReaderWithView()
        told.take(*pages[:-1])
        with pytest.raises(PageProblem):
            told.take(pages[-1])
        assert told.view.head is None
    told = ReaderWithView()
    assert told.take(first, second, third) is not None


def test_an_epoch_that_begins_amid_pages_is_told_from_its_start(feed: Feed) -> None:
    feed.kill(*(node(number) for number in range(9)))
    told = ReaderWithView()
    first = feed.page(at_most=3)
    told.take(first.text)
    feed.begin_epoch(9_000_000_000)
    with pytest.raises(PageProblem, match="after 0 must come next"):
        told.take(feed.page(FeedCursor(first.then.since, first.then.position), at_most=3).text)
    told.reader.begin(None)
    told.take(first.text)
    news = told.take(*feed.pages(told.reader.cursor, at_most=3))
    assert news is not None
    assert len(news.deaths) == 9
    assert news.head == feed.head()


def test_an_epoch_that_begins_amid_pages_drops_what_they_said(crowd: Crowd) -> None:
    crowd.told.take(crowd.feed.page(crowd.told.reader.cursor, at_most=1).text)
    assert crowd.told.reader.is_amid
    crowd.earlier.begin_epoch(9_000_000_000)
    crowd.earlier.kill(node(9))
    crowd.told.catch_up(crowd.earlier, at_most=2)
    assert set(crowd.told.view.deaths) == {node(1), node(2), "task-3", node(9)}
    assert crowd.told.view.head == crowd.earlier.head()


def test_what_dies_while_pages_are_read_is_in_the_last_of_them(feed: Feed) -> None:
    feed.kill(*(node(number) for number in range(5)))
    told = ReaderWithView()
    told.take(feed.page(at_most=3).text)
    feed.kill(*(node(number) for number in range(10, 13)))
    told.catch_up(feed, at_most=3)
    assert len(told.view.deaths) == 8
    assert told.view.head == feed.head()


def test_a_store_put_back_while_pages_are_read_is_refused(feed: Feed, tmp_path: Path) -> None:
    feed.kill(*(node(number) for number in range(5)))
    copy = feed.copied(tmp_path / "copy.db")
    feed.kill(node(10))
    copy.kill(node(11))
    told = ReaderWithView()
    first = feed.page(at_most=3)
    told.take(first.text)
    with pytest.raises(StoreProblem, match="is not the one that was there before"):
        told.take(copy.page(first.then).text)
    copy.close()


def test_readers_forget_what_is_forgotten_and_no_kids(feed: Feed) -> None:
    feed.kill(node(1), f"kid:{OTHER.kid}", node(2), at=NOW - 10)
    feed.kill(node(3))
    early = ReaderWithView()
    early.catch_up(feed)
    feed.forget(NOW)
    early.catch_up(feed)
    late = ReaderWithView()
    news = late.take(feed.page().text)
    assert news is not None
    assert news.lasting == 1
    for told in (early, late):
        assert set(told.view.deaths) == {f"kid:{OTHER.kid}", node(3)}


def test_who_missed_what_is_forgotten_is_told_anew(feed: Feed) -> None:
    feed.kill(node(1), at=NOW - 10)
    told = ReaderWithView()
    told.catch_up(feed)
    feed.kill(node(2), at=NOW - 10)
    feed.kill(node(3))
    feed.forget(NOW)
    news = told.take(feed.page(told.reader.cursor).text)
    assert news is not None
    assert news.anew
    assert set(told.view.deaths) == {node(3)}


def test_what_is_forgotten_amid_pages_begins_them_again(feed: Feed) -> None:
    feed.kill(*(node(number) for number in range(4)), at=NOW - 10)
    feed.kill(*(node(number) for number in range(4, 8)))
    told = ReaderWithView()
    first = feed.page(at_most=5)
    told.take(first.text)
    feed.forget(NOW)
    with pytest.raises(PageProblem, match="must start again"):
        told.take(feed.page(first.then, at_most=5).text)
    told.reader.begin(told.view.head)
    told.catch_up(feed)
    assert set(told.view.deaths) == {node(number) for number in range(4, 8)}


def test_a_page_of_a_key_known_as_revoked_is_refused(feed: Feed) -> None:
    told = ReaderWithView()
    told.catch_up(feed)
    feed.kill(f"kid:{KEY.kid}")
    told.catch_up(feed)
    assert f"kid:{KEY.kid}" in told.view.deaths
    with pytest.raises(PageProblem, match="was revoked"):
        told.take(feed.page(told.reader.cursor).text)
    feed.signer = OTHER.feed_signer()
    assert told.take(feed.page(told.reader.cursor).text) is not None


@settings(max_examples=repeated(40))
@given(st.data())
def test_pages_of_any_split_lead_to_the_view_of_one(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        feed = Feed(Path(folder) / "capx.db")
        told = ReaderWithView()
        count = 0
        for _ in range(data.draw(st.integers(1, 6))):
            step = data.draw(st.sampled_from(["nodes", "kid", "instant", "forget", "note", "read"]))
            if step == "nodes":
                keys = [node(count + number) for number in range(data.draw(st.integers(1, 5)))]
                feed.kill(*keys, at=NOW + count)
                count += len(keys)
            elif step == "kid":
                feed.kill(f"kid:{b64u(count.to_bytes(8))}", at=NOW + count)
            elif step == "instant":
                feed.kill(f"issued:{NOW + count}", at=NOW + count)
            elif step == "forget":
                feed.forget(NOW + data.draw(st.integers(0, count)))
            elif step == "note":
                feed.note()
            else:
                told.catch_up(feed, at_most=data.draw(st.integers(1, 4)))
        told.catch_up(feed, at_most=data.draw(st.integers(1, 4)))
        straight = View()
        source = feed.store.source()
        straight.learn(source.news(None))
        source.close()
        assert list(told.view.deaths.items()) == list(straight.deaths.items())
        assert told.view.head == straight.head
        assert told.view.revoked_until >= straight.revoked_until
        feed.close()


# What is asked


def test_a_question_comes_back_from_the_query_of_its_url() -> None:
    for asked in (FeedCursor(), FeedCursor(3, 4), FeedCursor(3, 4, "x.1"), FeedCursor.of(Head("x.1", 2, b"h" * 32, 1))):
        assert FeedCursor.read(asked.query()) == asked
    assert FeedCursor.read({}) == FeedCursor()


@pytest.mark.parametrize(
    "query",
    [
        {"since": "-1"},
        {"since": "01"},
        {"since": ""},
        {"since": "1.0"},
        {"since": "٣"},
        {"position": "9" * 16},
        {"position": "9" * 5000},
        {"epoch": ""},
        {"epoch": "x"},
        {"epoch": "x.1\n"},
        {"until": "1"},
    ],
)
def test_what_is_no_question_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        FeedCursor.read(query)


# Imports


def printed(probe: str) -> str:
    return subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.strip()


def test_capx_is_imported_without_what_signs_or_fetches() -> None:
    assert printed("import sys, capx; print([n for n in ('nacl', 'httpx') if n in sys.modules])") == "[]"


def test_a_ring_gives_keys_without_importing_what_signs() -> None:
    keys = "capx.KeyRing(capx.RootKey.generate()).audience_keys('crm')"
    assert printed(f"import sys, capx; {keys}; print('nacl' in sys.modules)") == "False"
