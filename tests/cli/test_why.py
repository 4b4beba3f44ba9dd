"""Decisions are found, with what stands beside them."""

import re

import msgspec
import pytest

from capx.authority.authority import Authority
from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u
from capx.store.events import GivenBack
from capx.store.records import DecisionRecord
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx_caveats import Call, budget
from tests.cli.conftest import Shell


def test_decisions_are_found_by_node_presentation_and_id(home: Shell, spending: Bundle) -> None:
    decided = home("find", "--json").json
    node = b64u(spending.node or b"")
    root = decided[0]["path"][0]
    assert len(home("find", "--node", node, "--json").json) == len(home("find", "--node", root, "--json").json) == 3
    assert home("find", "--node", node, "--denied", "--limit", "1", "--json").json == decided[2:]
    assert home("find", "--node", node, "--limit", "2", "--json").json == decided[1:]
    singly = home("find", "--each", "--json").json
    assert home("find", "--presentation", decided[1]["presentation"], "--json").json == singly[1:2]
    assert home("find", "--decision", decided[0]["id"], "--json").json == singly[:1]
    assert home("find", "--decision", decided[0]["id"], "--denied", "--json", code=1).json == []
    assert home("find", "--node", "A" * 22, "--denied", code=1).err == (
        f"no such decision was recorded: node {'A' * 22}, denied\n"
    )
    for no_id, says in (("x y", "22 characters, this has 3"), ("+" * 22, "each a letter, a digit, - or _")):
        for option in ("--node", "--presentation", "--decision"):
            assert says in home("find", option, no_id, code=2).err
    assert "an id has d. and 22 characters, this has 21" in home("why", "A" * 21, code=2).err
    unknown = home("why", "A" * 22, code=2).err
    assert "there is no decision" in unknown
    assert unknown.count("capx why --help") == 1
    for options in ((), ("--json",)):
        said = home("find", "--node", decided[0]["id"], *options, code=2)
        assert f"is the id of a decision, not of a node: capx why {decided[0]['id']} names its node" in said.err
        assert said.out == ""


def test_what_stands_beside_a_decision_is_shown(home: Shell, spending: Bundle) -> None:
    first, second, third = (each["id"] for each in home("find", "--json").json)
    said = home("why", second).out
    assert re.search(rf"^  before: allowed  {first}  crm.read at crm", said, re.MULTILINE)
    assert re.search(rf"^  after: denied   {third}  crm.export at crm, action_not_allowed", said, re.MULTILINE)
    beside = home("why", third, "--json").json["beside"]
    assert (beside["before"]["id"], beside["after"], beside["same_presentation"]) == (second, None, [])


def test_what_arrives_after_the_end_stands_where_it_was_decided(home: Shell, spending: Bundle) -> None:
    """A service reported a call, made between two others, when the task had ended."""
    first, *_ = home("find", "--json").json
    late = "d." + "A" * 22
    with Authority.open_home(home.home) as authority:
        event = authority.decision(first["id"])
        assert event is not None
        authority.complete(event.facts()["task"])
        body = msgspec.json.encode({**event.facts(), "id": late, "presentation": None})
        authority.store.record([DecisionRecord(late, event.at - 5, body)])
    said = home("why", first["id"]).out
    assert f"before (arrived late): allowed  {late}" in said
    assert "behind what happened later" not in said
    assert "arrived late: it stands behind what happened later" in " ".join(home("why", late).out.split())
    found = home("why", late, "--json").json
    assert (found["late"], found["beside"]["before"], found["beside"]["after"]["id"]) == (True, None, first["id"])
    assert not found["beside"]["after"]["late"]


SQUATS: list[dict[str, object]] = [{}, {"outcome": "allowed"}, {"outcome": "denied", "spent": [{}]}]


@pytest.mark.parametrize("squat", SQUATS)
def test_a_decision_whose_id_is_taken_elsewhere_is_shown(home: Shell, squat: dict[str, object]) -> None:
    id_ = "A" * 22
    true = {"id": id_, "audience": "slides", "outcome": "denied", "action": "slides.write"}
    bodies = [msgspec.json.encode(body) for body in ({"id": id_, "audience": "crm", **squat}, true)]
    with Authority.open_home(home.home) as authority:
        authority.store.record([DecisionRecord(id_, 1, body) for body in bodies])
    shown = home("why", id_)
    assert "slides.write at slides" in shown.out
    readable = squat == {"outcome": "allowed"}
    assert (f"  same id: denied   {id_}  slides.write at slides" in shown.out) == readable
    same = home("why", id_, "--json").json["beside"]["same_id"]
    assert [one["audience"] for one in same] == (["slides"] if readable else [])


