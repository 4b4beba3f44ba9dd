"""Replay where three clocks differ: those of the agent, and of two processes that share a store on different hosts.

Each clock is within 5 seconds of the true time. A process takes a presentation that was made 5 seconds ahead of its own
clock. So the process whose clock is ahead may have burnt one that is good for 75 seconds more by the clock behind.
"""

import pytest

from capx.resource.replay import Replay
from capx.store.protocols import Store
from capx.tokens.binding import ToolCall
from tests.labs.lab import NOW, Lab, codes, minted
from tests.store.conftest import Places

CAPABILITY = minted()


class Hosts:
    """Two processes of one audience, whose clocks are 10 seconds apart, and the agent that calls them."""

    def __init__(self, store: Store, places: Places) -> None:
        self._places = places
        self._store = store
        self.ahead = self.started()
        self.behind = self.started()
        self.true_time(NOW)

    def started(self) -> Lab:
        """A process that has just started."""
        return Lab(replay=Replay.store(self._places.again(self._store)))

    def true_time(self, now: float) -> None:
        self.ahead.clock.now = now + 5
        self.behind.clock.now = now - 5

    def made(self, at: int, name: str = "x") -> str:
        """A presentation of an agent whose clock says `at`."""
        return CAPABILITY.present(ToolCall("a.read", {"name": name}), now=at).text

    def codes(self, host: Lab, token: str, name: str = "x") -> tuple[str, ...]:
        return codes(host.decide(token, args={"name": name}))

    def put_an_older_copy_in_place(self) -> None:
        self._places.tamper(self._store, "DELETE FROM burnt")
        self._places.tamper(self._store, "UPDATE forgotten SET until = 0")


@pytest.fixture
def hosts(store: Store, places: Places) -> Hosts:
    return Hosts(store, places)


@pytest.mark.parametrize("agent", [5, 10], ids=["its clock is ahead", "it states a time that is just accepted"])
def test_one_used_before_a_rollback_and_again_at_a_late_host(hosts: Hosts, agent: int) -> None:
    used = hosts.made(NOW + agent)
    assert hosts.codes(hosts.ahead, used) == ()
    assert hosts.codes(hosts.behind, hosts.made(NOW - 5)) == ()
    hosts.put_an_older_copy_in_place()
    assert hosts.codes(hosts.behind, hosts.made(NOW - 5)) == ("unavailable",)
    for later in range(agent, 80):
        hosts.true_time(NOW + later)
        assert hosts.codes(hosts.behind, used) in {("unavailable",), ("call_window",)}
        if later >= 11:
            assert hosts.codes(hosts.behind, hosts.made(NOW + later)) == (), "what was made since is known"


@pytest.mark.parametrize("agent", [5, 10], ids=["its clock is ahead", "it states a time that is just accepted"])
def test_one_cleared_away_by_a_wild_clock_and_used_again(hosts: Hosts, agent: int) -> None:
    used = hosts.made(NOW + agent)
    assert hosts.codes(hosts.ahead, used) == ()
    hosts.ahead.clock.now = NOW + 1_000
    assert hosts.codes(hosts.ahead, hosts.made(NOW + 1_000)) == ()
    hosts.true_time(NOW)
    hosts.codes(hosts.behind, hosts.made(NOW - 5))
    for later in range(agent, 80):
        hosts.true_time(NOW + later)
        assert hosts.codes(hosts.behind, used) in {("replayed",), ("call_window",)}
    assert hosts.codes(hosts.behind, hosts.made(NOW + 79)) == (), "and the store recovers"


def test_one_used_long_ago_is_refused_at_a_late_host(hosts: Hosts) -> None:
    used, old = hosts.made(NOW - 64), hosts.made(NOW - 65, "old")
    hosts.true_time(NOW - 60)
    assert hosts.codes(hosts.ahead, used) == ()
    hosts.true_time(NOW)
    # The host ahead clears away what has passed.
    assert hosts.codes(hosts.ahead, hosts.made(NOW)) == ()
    assert hosts.codes(hosts.behind, used) == ("replayed",)
    assert hosts.codes(hosts.behind, old, "old") == (), "it was not used, and its window is open there"
    assert hosts.codes(hosts.behind, old, "old") == ("replayed",)


def test_one_used_before_the_clock_was_set_back_a_minute(hosts: Hosts) -> None:
    used = [hosts.made(NOW + second) for second in range(0, 200, 5)]
    for second, token in zip(range(0, 200, 5), used, strict=True):
        hosts.ahead.clock.now = NOW + second
        assert hosts.codes(hosts.ahead, token) == ()
    restarted = hosts.started()
    for second in range(195 - 60, 195 + 80):
        restarted.clock.now = NOW + second
        codes = {hosts.codes(restarted, token) for token in used}
        assert codes <= {("replayed",), ("call_window",)}
