"""Another authority's store, under the same root keys, does not bring dead tokens back to life."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from capx.authority.authority import Authority
from capx.authority.home import change_keys
from capx.crypto.keys import AudienceKeys, KeyRing
from capx.errors import ConfigurationProblem, KeyProblem
from capx.resource.connection import Connection, connect
from capx.resource.feed.client import FeedSource
from capx.resource.feed.follower import Follower
from capx.resource.feed.snapshot import Snapshot
from capx.resource.replay import Replay
from capx.resource.revocations import StoreLiveness
from capx.store.factory import create_store, open_store
from capx.store.protocols import Store
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.verify.decision import Decision
from capx.verify.protocols import Liveness
from capx.verify.verifier import Verifier
from capx_caveats import Call
from tests.labs.feeding import Feed, FeedApp
from tests.labs.postgres import shared_server
from tests.labs.serving import served
from tests.labs.waiting import until

if TYPE_CHECKING:
    from capx.store.sqlite.store import SQLiteStore


class World:
    """A service of one authority, with a token whose task has ended; and a store under the same root keys."""

    def __init__(self, folder: Path, other: Store) -> None:
        self.folder = folder
        self.other = other
        self.home = Authority.create_home(folder / "home")
        self.home.export_keys("crm").save(folder / "crm.keys")
        self.keys = AudienceKeys.load(folder / "crm.keys", "crm")
        ended = self.home.open(allow=["crm.read"])
        self.home.complete(ended.id)
        self.dead, self.alive = ended.bundle, self.home.open(allow=["crm.read"]).bundle

    def feed(self) -> Feed:
        """The feed that the other authority signs with the root keys of this one."""
        return self.signed(self.other)

    def signed(self, store: Store) -> Feed:
        feed = Feed.__new__(Feed)
        feed.store, feed.signer = cast("SQLiteStore", store), self.home.keyring.active.feed_signer()
        return feed

    def page(self) -> Path:
        path = self.folder / "page"
        path.write_text(self.feed().page(now=time.time()).text)
        return path

    def verifier(self, liveness: Liveness) -> Verifier:
        replay = Replay.process(clock=lambda: time.time() - 1_000)
        return Verifier("crm", self.keys, liveness=liveness, replay=replay)

    def decided(self, by: Liveness | Verifier, bundle: Bundle) -> Decision:
        verifier = by if isinstance(by, Verifier) else self.verifier(by)
        call = ToolCall("crm.read", {})
        return verifier.decide(bundle.candidates("crm", call)[0].present(call).text, call, Call("crm.read", {}))


@pytest.fixture(params=["sqlite", "postgres"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    database = shared_server().database() if request.param == "postgres" else None
    place = str(tmp_path / "other.db") if database is None else shared_server().url(database)
    with contextlib.closing(create_store(place)) as other:
        made = World(tmp_path, other)
        yield made
        made.home.close()
    if database is not None:
        shared_server().give_back(database)


def codes(decision: Decision) -> list[str]:
    return [refusal.code for refusal in decision.refusals]


def problem_of(service: Connection) -> str:
    assert isinstance(service.liveness, Follower | Snapshot)
    return str(service.liveness.problem)


def test_a_service_does_not_use_the_store_of_another(world: World) -> None:
    with contextlib.closing(connect(world.keys, store=world.home.store.place)) as own:
        assert codes(world.decided(own.liveness, world.dead)) == ["task_completed"]
        assert world.decided(own.liveness, world.alive).allowed
    assert world.keys.authority != world.other.authority()
    with pytest.raises(ConfigurationProblem, match="which does not know what was revoked under them"):
        connect(world.keys, store=world.other.place)


def test_a_verifier_denies_by_deaths_of_another(world: World) -> None:
    with contextlib.closing(StoreLiveness(world.other.source())) as liveness:
        verifier = world.verifier(liveness)
        for _ in range(2):
            assert codes(world.decided(verifier, world.dead)) == ["unknown_liveness"]
            assert codes(world.decided(verifier, world.alive)) == ["unknown_liveness"]
        with pytest.raises(ConfigurationProblem, match="use the store or feed of the authority that exported the keys"):
            world.decided(liveness, world.dead)


def test_a_feed_of_another_gives_no_news(world: World) -> None:
    app = FeedApp(world.feed())
    with served(app) as url, contextlib.closing(connect(world.keys, feed=url)) as service:
        until(lambda: "is of authority" in problem_of(service))
        assert codes(world.decided(service.liveness, world.dead)) == ["unknown_liveness"]
        # The right feed is there again: the service has learnt nothing from the other one.
        app.feed = world.signed(world.home.store)
        until(lambda: service.liveness.authority == world.home.id)
        assert codes(world.decided(service.liveness, world.dead)) == ["task_completed"]
        assert world.decided(service.liveness, world.alive).allowed


def test_a_follower_made_by_hand_is_compared_with_the_keys(world: World) -> None:
    with served(FeedApp(world.feed())) as url:
        follower = Follower(FeedSource(url, world.keys.feed))
        with contextlib.closing(follower):
            assert codes(world.decided(follower, world.dead)) == ["unknown_liveness"]
            until(lambda: follower.authority == world.other.authority())
            with pytest.raises(ConfigurationProblem):
                world.decided(follower, world.dead)


def test_a_snapshot_of_another_is_refused(world: World) -> None:
    page = world.page()
    with pytest.raises(ConfigurationProblem, match="follow the feed of the authority that exported the keys"):
        connect(world.keys, snapshot=str(page))
    by_hand = Snapshot(page, world.keys.feed)
    assert codes(world.decided(by_hand, world.dead)) == ["unknown_liveness"]


def test_a_snapshot_is_not_replaced_by_that_of_another(world: World, tmp_path: Path) -> None:
    page = world.page()
    others = page.read_text()
    page.write_text(world.signed(world.home.store).page(now=time.time()).text)
    with contextlib.closing(connect(world.keys, snapshot=str(page))) as service:
        assert codes(world.decided(service.liveness, world.dead)) == ["task_completed"]
        replaced = tmp_path / "beside"
        replaced.write_text(others)
        replaced.rename(page)
        assert world.decided(service.liveness, world.alive).allowed
        assert codes(world.decided(service.liveness, world.dead)) == ["task_completed"]
        assert "is of authority" in problem_of(service)


def test_root_keys_do_not_open_the_store_of_another(world: World) -> None:
    ring = world.home.keyring
    with pytest.raises(KeyProblem, match="put the store and the keys of one authority together"):
        Authority(world.other, ring)
    # Keys that were never in a file name no authority: the one that uses them exports its own name.
    copied = Authority(open_store(world.other.place), KeyRing(ring.active))
    assert copied.export_keys("crm").authority == copied.id != world.home.id
    with pytest.raises(KeyProblem, match="put the store and the keys of one authority together"):
        copied.rekey(ring)
    copied.close()


def test_a_home_with_the_store_of_another_does_not_open(tmp_path: Path) -> None:
    for name in ("one", "two"):
        Authority.create_home(tmp_path / name).close()
    (tmp_path / "one" / "capx.db").rename(tmp_path / "one" / "kept.db")
    (tmp_path / "two" / "capx.db").rename(tmp_path / "one" / "capx.db")
    with pytest.raises(KeyProblem, match="put the store and the keys of one authority together"):
        Authority.open_home(tmp_path / "one")


def test_a_rotated_key_names_the_same_authority(tmp_path: Path) -> None:
    with Authority.create_home(tmp_path / "home") as authority:
        before = authority.id
    ring = change_keys(lambda ring: ring.added(type(ring.active).generate()), tmp_path / "home")
    change_keys(lambda held: held.activated(ring.kids[1]).retired(ring.kids[0]), tmp_path / "home")
    with Authority.open_home(tmp_path / "home") as again:
        assert again.export_keys("crm").authority == again.id == before
