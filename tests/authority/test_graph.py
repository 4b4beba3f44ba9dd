"""The execution graph, as the log has seen it."""

import time
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from capx.authority.authority import Authority
from capx.authority.graph.building import Dead, build
from capx.authority.graph.drawing import mermaid
from capx.authority.graph.graph import Graph, Node, Tree
from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u
from capx.errors import BrokenLog
from capx.store.log import START, Event, Place, following
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.chain import nodes, root_node
from capx.tokens.revocation_key import RevocationKey, of_public
from capx_caveats import Call, allow, budget


@pytest.fixture
def authority() -> Iterator[Authority]:
    with Authority.temporary() as made:
        yield made


def use(authority: Authority, bundle: Bundle, action: str = "crm.read") -> bool:
    token = bundle.present("crm", ToolCall(action)).text
    return authority.verifier("crm").decide(token, ToolCall(action), Call(action)).allowed


def drawn(authority: Authority, task_id: str | None = None) -> Graph:
    assert authority.flush()
    return authority.graph(task_id)


def named(graph: Graph, label: str) -> Node:
    return next(node for node in graph.nodes() if node.label == label)


def outline(node: Node) -> list[Any]:
    return [node.label, *(outline(child) for child in node.children)]


def test_a_task_that_was_opened_is_a_root_with_what_was_minted(authority: Authority) -> None:
    opened = authority.open(allow=["crm.read", "slides.write"], tenant="Acme", purpose="qbr")
    (tree,) = drawn(authority).trees
    assert (tree.task, tree.root, tree.tenant, tree.purpose) == (opened.id, opened.root, "Acme", "qbr")
    assert (tree.node.id, tree.node.label, tree.node.dead) == (b64u(root_node(opened.root)), None, None)
    assert [capability.audience for capability in tree.node.capabilities] == ["crm", "slides", "authority"]
    assert [capability.id for capability in tree.node.capabilities] == [b64u(c.id) for c in opened.bundle]


def test_offline_hops_appear_when_first_used(authority: Authority) -> None:
    opened = authority.open(allow=["crm.*"])
    planner = opened.bundle.delegate(to="planner")
    writer = planner.delegate(to="writer")
    reader = planner.delegate(to="reader", allow=["crm.read"])
    assert outline(drawn(authority).trees[0].node) == [None]
    assert use(authority, writer)
    assert outline(drawn(authority).trees[0].node) == [None, ["planner", ["writer"]]]
    assert use(authority, reader)
    assert not use(authority, reader, "crm.export")
    graph = drawn(authority)
    assert outline(graph.trees[0].node) == [None, ["planner", ["writer"], ["reader"]]]
    seen = named(graph, "reader")
    assert reader.node is not None
    assert (seen.id, seen.allowed, seen.denied) == (b64u(reader.node), 1, 1)
    assert [capability.id for capability in seen.capabilities] == [b64u(next(iter(reader)).id)]
    assert (named(graph, "planner").allowed, named(graph, "planner").capabilities) == (0, ())


def test_a_denial_that_its_call_outlived_does_not_count(authority: Authority) -> None:
    opened = authority.open(allow=["crm.read"])
    reader = opened.bundle.delegate(to="reader")
    narrow = reader.attenuate(allow("crm.notes.read"))
    for bundle in (narrow, narrow, reader, reader, narrow):
        use(authority, bundle)
    seen = named(drawn(authority), "reader")
    assert (seen.allowed, seen.denied) == (2, 1)
    # What was held at the denials is shown all the same.
    assert {capability.id for capability in seen.capabilities} == {
        b64u(next(one for one in bundle if one.audience == "crm").id) for bundle in (reader, narrow)
    }


def used_family(authority: Authority, bundle: Bundle) -> tuple[Bundle, Bundle, Bundle]:
    """The children left and right of a bundle, and below, the child of left; each has called once."""
    left, right = (bundle.delegate(to=name) for name in ("left", "right"))
    below = left.delegate(to="below")
    for held in (left, right, below):
        use(authority, held)
    return left, right, below


def test_below_a_dead_node_all_is_dead_and_siblings_live(authority: Authority) -> None:
    opened = authority.open(allow=["crm.*"])
    left, *_ = used_family(authority, opened.bundle)
    assert left.node is not None
    authority.revoke(b64u(left.node))
    graph = drawn(authority)
    for label in ("left", "below"):
        assert (named(graph, label).dead, named(graph, label).died_with) == ("revoked", b64u(left.node))
        assert {capability.dead for capability in named(graph, label).capabilities} == {"revoked"}
    assert named(graph, "right").dead is None
    authority.complete(opened.id)
    graph = drawn(authority)
    assert named(graph, "left").died_with == b64u(left.node)
    assert (named(graph, "right").dead, named(graph, "right").died_with) == ("task_completed", opened.id)