def test_what_a_call_gave_back_is_shown_beside_what_it_spent(home: Shell) -> None:
    with Authority.open_home(home.home) as authority:
        opened = authority.open(allow=["crm.read"], caveats=[budget("calls", 3), budget("eur", 9)])
        call, verifier = ToolCall("crm.read"), authority.verifier("crm")
        kept, returned = (
            verifier.verify(next(iter(opened.bundle)).present(call).text, call, Call("crm.read", cost={"eur": "2.50"}))
            for _ in range(2)
        )
        returned.give_back("the bank, [red]closed[/red]")
        assert authority.flush()
    said = home("why", returned.decision.id).out
    assert re.search(
        r'^  given back +\S+.*: 1 of calls, 2.5 of eur; the resource says why: "the bank, \[red\]closed\[/red\]"$',
        said,
        re.MULTILINE,
    )
    assert "given back" not in home("why", kept.decision.id).out
    facts = home("why", returned.decision.id, "--json").json["beside"]["given_back"]
    assert (facts["kind"], facts["facts"]["decision"]) == ("given_back", returned.decision.id)
    assert home("why", kept.decision.id, "--json").json["beside"]["given_back"] is None
    (line,) = (line for line in home("log").out.splitlines() if "  given_back  " in line)
    assert f"decision {returned.decision.id} of crm: 1 of calls, 2.5 of eur; the resource says why: " in line
    assert home("store", "check").out
    assert "calls: 1 of 3 spent" in home("graph").out


def test_what_another_audience_says_it_gave_back_is_not_shown(home: Shell, spending: Bundle) -> None:
    decided = home("find", "--json").json[0]
    names = {"decision": decided["id"], "presentation": decided["presentation"]}
    with Authority.open_home(home.home) as authority, authority.store.write() as transaction:
        GivenBack(task=decided["task"], audience="slides", given=(), reason="x", **names).write(transaction, at=1)
    assert "given back" not in home("why", decided["id"]).out
    assert "the resource says why: x" in home("log").out


@pytest.mark.parametrize(
    "facts",
    [
        {"outcome": "allowed  d.AAAAAAAAAAAAAAAAAAAAAQ  billing.export at billing, node X, by task > ana #"},
        {"id": "x at billing, node Y"},
        {"action": "crm.read at billing"},
        {"path": ["node of another"]},
    ],
)
def test_no_decision_imitates_one_of_another_audience(home: Shell, facts: dict[str, object]) -> None:
    body = {"id": "d.AAAAAAAAAAAAAAAAAAAAAQ", "outcome": "denied", "audience": "crm", "action": "crm.read", **facts}
    with Authority.open_home(home.home) as authority:
        authority.store.record([DecisionRecord(str(body["id"]), 1, msgspec.json.encode(body))])
    shown = home("find", "--limit", "1").out
    assert "not a decision as capx writes it" in shown
    assert "billing" not in shown


def test_why_last_searches_no_flood_of_nonsense_to_its_end(home: Shell) -> None:
    with Authority.open_home(home.home) as authority, authority.store.write() as transaction:
        nonsense = ({"id": f"no id {nth}", "audience": "crm", "outcome": "denied"} for nth in range(6_000))
        transaction.append_all("decision", map(msgspec.json.encode, nonsense), at=1)
    said = home("why", "last", code=2).err
    assert "the newest denials are not written as capx writes them" in said
    assert "capx find --denied --each shows them" in said


def test_the_key_of_who_acted_is_shown(home: Shell) -> None:
    planner, slides, thief = (AgentKey.generate(name) for name in ("planner", "slides", "thief"))
    with Authority.open_home(home.home) as authority:
        held = authority.open(allow=["crm.read"], agent_key=planner.public).bundle.with_key(planner)
        verifier = authority.verifier("crm")
        # A parent makes the node of its child once more, under another key.
        for key in (slides, thief):
            child = held.delegate(to="slides", to_key=key, nonce="AgICAgICAgI")
            verifier.verify(child.present("crm", ToolCall("crm.read")).text, ToolCall("crm.read"), Call("crm.read"))
    first, second = home("find", "--json", "--each").json
    assert first["node"] == second["node"]
    assert [first["key"], second["key"]] == [slides.public, thief.public]
    assert f"by task > slides, key {thief.public}" in home("find", "--each").out
    assert f"key        {thief.public}" in re.sub(r"key +", "key        ", home("why", second["id"]).out)


def test_a_decision_with_a_made_up_key_is_unreadable(home: Shell) -> None:
    body = {"id": "A" * 22, "audience": "crm", "outcome": "allowed", "action": "crm.read", "key": "ed25519:\x1b[2J"}
    with Authority.open_home(home.home) as authority:
        authority.store.record([DecisionRecord("A" * 22, 1, msgspec.json.encode(body))])
    assert "not a decision as capx writes it" in home("find").out
