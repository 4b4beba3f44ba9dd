"""A saved page as a view of deaths."""

import math
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from capx.errors import KeyProblem
from capx.resource.feed.client import FeedSource
from capx.resource.feed.snapshot import Snapshot
from capx.store.records import News
from tests.labs.feeding import KEY, KEYS, NOW, OTHER, Feed, FeedApp, node, replaced
from tests.labs.lab import Lab, minted
from tests.labs.processes import in_a_child
from tests.labs.serving import served


class Saved:
    """A feed, the file that it is saved in, and who reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.feed = Feed(folder / "capx.db")
        self.path = folder / "deaths.json"
        self.now = float(NOW)
        self.snapshot = Snapshot(self.path, KEYS, wall=lambda: self.now)

    def save(self, *texts: str) -> None:
        replaced(self.path, "\n".join(texts or self.feed.pages(now=self.now)))

    def refuses(self, *texts: str) -> str:
        """The file is refused, and changes nothing."""
        deaths, age = dict(self.snapshot.deaths), self.snapshot.age()
        self.save(*texts)
        assert self.snapshot.age() == age
        assert self.snapshot.deaths == deaths
        return str(self.snapshot.problem)


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[Saved]:
    made = Saved(tmp_path)
    yield made
    made.feed.close()


def test_a_saved_page_is_a_view_that_is_as_old_as_it_says(saved: Saved) -> None:
    saved.feed.kill(node(1), "issued:1700000000")
    saved.save()
    assert saved.snapshot.age() == 0
    assert saved.snapshot.deaths[node(1)] == "revoked"
    assert saved.snapshot.revoked_until == 1_700_000_000
    saved.now += 3600
    assert saved.snapshot.age() == 3600


def test_pages_line_by_line_are_one_view(saved: Saved) -> None:
    saved.feed.kill(*(node(number) for number in range(9)))
    saved.save(*saved.feed.pages(at_most=2))
    assert saved.snapshot.age() == 0
    assert len(saved.snapshot.deaths) == 9
    saved.path.write_text(saved.path.read_text() + "\n")
    assert saved.snapshot.age() == 0
    assert saved.snapshot.problem is None


def test_what_died_later_may_be_added_to_the_file(saved: Saved) -> None:
    saved.feed.kill(node(1))
    first = saved.feed.page(now=NOW - 60)
    saved.save(first.text)
    assert saved.snapshot.age() == 60
    saved.feed.kill(node(2))
    saved.save(first.text, saved.feed.page(first.then).text)
    assert saved.snapshot.age() == 0
    assert set(saved.snapshot.deaths) == {node(1), node(2)}


def test_what_was_added_and_cut_short_is_refused_whole(saved: Saved) -> None:
    saved.feed.kill(node(1))
    first = saved.feed.page(now=NOW - 60)
    saved.save(first.text)
    assert saved.snapshot.age() == 60
    saved.feed.kill(node(2), node(3), node(4))
    more = saved.feed.page(first.then, at_most=2)
    assert "ends before its last page" in saved.refuses(first.text, more.text)
    saved.save(first.text, more.text, saved.feed.page(more.then).text)
    assert saved.snapshot.age() == 0


def test_an_instant_that_was_forgotten_still_kills(saved: Saved) -> None:
    saved.feed.kill("issued:1700000000", at=NOW - 10)
    saved.save()
    assert saved.snapshot.age() == 0
    saved.feed.forget(NOW)
    saved.feed.kill(node(1))
    saved.save()
    assert saved.snapshot.age() == 0
    assert set(saved.snapshot.deaths) == {node(1)}
    assert saved.snapshot.revoked_until == 1_700_000_000


def test_a_file_that_was_replaced_is_read_again(saved: Saved) -> None:
    saved.save()
    assert saved.snapshot.age() == 0
    saved.feed.kill(node(1))
    saved.now += 60
    assert saved.snapshot.age() == 60
    saved.save()
    assert saved.snapshot.age() == 0
    assert node(1) in saved.snapshot.deaths


def test_without_a_file_nothing_is_known_until_there_is_one(saved: Saved) -> None:
    assert saved.snapshot.age() == math.inf
    assert "cannot be read: No such file" in str(saved.snapshot.problem)
    saved.save()
    assert saved.snapshot.age() == 0
    assert saved.snapshot.problem is None
    saved.path.unlink()
    saved.now += 5
    assert saved.snapshot.age() == 5
    assert saved.snapshot.problem is not None


def test_a_file_from_the_future_is_refused(saved: Saved) -> None:
    saved.save(saved.feed.page(now=NOW + 6).text)
    assert saved.snapshot.age() == math.inf
    assert "set the clock" in str(saved.snapshot.problem)


def test_a_clock_that_is_set_back_makes_nothing_younger(saved: Saved) -> None:
    saved.save()
    saved.now += 100
    assert saved.snapshot.age() == 100
    saved.now -= 100
    assert saved.snapshot.age() == 100


def test_a_snapshot_cut_short_unsigned_or_foreign_is_refused(saved: Saved) -> None:
    saved.feed.kill(*(node(number) for number in range(5)))
    pages = list(saved.feed.pages(at_most=2))
    assert "ends before its last page" in saved.refuses(*pages[:-1])
    assert "refused" in saved.refuses(*pages[1:])
    assert "refused" in saved.refuses(pages[0], pages[2])
    assert "refused" in saved.refuses(pages[-1][:-10])
    assert "refused" in saved.refuses(*pages, "", "")
    assert "refused" in saved.refuses("\n" + pages[0])
    assert "ends before its last page" in saved.refuses("")
    assert "refused" in saved.refuses("x" * (3 << 20))
    assert "refused" in saved.refuses("\ufeff" + pages[0])
    only = {KEY.kid: KEYS[KEY.kid]}
    saved.feed.signer = OTHER.feed_signer()
    saved.save()
    snapshot = Snapshot(saved.path, only, wall=lambda: saved.now)
    assert snapshot.age() == math.inf
    assert "not among the feed keys" in str(snapshot.problem)


def test_a_snapshot_that_went_back_or_is_foreign_is_refused(saved: Saved, tmp_path: Path) -> None:
    saved.feed.kill(node(1))
    earlier = list(saved.feed.pages())
    copy = saved.feed.copied(tmp_path / "copy.db")
    saved.feed.kill(node(2))
    saved.save()
    assert saved.snapshot.age() == 0
    assert "went back" in saved.refuses(*earlier)
    copy.kill(node(3))
    assert "is not the one that was there before" in saved.refuses(*copy.pages())
    copy.begin_epoch(1)
    assert "an epoch that ended" in saved.refuses(*copy.pages())
    other = Feed(tmp_path / "other.db")
    other.kill(node(1), node(2), node(4))
    assert "another one" in saved.refuses(*other.pages())
    copy.begin_epoch(9_000_000_000)
    saved.save(*copy.pages())
    assert saved.snapshot.age() == 0
    assert set(saved.snapshot.deaths) == {node(1), node(3)}
    other.close()
    copy.close()


def test_an_older_page_of_one_head_changes_no_age(saved: Saved) -> None:
    older = saved.feed.page(now=NOW - 100).text
    saved.save()
    assert saved.snapshot.age() == 0
    saved.save(older)
    assert saved.snapshot.age() == 0
    saved.now += 10
    assert saved.snapshot.age() == 10


def test_what_a_revoked_key_signs_is_refused_thereafter(saved: Saved) -> None:
    saved.feed.kill(f"kid:{KEY.kid}")
    saved.save()
    assert saved.snapshot.age() == 0
    saved.now += 60
    saved.save()
    assert saved.snapshot.age() == 60
    assert "was revoked" in str(saved.snapshot.problem)
    saved.feed.signer = OTHER.feed_signer()
    saved.save()
    assert saved.snapshot.age() == 0


def test_what_is_no_file_holds_up_no_question(saved: Saved) -> None:
    os.mkfifo(saved.path)
    assert saved.snapshot.age() == math.inf
    assert "not a regular file" in str(saved.snapshot.problem)
    saved.path.unlink()
    saved.path.mkdir()
    assert saved.snapshot.age() == math.inf
    assert saved.snapshot.problem is not None


def test_what_is_refused_is_not_read_at_each_question(saved: Saved) -> None:
    saved.save(*(["x" * 1_000_000] * 20))
    assert saved.snapshot.age() == math.inf
    problem = saved.snapshot.problem
    saved.snapshot.age()
    assert saved.snapshot.problem is problem


def test_no_reader_sees_less_than_was_known_while_a_file_is_read(saved: Saved) -> None:
    saved.feed.kill(*(f"task-{number}" for number in range(2_000)))
    saved.save(*saved.feed.pages(at_most=500))
    saved.snapshot.age()
    done = threading.Event()
    fewest = [2_000]

    def look() -> None:
        while not done.is_set():
            fewest[0] = min(fewest[0], len(saved.snapshot.deaths))

    looking = threading.Thread(target=look)
    looking.start()
    for number in range(10):
        saved.feed.kill(f"more-{number}")
        first = saved.feed.page(at_most=1_000)
        saved.save(first.text, *saved.feed.pages(first.then))
        assert saved.snapshot.age() == 0
    done.set()
    looking.join()
    assert fewest == [2_000]


def test_a_snapshot_without_a_key_is_a_mistake_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyProblem):
        Snapshot(tmp_path / "deaths.json", {})


def test_the_pages_of_a_feed_are_a_snapshot_for_a_verifier(saved: Saved) -> None:
    app = FeedApp(saved.feed)
    app.clock = lambda: saved.now
    lab = Lab(liveness=saved.snapshot)
    saved.now = lab.clock.now
    with served(app) as url, closing(FeedSource(url, KEYS, wall=lambda: saved.now)) as source:
        assert lab.codes(minted()) == ("unknown_liveness",)
        saved.save(*source.pages())
        assert lab.codes(minted()) == ()
        saved.feed.kill("T1", reason="task_completed")
        saved.save(*source.pages())
        assert lab.codes(minted()) == ("task_completed",)
    lab.clock.now = saved.now = saved.now + 31
    assert lab.codes(minted(task="T2")) == ("stale_liveness",)


def test_a_child_forked_amid_reading_reads_the_file_itself(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    saved.feed.kill(node(1))
    saved.save()
    reader = saved.snapshot._reader  # to fork in the middle of reading
    take = reader.take
    verdicts: list[bool] = []

    def knows_it() -> bool:
        monkeypatch.undo()
        return saved.snapshot.age() == 0 and node(1) in saved.snapshot.deaths

    def forked_amid(text: str, *, now: float) -> News | None:
        verdicts.append(in_a_child(knows_it))
        return take(text, now=now)

    monkeypatch.setattr(reader, "take", forked_amid)
    assert saved.snapshot.age() == 0
    assert verdicts == [True]