def test_a_revoked_capability_is_marked_and_its_node_lives(authority: Authority) -> None:
    opened = authority.open(allow=["crm.*"])
    child = opened.bundle.delegate(to="child")
    use(authority, child)
    authority.revoke(b64u(next(iter(child)).id))
    seen = named(drawn(authority), "child")
    assert seen.dead is None
    assert [capability.dead for capability in seen.capabilities] == ["revoked"]


def test_a_dry_run_names_exactly_the_subtree(authority: Authority) -> None:
    opened = authority.open(allow=["crm.*"])
    left, _, below = used_family(authority, opened.bundle)
    assert authority.flush()
    assert left.node is not None
    assert below.node is not None
    dying = authority.revoke(b64u(left.node), dry_run=True).dying
    assert dying is not None
    assert dying.nodes == (b64u(left.node), b64u(below.node))
    assert set(dying.capabilities) == {b64u(next(iter(bundle)).id) for bundle in (left, below)}
    minted = authority.revoke(b64u(next(iter(opened.bundle)).ids[0]), dry_run=True).dying
    assert minted is not None
    assert minted.nodes == ()
    assert len(minted.capabilities) == 4


def test_a_graph_of_one_task_holds_no_other(authority: Authority) -> None:
    first, second = (authority.open(allow=["crm.*"]) for _ in range(2))
    use(authority, second.bundle)
    (tree,) = drawn(authority, second.id).trees
    assert (tree.task, tree.node.allowed) == (second.id, 1)
    assert [tree.task for tree in drawn(authority).trees] == [first.id, second.id]


def test_a_node_that_goes_by_two_names_shows_both(authority: Authority) -> None:
    opened = authority.open(allow=["crm.*"])
    for name in ("one", "two"):
        use(authority, opened.bundle.delegate(to=name, nonce="AAAAAAAAAAA"))
    (node,) = drawn(authority).trees[0].node.children
    assert (node.labels, node.allowed) == (("one", "two"), 2)


def test_a_forged_token_draws_nothing(authority: Authority) -> None:
    opened = authority.open(allow=["crm.*"])
    text = opened.bundle.delegate(to="ghost").present("crm", ToolCall("crm.read")).text
    forged = text[:-1] + ("A" if text[-1] != "A" else "Q")
    authority.verifier("crm").decide(forged, ToolCall("crm.read"), Call("crm.read"))
    assert outline(drawn(authority).trees[0].node) == [None]


ROOT = b64u(root_node("root-1"))


def nobody(_: Iterable[RevocationKey]) -> dict[RevocationKey, str]:
    """Nothing is dead."""
    return {}


def drawn_from(events: Iterable[Event], dead: Dead = nobody, now: int = 5) -> Tree:
    tree = build(events, dead, counters=nothing, now=now)
    assert tree is not None
    return tree


def nothing(_: Sequence[str]) -> dict[tuple[str, str], Decimal]:
    """No counter holds anything."""
    return {}


@pytest.mark.parametrize(
    "claim",
    [
        {"task": "task-2"},
        {"root": "root-2"},
        {"path": ["somewhere", "else"]},
        {"path": []},
        {"task": None, "root": None, "path": [], "hops": [], "ids": []},
    ],
)
def test_a_decision_on_tokens_opened_apart_draws_nothing(claim: dict[str, object]) -> None:
    decided = {"task": "task-1", "root": "root-1", "path": [ROOT, "child"], "hops": ["x"], "ids": ["a", "b"]}
    bodies = [
        ("task_opened", {"task": "task-1", "root": "root-1", "expires": 10}),
        ("decision", {"outcome": "allowed", "audience": "crm", **decided, **claim}),
    ]
    place = START
    events: list[Event] = []
    for kind, body in bodies:
        events.append(following(place, at=1, kind=kind, body=msgspec.json.encode(body)))
        place = Place(events[-1].position, events[-1].hash)
    tree = drawn_from(events)
    assert (tree.node.children, tree.node.capabilities, tree.node.allowed) == ((), (), 0)


def test_an_expired_task_is_dead_before_anybody_said_so() -> None:
    opened = following(START, at=1, kind="task_opened", body=b'{"task":"task-1","root":"root-1","expires":10}')
    assert drawn_from([opened], now=9).node.dead is None
    assert drawn_from([opened], now=10).node.dead == "task_expired"


def test_an_event_without_its_facts_is_a_break_in_the_log() -> None:
    for body in (b"{}", b"[]", b"\xff"):
        with pytest.raises(BrokenLog, match="task_opened"):
            build([following(START, at=1, kind="task_opened", body=body)], nobody, counters=nothing, now=1)


def decision(**facts: object) -> Event:
    told = {"outcome": "allowed", "audience": "crm", "task": "task-1", "root": "root-1", "path": [ROOT], **facts}
    return following(PLACE, at=1, kind="decision", body=msgspec.json.encode(told))


