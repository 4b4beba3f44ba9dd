"""The same facts of an authority in this process and of one over the socket of a process that serves it."""

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from capx.authority.authority import Authority
from capx.authority.remote.client import RemoteAuthority
from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u
from capx.errors import InvalidCaveat, InvalidRequest, UnknownTask
from capx.store.log import check
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx_caveats import (
    Call,
    Expires,
    UntilCompleted,
    absent,
    action,
    budget,
    expires,
    max_hops,
    prefix,
    until_completed,
)
from tests.labs.postgres import shared_server
from tests.server.conftest import new_home, serving

Operations = Authority | RemoteAuthority


class Both:
    """The operations under test, and an authority beside them on the same store, which decides as a resource does."""

    def __init__(self, operations: Operations, beside: Authority) -> None:
        self.operations = operations
        self.beside = beside

    def decide(self, bundle: Bundle, wanted: str, tenant: str | None = None) -> str:
        """The id of the decision on a call."""
        audience = wanted.partition(".")[0]
        verifier = self.beside.verifier(audience)
        received = ToolCall(wanted)
        shown = bundle.present(audience, received).text
        decision = verifier.decide(shown, received, Call(wanted, tenant=tenant))
        assert self.beside.flush()
        return decision.id


@pytest.fixture(params=["embedded", "remote", "remote over PostgreSQL"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Both]:
    with ExitStack() as stack:
        database = None
        if "PostgreSQL" in request.param:
            database = shared_server().database()
            stack.callback(shared_server().give_back, database)
        home = new_home(tmp_path, database and shared_server().url(database))
        yield stack.enter_context(opened_twice(home, embed=request.param == "embedded"))


@contextmanager
def opened_twice(home: Path, *, embed: bool) -> Generator[Both]:
    with Authority.open_home(home) as beside:
        if embed:
            with Authority.open_home(home) as authority:
                yield Both(authority, beside)
        else:
            with serving(home) as served, RemoteAuthority(served.place) as client:
                yield Both(client, beside)


def test_what_was_opened_is_a_task_with_a_bundle(both: Both) -> None:
    opened = both.operations.open(
        allow=["crm.read", "accounts.read@crm", action("slides.write", args={"deck": "deck-42"}), ("a.b", "other")],
        tenant="Acme",
        purpose="qbr",
        expires="2h",
    )
    assert opened.bundle.audiences == ("crm", "slides", "other", "authority")
    assert (opened.tenant, opened.purpose) == ("Acme", "qbr")
    assert abs(opened.expires - time.time() - 7200) < 60
    task = both.operations.task(opened.id)
    assert both.operations.tasks() == [task] == both.beside.tasks()
    assert (task.root, task.state, task.expires) == (opened.root, "active", opened.expires)
    assert both.beside.decision(both.decide(opened.bundle, "crm.read", "Acme")) is not None


def test_a_task_is_opened_for_a_key_and_dies_with_it(both: Both) -> None:
    planner, other = AgentKey.generate("planner"), AgentKey.generate("other")
    opened = both.operations.open(allow=["crm.read"], agent_key=planner.public)
    assert opened.holder == opened.bundle.holder == both.operations.task(opened.id).holder == planner.public
    assert both.operations.graph(opened.id).trees[0].holder == planner.public
    call = both.decide(opened.bundle.with_key(planner), "crm.read")
    assert (event := both.operations.decision(call)) is not None
    assert event.facts()["outcome"] == "allowed"
    with pytest.raises(InvalidRequest, match="key"):
        both.operations.open(allow=["crm.read"], agent_key="ed25519:AAAA")
    foreseen = both.operations.revoke(key=planner.public, dry_run=True)
    assert foreseen.dying is not None
    assert len(foreseen.dying.capabilities) == 2
    (killed,) = both.operations.revoke(key=planner.public).killed
    assert (killed.key, killed.again) == (planner.public, False)
    assert both.operations.graph(opened.id).trees[0].node.died_with == planner.public
    with pytest.raises(InvalidRequest, match="was revoked, and nothing is bound or sealed to it"):
        both.operations.open(allow=["crm.read"], agent_key=planner.public)
    assert both.operations.open(allow=["crm.read"], agent_key=other.public).holder == other.public


def test_the_caveats_of_a_task_restrict_it(both: Both) -> None:
    caveats = [max_hops(0), expires("5m"), budget("calls", "1"), until_completed("other")]
    opened = both.operations.open(allow=["crm.read"], caveats=caveats)
    (block,) = next(iter(opened.bundle)).caveats
    assert {type(caveat).__name__ for caveat in block} >= {"MaxHops", "Budget"}
    assert sum(isinstance(caveat, UntilCompleted) for caveat in block) == 2
    assert min(caveat.at for caveat in block if isinstance(caveat, Expires)) < time.time() + 360
    both.decide(opened.bundle, "crm.read")
    both.decide(opened.bundle, "crm.read")
    outcomes = [event.facts()["outcome"] for event in both.operations.find()]
    assert outcomes == ["allowed", "denied"]
    (counter,) = both.operations.counters()
    assert (counter.counter, counter.unit, counter.spent) == (opened.id, "calls", Decimal(1))
    assert both.operations.counters([opened.id, "no id!"]) == [counter]
    assert both.operations.counters(["other"]) == []
    # More than the head of one request can hold.
    assert both.operations.counters([f"{number:064}" for number in range(1_000)] + [opened.id] * 2) == [counter]
    assert both.operations.counters([]) == []


def test_more_is_minted_at_the_root(both: Both) -> None:
    opened = both.operations.open(allow=["crm.read"])
    more = both.operations.mint(opened.id, allow=["crm.write"], expires="10m", caveats=[max_hops(1)])
    assert more.node == opened.bundle.node
    with pytest.raises(InvalidRequest, match="a capability cannot expire later"):
        both.operations.mint(opened.id, allow=["crm.write"], expires="2h")


def test_an_end_is_final_and_told_once(both: Both) -> None:
    opened = both.operations.open(allow=["crm.read"])
    dry = both.operations.complete(opened.id, dry_run=True)
    assert dry.dying is not None
    assert len(dry.dying.capabilities) == 2
    assert both.operations.task(opened.id).state == "active"
    ended = both.operations.complete(opened.id)
    assert (ended.end, ended.again) == ("completed", False)
    again = both.operations.withdraw(opened.id)
    assert (again.end, again.again, again.position) == ("completed", True, ended.position)
    assert both.operations.task(opened.id).position == ended.position
    with pytest.raises(InvalidRequest, match="is completed: it gets no more capabilities"):
        both.operations.mint(opened.id, allow=["crm.write"])


def test_a_revocation_names_one_thing(both: Both) -> None:
    opened = both.operations.open(allow=["crm.read"], tenant="Acme")
    child = opened.bundle.delegate(to="child")
    both.decide(child, "crm.read", "Acme")
    assert both.operations.revoke(child, dry_run=True).dying is not None
    revoked = both.operations.revoke(child)
    assert [one.again for one in revoked.killed] == [False]
    assert child.node is not None
    assert [one.again for one in both.operations.revoke(child.node).killed] == [True]
    assert both.operations.revoke(b64u(child.node)).position == revoked.position
    (node,) = [node for node in both.operations.graph(opened.id).nodes() if node.labels == ("child",)]
    assert (node.dead, node.allowed) == ("revoked", 1)
    assert both.operations.graph() == both.beside.graph()
    assert [task.id for task in both.operations.tasks(naming=b64u(child.node))] == [opened.id]
    assert both.operations.tasks(naming="A" * 22) == []
    later = both.operations.open(allow=["crm.read"])
    newest = both.operations.graph(limit=1)
    assert ([tree.task for tree in newest.trees], newest.older) == ([later.id], 1)
    assert len(both.operations.revoke(where={"tenant": "Acme"}).killed) == 1
    assert both.operations.revoke(where={"tenant": "Acme"}).position is None
    with pytest.raises(InvalidRequest, match="give exactly one thing to revoke"):
        both.operations.revoke()
    with pytest.raises(InvalidRequest, match="give exactly one thing to revoke"):
        both.operations.revoke("x", kid="y")


def test_an_instant_is_over_when_its_revocation_answers(both: Both) -> None:
    before = both.operations.open(allow=["crm.read"])
    revoked = both.operations.revoke(issued=int(time.time()))
    after = both.operations.open(allow=["crm.read"])
    assert revoked.killed[0].key.startswith("issued:")
    outcomes = [both.beside.decision(both.decide(one.bundle, "crm.read")) for one in (before, after)]
    assert [event and event.facts()["outcome"] for event in outcomes] == ["denied", "allowed"]


def test_a_kid_dies_with_all_that_it_minted(both: Both) -> None:
    opened = both.operations.open(allow=["crm.read"])
    (kid,) = both.operations.kids()
    assert both.operations.kids() == {kid: 1}
    both.operations.revoke(kid=kid)
    found = both.beside.decision(both.decide(opened.bundle, "crm.read"))
    assert found is not None
    assert found.facts()["outcome"] == "denied"
    with pytest.raises(InvalidRequest, match="was revoked: run capx keys add"):
        both.operations.open(allow=["crm.read"])


def test_the_log_is_told_whole_from_both_ends(both: Both) -> None:
    with both.beside.store.write() as transaction:
        for number in range(2_500):
            transaction.append("noted", b'{"number":%d}' % number, at=1)
    events = list(both.operations.log())
    assert len(events) == 2_500
    assert check(events) == both.operations.check()
    assert list(both.operations.newest_first()) == events[::-1]
    assert list(both.operations.log(2_400)) == events[2_400:]
    assert list(both.operations.log(10, limit=1_500)) == events[10:1_510]
    assert list(both.operations.log(10, limit=0)) == []
    assert list(both.operations.log(9_999)) == []


def test_an_empty_log_has_no_events(both: Both) -> None:
    assert list(both.operations.log()) == list(both.operations.newest_first()) == list(both.operations.find()) == []


def test_a_log_is_told_up_to_when_it_was_asked_for(both: Both) -> None:
    both.operations.open(allow=["crm.read"])
    told = both.operations.log()
    both.operations.open(allow=["crm.read"])
    assert [event.position for event in told] == [1, 2, 3]


def test_decisions_are_found_by_what_they_were(both: Both) -> None:
    opened = both.operations.open(allow=["crm.read"], tenant="Acme")
    child = opened.bundle.delegate(to="child")
    first = both.decide(opened.bundle, "crm.read", "Acme")
    second = both.decide(child, "crm.read", "Acme")
    third = both.decide(opened.bundle, "crm.write", "Acme")

    def ids(**query: object) -> list[str]:
        return [event.facts()["id"] for event in both.operations.find(**query)]  # type: ignore[arg-type]

    assert ids() == [first, second, third]
    assert ids(agent="child") == [second]
    assert ids(action="crm.*", denied=True) == [third]
    assert ids(reasons=("expired", "action_not_allowed")) == [third]
    assert ids(reasons=("expired",)) == []
    assert ids(tenant="Acme", task=opened.id, limit=2) == [second, third]
    assert ids(limit=0) == []
    assert child.node is not None
    assert opened.bundle.node is not None
    assert ids(node=b64u(child.node)) == [second]
    assert ids(node=b64u(opened.bundle.node), limit=1) == [third]
    events = list(both.operations.find())
    shown = [event.facts()["presentation"] for event in events]
    assert ids(presentation=shown[0]) == [first]
    assert ids(presentation=shown[0], tenant="Globex") == []
    assert ids(after=events[0].position) == [second, third]
    assert ids(after=events[0].position, until=events[1].position) == [second]
    assert ids(until=events[1].position, limit=1) == [second]
    assert both.operations.end() == events[-1].position
    assert ids(limit=5_000) == [first, second, third]
    assert ids(since=int(time.time()) + 100) == []
    assert ids(tenant="Bolt") == []
    event = both.operations.decision(first)
    assert event == both.beside.decision(first)
    assert both.operations.decision("none") is None
    assert both.operations.decision("no id at all/../x") is None
    with pytest.raises(UnknownTask):
        both.operations.find(task="none")
    with pytest.raises(InvalidRequest, match="is not a tenant"):
        both.operations.find(tenant="\n")


def test_followers_that_lag_are_told(both: Both) -> None:
    opened = both.operations.open(allow=["crm.read"])
    both.beside.store.sighted("crm/1", 0, now=int(time.time()))
    assert both.operations.unaware() == []
    both.operations.complete(opened.id)
    assert [one.follower for one in both.operations.unaware()] == ["crm/1"]
    both.beside.store.sighted("crm/1", 1, now=int(time.time()))
    assert both.operations.unaware(within=10.0) == []


def test_what_protects_nothing_is_forgotten(both: Both) -> None:
    long_ago = int(time.time()) - 3 * 86_400
    with both.beside.store.write() as transaction:
        event = transaction.append("revoked", b'{"id":"x"}', at=long_ago)
        transaction.kill(b"x" * 16, "revoked", at=long_ago, position=event.position)
        transaction.append("intent_withdrawn", b"{}", at=int(time.time()) - 86_400)
    assert both.operations.prune().deaths == 1


@pytest.mark.parametrize("task", ["none", "", "..", "a/b", "no id", "\N{SNOWMAN}", "x" * 200, "last?x=1#y"])
def test_a_task_that_there_is_not_is_the_same_error(both: Both, task: str) -> None:
    for ask in (both.operations.task, both.operations.complete, both.operations.withdraw, both.operations.graph):
        with pytest.raises(UnknownTask, match="there is no task"):
            ask(task)
    with pytest.raises(UnknownTask, match="there is no task"):
        both.operations.mint(task, allow=["crm.read"])


def test_what_cannot_be_meant_is_the_same_error(both: Both) -> None:
    refusals: list[str] = []
    for allow in ([], ["authority.read"], ["no action!"], ["crm.read@"], [("no action!", "crm")], ["a.b@UPPER"]):
        with pytest.raises(InvalidRequest) as refused:
            both.operations.open(allow=allow)
        refusals.append(str(refused.value))
    assert "nothing is allowed: name at least one action" in refusals
    for settings in ({"tenant": "\n"}, {"purpose": ""}, {"expires": 1}, {"expires": "1000d"}):
        with pytest.raises(InvalidRequest):
            both.operations.open(allow=["crm.read"], **settings)
    with pytest.raises(InvalidCaveat, match="is not a time"):
        both.operations.open(allow=["crm.read"], expires="soon")
    assert both.operations.tasks() == []


def test_entries_arrive_as_they_were_meant(both: Both) -> None:
    entry = action("crm.read", args={"ref": prefix("Q-"), "note": absent(), "x": 5, "y": 5.5, "z": [None, True]})
    opened = both.operations.open(allow=[entry])
    assert entry.sentence() in str(next(event for event in both.operations.log() if event.position == 2).facts())
    assert opened.bundle.audiences == ("crm", "authority")


def test_positions_have_no_gap_whoever_writes(both: Both) -> None:
    for _ in range(3):
        both.operations.open(allow=["crm.read"])
        both.beside.open(allow=["crm.read"])
    positions = [event.position for event in both.operations.log()]
    assert all(after == before + 1 for before, after in pairwise(positions))