OPENED = following(START, at=1, kind="task_opened", body=b'{"task":"task-1","root":"root-1","expires":10}')
PLACE = Place(OPENED.position, OPENED.hash)


@pytest.mark.parametrize("limit", ["", "NaN", "-1", "1e9", "Infinity", "x", "0" * 50])
def test_an_amount_that_a_resource_made_up_hides_nothing(limit: str) -> None:
    spent = [{"counter": "c", "unit": "calls", "limit": limit}, {"counter": "c", "unit": "eur", "limit": "5"}]
    tree = drawn_from([OPENED, decision(spent=spent)])
    assert tree.node.allowed == 1
    assert [(one.unit, one.limit, one.left) for one in tree.budgets] == [("eur", "5", "5")]


@pytest.mark.parametrize(
    "facts",
    [
        {"path": [ROOT, "no id at all"], "hops": ["x"]},
        {"path": [ROOT, ""], "hops": ["x"]},
        {"ids": ["AAAA"]},
        {"path": 5},
        {"hops": [["x"]]},
    ],
)
def test_a_decision_of_what_no_token_can_be_is_passed_over(facts: dict[str, object]) -> None:
    tree = drawn_from([OPENED, decision(**facts), decision()])
    assert [node.id for node in tree.node.walk()] == [ROOT]
    assert tree.node.allowed == 1


A, B, C = ("AgICAgICAgI", "AwMDAwMDAwM", "BAQEBAQEBAQ")


def along(*hops: str) -> tuple[str, ...]:
    """The path from the root along hops with these nonces."""
    return tuple(map(b64u, nodes("root-1", hops)))


def proven(*hops: str, **facts: object) -> Event:
    """A decision of the node at the end of these hops, whose path follows from their nonces."""
    return decision(path=along(*hops), hops=[f"to-{hop[:2]}" for hop in hops], nonces=hops, **facts)


def claimed(*path: str, **facts: object) -> Event:
    """A decision without nonces: with a path, and nothing from which it follows."""
    return decision(**{"path": (ROOT, *path), "hops": ["claimed"] * len(path), **facts})


def parents(*events: Event, dead: Dead = nobody) -> dict[str, tuple[str, str | None]]:
    """The parent of each node but the root, and its death."""
    tree = drawn_from([OPENED, *events], dead)
    return {child.id: (node.id, child.dead) for node in tree.node.walk() for child in node.children}


def revoked(*ids: str) -> Dead:
    return lambda keys: {key: "revoked" for key in keys if isinstance(key, bytes) and b64u(key) in ids}


def test_no_resource_moves_a_node_below_another() -> None:
    _, first, second = along(A, B)
    other = along(C)[1]
    honest = proven(A, B)
    for moved in (
        decision(path=(ROOT, other, second), hops=["x", "y"], nonces=(C, B)),
        decision(path=(ROOT, other, first), hops=["x", "y"], nonces=(C, A)),
        decision(path=(ROOT, second), hops=["x"], nonces=(B,)),
        decision(path=(ROOT, second, first), hops=["x", "y"], nonces=(B, A)),
        decision(path=(ROOT, first), hops=["x"], nonces=()),
        decision(path=(ROOT, first), hops=["x"], nonces=("junk",)),
        claimed(other, second),
        claimed(second, first),
    ):
        for order in ((honest, moved), (moved, honest)):
            found = parents(*order)
            assert (found[first][0], found[second][0]) == (ROOT, first)


def test_a_claim_inherits_no_death_of_another_node() -> None:
    rogue, dead = "R" * 21 + "Q", along(A)[1]
    found = parents(proven(A), claimed(dead, rogue), dead=revoked(dead))
    assert found[dead] == (ROOT, "revoked")
    assert found[rogue] == (dead, None)
    # Its own death, that of its root, and the end of its task are its own.
    assert parents(claimed(dead, rogue), dead=revoked(dead, rogue))[rogue] == (dead, "revoked")
    assert parents(claimed(dead, rogue), dead=revoked(ROOT))[rogue] == (dead, "revoked")
    ended = parents(claimed(dead, rogue), dead=lambda _: {"task-1": "task_completed"})
    assert ended[rogue] == (dead, "task_completed")


def test_what_follows_from_nonces_replaces_a_claim() -> None:
    _, first, second = along(A, B)
    rogue = "R" * 21 + "Q"
    claim = claimed(rogue, second)
    assert parents(claim)[second] == (rogue, None)
    found = parents(claim, proven(A, B), dead=revoked(first))
    assert found[second] == (first, "revoked")
    assert found[rogue] == (ROOT, None)


def test_a_root_is_never_labelled() -> None:
    tree = drawn_from([OPENED, claimed(along(A)[1], ROOT), proven(A)])
    assert tree.node.labels == ()
    assert [node.id for node in tree.node.walk()] == [*along(A)]


@pytest.mark.parametrize(("hops", "shown"), [(255, 256), (256, 1), (5_000, 1)])
def test_a_path_longer_than_any_token_leads_is_passed_over(hops: int, shown: int) -> None:
    path = [ROOT, *(b64u(number.to_bytes(16, "big")) for number in range(hops))]
    tree = drawn_from([OPENED, decision(path=path, hops=["x"] * hops)])
    assert len(list(tree.node.walk())) == shown
    msgspec.json.encode(tree)


def holdings(tree: Tree) -> list[tuple[str | None, str | None]]:
    """The key and the death of each capability at each node, the root first."""
    return [(held.holder, held.dead) for node in tree.node.walk() for held in node.capabilities]


def test_what_was_held_with_a_dead_key_is_dead(authority: Authority) -> None:
    lead, child, grandchild, sibling = map(AgentKey.generate, ("lead", "child", "grandchild", "sibling"))
    opened = authority.open(allow=["crm.read"], agent_key=lead.public)
    first = opened.bundle.with_key(lead)
    second = first.delegate(to="child", to_key=child).with_key(child)
    third = second.delegate(to="grandchild", to_key=grandchild).with_key(grandchild)
    beside = first.delegate(to="sibling", to_key=sibling).with_key(sibling)
    assert all(use(authority, one) for one in (first, second, third, beside))
    at_the_authority = (None, None)
    (tree,) = drawn(authority).trees
    held = [(key.public, None) for key in (lead, child, grandchild, sibling)]
    assert holdings(tree) == [held[0], at_the_authority, *held[1:]]
    assert child.public in mermaid(drawn(authority)).replace("#58;", ":")
    authority.revoke(key=child.public)
    dead = [(child.public, "revoked"), (grandchild.public, "revoked")]
    assert holdings(drawn(authority).trees[0]) == [held[0], at_the_authority, *dead, held[3]]
    assert not any(node.dead for node in drawn(authority).nodes())


def test_no_audience_says_with_which_key_another_was_called() -> None:
    key, id_ = AgentKey.generate("thief").public, b64u(b"i" * 16)
    told = [OPENED, decision(ids=[id_]), decision(audience="rogue", ids=[id_], key=key)]
    dead = {of_public(key): "revoked"}
    tree = drawn_from(told, lambda keys: {one: dead[one] for one in keys if isinstance(one, bytes) and one in dead})
    assert holdings(tree) == [(None, None), (key, "revoked")]


@pytest.mark.parametrize("key", ["", "ed25519:", "ed25519:" + "A" * 42, "A" * 43])
def test_a_reported_key_that_is_none_is_passed_over(key: str) -> None:
    told = [OPENED, decision(ids=[b64u(b"i" * 16)], key=key)]
    assert holdings(drawn_from(told)) == [(None, None)]


def test_what_a_task_has_spent_stands_at_its_tree(authority: Authority) -> None:
    opened = authority.open(allow=["crm.*"], caveats=[budget("calls", 3)])
    assert [(one.spent, one.limit, one.left) for one in drawn(authority).trees[0].budgets] == [("0", "3", "3")]
    narrowed = opened.bundle.delegate(to="a", caveats=[budget("calls", 2)])
    assert use(authority, narrowed)
    assert use(authority, opened.bundle)
    (tree,) = drawn(authority).trees
    held = {one.counter: (one.spent, one.limit, one.left) for one in tree.budgets}
    assert narrowed.node is not None
    assert held == {opened.id: ("2", "3", "1"), b64u(narrowed.node): ("1", "2", "1")}


@pytest.mark.parametrize("how", ["kid", "issued"])
def test_what_a_key_or_an_instant_kills_is_dead_in_the_graph(authority: Authority, how: str) -> None:
    first = authority.open(allow=["crm.*"])
    use(authority, first.bundle.delegate(to="child"))
    kid = next(iter(first.bundle)).kid
    ids = {held.id for node in drawn(authority).trees[0].node.walk() for held in node.capabilities}
    by: dict[str, dict[str, Any]] = {"kid": {"kid": kid}, "issued": {"issued": int(time.time())}}
    for named in by.values():
        dying = authority.revoke(dry_run=True, **named).dying
        assert dying is not None
        assert (dying.nodes, set(dying.capabilities)) == ((), ids)
    authority.revoke(**by[how])
    (tree,) = drawn(authority).trees
    assert {held.dead for node in tree.node.walk() for held in node.capabilities} == {"revoked"}
    assert {node.dead for node in tree.node.walk()} == {None}
    dying = authority.revoke(issued=int(time.time()), dry_run=True).dying
    assert dying is not None
    assert dying.capabilities == ()
