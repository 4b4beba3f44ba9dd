"""Budgets, over real stores: what is counted where, what is spent when, and what is told of it."""

import decimal
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capx.agent.actor import acting
from capx.authority.authority import Authority
from capx.crypto.base64url import b64u
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.tokens.lineage import unverified_lineage
from capx.verify.decision import Decision, Denied
from capx.verify.spending import spends_of
from capx_caveats import Budget, Call, Caveat, Hop, action, allow, budget, encode_block, max_hops, where
from tests.labs.lab import NONCES, NOW, Lab, appended, codes, codes_of, minted, raw
from tests.labs.spending import admitted, refused, spend

READ = ToolCall("a.read")


def held(store: SQLiteStore) -> dict[tuple[str, str], str]:
    with store.read() as reading:
        return {(one.counter, one.unit): str(one.spent) for one in reading.counters()}


# How much


def test_calls_are_counted_until_none_is_left(lab: Lab) -> None:
    capability = minted(budget("calls", 3))
    assert [spend(lab, capability).remaining for _ in range(3)] == [{"calls": "2"}, {"calls": "1"}, {"calls": "0"}]
    assert refused(lab, capability) == ("budget_exhausted",)
    assert refused(lab, capability) == ("budget_exhausted",)


def test_a_tenth_can_be_spent_ten_times_of_one(lab: Lab, store: SQLiteStore) -> None:
    capability = minted(budget("eur", "1"))
    for _ in range(10):
        spend(lab, capability, eur="0.1")
    assert refused(lab, capability, eur="0.000001") == ("budget_exhausted",)
    assert set(held(store).values()) == {"1.0"}


@pytest.mark.parametrize(
    ("limit", "cost"),
    [
        ("0", "0.000001"),
        ("1", "1.000001"),
        ("0.5", "0.500001"),
        ("999999999999999.999999", "999999999999999.999999"),
    ],
)
def test_spending_meets_the_limit_exactly_and_never_passes_it(lab: Lab, limit: str, cost: str) -> None:
    capability = minted(budget("eur", limit))
    assert spend(lab, capability, eur=limit).remaining == {"eur": "0"}
    assert refused(lab, capability, eur=cost) == ("budget_exhausted",)
    assert refused(lab, capability, eur="0.000001") == ("budget_exhausted",)
    assert spend(lab, capability, eur=0).remaining == {"eur": "0"}


def test_amounts_are_exact_in_any_decimal_context(lab: Lab) -> None:
    capability = minted(budget("eur", "100"))
    with decimal.localcontext(decimal.Context(prec=2, traps=[])):
        spend(lab, capability, eur="99.9")
        assert refused(lab, capability, eur="0.2") == ("budget_exhausted",)
        assert spend(lab, capability, eur="0.05").remaining == {"eur": "0.05"}


def test_what_is_refused_costs_nothing(lab: Lab, store: SQLiteStore) -> None:
    capability = minted(budget("calls", 1), budget("eur", 5), where("region", "eu"))
    assert refused(lab, capability, eur=1) == ("attribute_missing",)
    lab.records.full = True
    with pytest.raises(Denied) as denied:
        admitted(lab, capability).judge(Call("a.read", attributes={"region": "eu"}, cost={"eur": 1}))
    assert denied.value.code == "unavailable"
    lab.records.full = False
    with pytest.raises(Denied) as denied:
        admitted(lab, capability).judge(Call("a.read", attributes={"region": "eu"}, cost={"eur": 6}))
    assert denied.value.code == "budget_exhausted"
    assert held(store) == {}


def test_of_several_units_all_are_spent_or_none(lab: Lab, store: SQLiteStore) -> None:
    capability = minted(budget("calls", 9), budget("eur", 1))
    spend(lab, capability, eur=1)
    assert refused(lab, capability, eur=1) == ("budget_exhausted",)
    assert sorted(held(store).values()) == ["1", "1"]


def test_budgets_of_one_counter_are_spent_once_the_least_holds(lab: Lab, store: SQLiteStore) -> None:
    capability = minted(budget("calls", 5), budget("calls", 2), budget("calls", 9))
    assert [spend(lab, capability).remaining for _ in range(2)] == [{"calls": "1"}, {"calls": "0"}]
    with pytest.raises(Denied) as denied:
        spend(lab, capability)
    (refusal,) = denied.value.refusals
    assert refusal.wanted == "at most 2 calls, shared by everyone below"
    assert list(held(store).values()) == ["2"]


def test_what_is_left_of_a_unit_is_what_the_least_budget_leaves(lab: Lab) -> None:
    capability = minted(budget("calls", 9)).attenuate(budget("calls", 2))
    assert spend(lab, capability).remaining == {"calls": "1"}


# Where


def test_the_counter_of_an_authoritys_budget_is_its_block(lab: Lab, store: SQLiteStore) -> None:
    capability = minted(budget("calls", 2))
    spend(lab, capability)
    spend(lab, capability.delegate(to="a", nonce=NONCES[0]))
    assert held(store) == {(b64u(capability.ids[1]), "calls"): "2"}
    assert refused(lab, capability.delegate(to="b", nonce=NONCES[1])) == ("budget_exhausted",)


def test_the_counter_of_a_hop_is_its_node_at_all_audiences(lab: Lab, store: SQLiteStore) -> None:
    slides = Lab("slides", meter=store)
    both = Bundle([minted(), minted(audience="slides")])
    child = both.delegate(to="a", caveats=[budget("calls", 2)], nonce=NONCES[0])
    crm, at_slides = child
    spend(lab, crm)
    spend(slides, at_slides.delegate(to="below", nonce=NONCES[1]))
    assert refused(lab, crm) == refused(slides, at_slides) == ("budget_exhausted",)
    assert held(store) == {(b64u(crm.path[1]), "calls"): "2"}
    sibling, _ = both.delegate(to="a", caveats=[budget("calls", 2)], nonce=NONCES[2])
    assert spend(lab, sibling).remaining == {"calls": "1"}


def test_the_counter_below_a_runtime_grant_is_its_own_nodes(lab: Lab, store: SQLiteStore) -> None:
    blocks = json.loads(minted().caveats and minted().blocks[0])  # type: ignore[arg-type] # bytes, not a third party's
    blocks = [["root", "R1", [["granted to", NONCES[3]]]] if caveat[0] == "root" else caveat for caveat in blocks]
    parent = raw(json.dumps(blocks, separators=(",", ":")).encode())
    child = parent.delegate(to="a", caveats=[budget("calls", 1)], nonce=NONCES[0])
    spend(lab, child)
    assert len(child.path) == 3
    assert held(store) == {(b64u(child.path[2]), "calls"): "1"}


def test_the_counter_of_a_block_without_a_hop_is_its_own(lab: Lab, store: SQLiteStore) -> None:
    parent = minted().delegate(to="a", nonce=NONCES[0])
    child = parent.attenuate(budget("calls", 1))
    spend(lab, child)
    assert held(store) == {(b64u(child.ids[-1]), "calls"): "1"}
    assert refused(lab, parent.attenuate(budget("calls", 1))) == ("budget_exhausted",)
    spend(lab, parent.attenuate(budget("calls", "1.0")))


def test_a_named_counter_is_shared_by_all_that_name_it(lab: Lab, store: SQLiteStore) -> None:
    slides = Lab("slides", meter=store)
    spend(lab, minted(budget("calls", 2, counter="C1")))
    spend(slides, minted(budget("calls", 2, counter="C1"), audience="slides"))
    assert refused(lab, minted(budget("calls", 2, counter="C1"))) == ("budget_exhausted",)
    spend(lab, minted(budget("calls", 2, counter="C2")))
    assert held(store) == {("C1", "calls"): "2", ("C2", "calls"): "1"}


def test_a_holder_cannot_name_a_counter(lab: Lab, store: SQLiteStore) -> None:
    forged = appended(minted(budget("calls", 1)), b'[["budget","calls","9","C1"]]')
    assert lab.codes(forged) == ("misplaced",)
    assert held(store) == {}


def test_units_are_counted_apart(lab: Lab, store: SQLiteStore) -> None:
    capability = minted(budget("eur", 1, counter="C1"), budget("usd", 1, counter="C1"))
    spend(lab, capability, eur=1, usd="0.5")
    assert held(store) == {("C1", "eur"): "1", ("C1", "usd"): "0.5"}


def test_an_authority_shares_a_budget_over_its_task() -> None:
    with Authority.temporary() as authority:
        task = authority.open(allow=["crm.read", "slides.read"], caveats=[budget("calls", "2")])
        ran: list[str] = []
        read = authority.tool("crm.read")(lambda: ran.append("crm"))
        show = authority.tool("slides.read")(lambda: ran.append("slides"))

        with acting(task.bundle.delegate(to="a")):
            read()
            show()
            with pytest.raises(Denied) as denied:
                read()
        assert denied.value.code == "budget_exhausted"
        assert ran == ["crm", "slides"]
        (counter,) = authority.counters()
        assert (counter.counter, counter.unit, counter.spent) == (task.id, "calls", Decimal(2))
        more = authority.mint(task.id, allow=["crm.read"], caveats=[budget("calls", 2)])
        with acting(more), pytest.raises(Denied):
            read()


# When


def test_a_unit_whose_cost_is_not_stated_is_refused(lab: Lab, store: SQLiteStore) -> None:
    assert refused(lab, minted(budget("eur", 5))) == ("attribute_missing",)
    assert refused(lab, minted(budget("eur", 5)), usd=1) == ("attribute_missing",)
    assert held(store) == {}


def test_a_cost_that_is_not_stated_is_never_taken_for_none() -> None:
    allotments = unverified_lineage(minted(budget("eur", 5))).allotments
    with pytest.raises(AssertionError, match=r"^eur$"):
        spends_of(allotments, Call("a.read", cost={"usd": 1}))


def test_one_presentation_spends_once_whoever_judges_it_again(lab: Lab, store: SQLiteStore) -> None:
    presented = admitted(lab, minted(budget("calls", 2)))
    verdicts = [presented.judge(Call("a.read")) for _ in range(3)]
    assert [verdict.remaining for verdict in verdicts] == [{"calls": "1"}] * 3
    assert list(held(store).values()) == ["1"]
    assert [len(decision.spent) for decision in lab.records.decisions] == [1, 0, 0]


def test_an_early_refusal_leaves_the_presentation_to_spend(lab: Lab, store: SQLiteStore) -> None:
    presented = admitted(lab, minted(budget("calls", 2)))
    with pytest.raises(Denied):
        presented.judge(Call("a.export"))
    assert presented.spends
    assert held(store) == {}
    presented.judge(Call("a.read"))
    with pytest.raises(Denied):
        presented.judge(Call("a.export"))
    assert list(held(store).values()) == ["1"]


def test_only_the_budget_without_room_refuses_a_second_price(lab: Lab) -> None:
    capability = minted(budget("usd", "1"), budget("eur", "5"))
    one = admitted(lab, capability)
    one.judge(Call("a.read", cost={"usd": "1", "eur": "2"}))
    spend(lab, capability, usd="0", eur="2")
    (refusal,) = one.decide(Call("a.read", cost={"usd": "1", "eur": "4"})).refusals
    assert (refusal.code, "eur" in refusal.sentence) == ("budget_exhausted", True)


def test_each_decision_says_what_it_paid_itself(lab: Lab) -> None:
    one = admitted(lab, minted(budget("calls", 5), budget("eur", "9")))
    paid = [one.decide(Call("a.read", cost={"eur": cost})).spent for cost in ("2", "5", "3")]
    assert [[(spent.unit, spent.cost, spent.total) for spent in each] for each in paid] == [
        [("calls", "1", "1"), ("eur", "2", "2")],
        [("eur", "3", "5")],
        [],
    ]


def test_a_presentation_judged_at_several_prices_pays_the_most(lab: Lab, store: SQLiteStore) -> None:
    presented = admitted(lab, minted(budget("eur", 10)))
    left = [presented.judge(Call("a.read", cost={"eur": price})).remaining["eur"] for price in (0, 1, "0.5", 9, 10, 10)]
    assert left == ["10", "9", "9", "1", "0", "0"]
    assert list(held(store).values()) == ["10"]
    (all_paid,) = presented.judge(Call("a.read", cost={"eur": 1})).spent
    assert (all_paid.cost, all_paid.total) == ("10", "10")


def test_a_cheap_check_first_opens_no_dear_one(lab: Lab, store: SQLiteStore) -> None:
    capability = minted(budget("eur", 10))
    spend(lab, capability, eur=4)
    presented = admitted(lab, capability)
    presented.judge(Call("a.read", cost={"eur": 0}))
    presented.judge(Call("a.read", cost={"eur": 5}))
    with pytest.raises(Denied) as denied:
        presented.judge(Call("a.read", cost={"eur": 7}))
    assert codes(denied.value) == ("budget_exhausted",)
    assert list(held(store).values()) == ["9"]
    assert presented.judge(Call("a.read", cost={"eur": 6})).remaining == {"eur": "0"}


def test_100_racing_threads_spend_once_for_one_presentation(lab: Lab, store: SQLiteStore) -> None:
    presented, begin = admitted(lab, minted(budget("calls", 1))), threading.Barrier(100)

    def judge(_: int) -> dict[str, str]:
        begin.wait()
        return dict(presented.judge(Call("a.read")).remaining)

    with ThreadPoolExecutor(100) as pool:
        assert list(pool.map(judge, range(100))) == [{"calls": "0"}] * 100
    assert list(held(store).values()) == ["1"]
    assert sum(len(decision.spent) for decision in lab.records.decisions) == 1


def test_racing_presentations_never_overspend(lab: Lab, store: SQLiteStore) -> None:
    capability, begin = minted(budget("calls", 10)), threading.Barrier(16)

    def judge(_: int) -> int:
        presented = [admitted(lab, capability) for _ in range(2)]
        begin.wait()
        return sum(presented[at].decide(Call("a.read")).allowed for at in range(2))

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(judge, range(16))) == 10
    assert list(held(store).values()) == ["10"]


def test_a_token_has_16_budgets_at_most(lab: Lab) -> None:
    sixteen = minted(*(budget(f"u{at}", 1) for at in range(15))).attenuate(budget("calls", 1))
    cost = {f"u{at}": 1 for at in range(15)}
    assert len(spend(lab, sixteen, **cost).remaining) == 16
    with pytest.raises(Denied) as denied:
        admitted(lab, sixteen.attenuate(budget("calls", 1)))
    assert denied.value.code == "too_large"


# What is told


def test_the_bearer_learns_nothing_of_what_others_spent(lab: Lab) -> None:
    capability = minted(budget("eur", "100", counter="C1"))
    spend(lab, capability, eur="77.25")
    told: list[str] = []
    for cost in ("23", "22.750001", "100", "101"):
        with pytest.raises(Denied) as denied:
            spend(lab, capability.delegate(to="a", nonce=NONCES[0]), eur=cost)
        problem = denied.value.problem()
        told.append(json.dumps([problem["detail"], problem["reasons"]]))
    assert not [text for text in told if any(secret in text for secret in ("77", "22.75", "C1"))]
    assert len(set(told)) == 1


def test_a_decision_holds_what_was_spent(lab: Lab) -> None:
    capability = minted(budget("calls", 3, counter="C1"), budget("eur", "10.50"))
    spend(lab, capability, eur="0.5")
    assert lab.records.decisions[-1].body()["spent"] == [
        {"counter": "C1", "unit": "calls", "cost": "1", "spent": "1", "limit": "3"},
        {"counter": b64u(capability.ids[1]), "unit": "eur", "cost": "0.5", "spent": "0.5", "limit": "10.5"},
    ]
    refused(lab, capability, eur="11")
    assert "spent" not in lab.records.decisions[-1].body()


def test_a_refusal_says_whose_budget_it_is(lab: Lab) -> None:
    child = minted(budget("calls", 5)).delegate(to="a", caveats=[budget("calls", 1)], nonce=NONCES[0])
    spend(lab, child)
    with pytest.raises(Denied, match=r'^hop 1 \("a"\) allows at most 1 call, .*, and all of it is spent$'):
        spend(lab, child)


def test_to_explain_spends_nothing_and_shows_what_is_refused(lab: Lab, store: SQLiteStore) -> None:
    capability = minted(budget("calls", 1)).attenuate(budget("eur", 5))
    call = Call("a.read", cost={"eur": 1})
    for _ in range(3):
        assert lab.verifier.explain(capability.text, call).allowed
    assert held(store) == {}
    spend(lab, capability, eur=1)
    before = held(store)
    found = lab.verifier.explain(capability.text, call)
    assert codes_of(found.refusals) == ("budget_exhausted",)
    assert [one.sentence for one in found.restrictions if one.refusal] == ["at most 1 call, shared by everyone below"]
    assert codes_of(lab.verifier.explain(capability.text, Call("a.read")).refusals) == (
        "budget_exhausted",
        "attribute_missing",
    )
    store.close()
    assert codes_of(lab.verifier.explain(capability.text, call).refusals) == ("unavailable", "unavailable")
    assert codes_of(Lab().verifier.explain(capability.text, call).refusals) == ("no_meter", "no_meter")
    assert before == dict.fromkeys(before, "1")


# Law 1

BUDGETS: list[Caveat] = [budget("calls", "0"), budget("calls", "1"), budget("calls", 9), budget("eur", "2.5")]
BLOCKS: list[tuple[Caveat, ...]] = [
    *((one,) for one in BUDGETS),
    (budget("calls", 1), budget("calls", 9)),
    (Hop("a", NONCES[0]), budget("calls", 9)),
    (Hop("a", NONCES[0]), budget("eur", 2), allow("a.read", action("b"))),
    (max_hops(9),),
]


COSTS: list[dict[str, Any]] = [{}, {"eur": "2"}, {"eur": "2.5"}, {"eur": "2.500001"}]


def test_what_a_parents_budget_refused_stays_refused_below(tmp_path: Path) -> None:
    widened: list[tuple[object, ...]] = []
    allowed = 0
    with_spent = product([(), *BLOCKS], BLOCKS, BLOCKS, COSTS, [0, 1])
    store = SQLiteStore.create(tmp_path / "law.db")
    lab = Lab(meter=store)
    for number, (first, parent_block, block, cost, calls) in enumerate(with_spent):
        grants = [caveat for caveat in first if not isinstance(caveat, Hop)]
        nonce = b64u(number.to_bytes(16, "big"))
        parent = appended(minted(*grants, nonce=nonce, root=f"R{number}"), encode_block(parent_block))
        child = appended(parent, encode_block(block))
        # Spent by somebody else below the parent, so that all counters of the parent have moved.
        for _ in range(calls):
            explained(lab, parent, spend_it=True)
        would = {token: explained(lab, token, cost=cost) for token in (parent, child)}
        allowed += would[child]
        if would[child] and not would[parent]:
            widened.append((first, parent_block, block, cost, calls))
    store.close()
    assert widened == []
    assert allowed > 100


def explained(lab: Lab, token: Capability, *, cost: Any = None, spend_it: bool = False) -> bool:
    if spend_it:
        decided: Decision = lab.decide(lab.present(token), cost={"eur": "1"})
        return decided.allowed
    return lab.verifier.explain(token.text, Call("a.read", cost=cost or {})).allowed


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=12))
def test_whatever_is_spent_by_whom_no_counter_passes_its_limit(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[int, int]]
) -> None:
    store = SQLiteStore.create(tmp_path_factory.mktemp("spent") / "capx.db")
    lab = Lab(meter=store)
    grandparent = minted(budget("eur", 20))
    parent = grandparent.delegate(to="a", caveats=[budget("eur", 10)], nonce=NONCES[0])
    child = parent.delegate(to="b", caveats=[budget("eur", 5)], nonce=NONCES[1])
    sibling = parent.delegate(to="c", caveats=[budget("eur", 7)], nonce=NONCES[2])
    tokens = [grandparent, parent, child, sibling]
    below = [{0, 1, 2, 3}, {1, 2, 3}, {2}, {3}]
    limits, model = [20, 10, 5, 7], [0, 0, 0, 0]
    for who, cost in calls:
        above = [at for at in range(4) if who in below[at]]
        fits = all(model[at] + cost <= limits[at] for at in above)
        assert lab.decide(lab.present(tokens[who]), cost={"eur": cost}).allowed == fits
        if fits:
            for at in above:
                model[at] += cost
    ids = [b64u(grandparent.ids[1]), b64u(parent.path[1]), b64u(child.path[2]), b64u(sibling.path[2])]
    assert [Decimal(held(store).get((id_, "eur"), "0")) for id_ in ids] == model
    store.close()


def test_a_budget_is_read_as_it_was_written() -> None:
    assert budget("eur", "2.50") == Budget("eur", "2.50")
    assert budget("eur", 2) == budget("eur", Decimal(2)) == Budget("eur", "2")


def test_what_was_spent_is_spent_under_a_later_clock(lab: Lab) -> None:
    capability = minted(budget("calls", 1))
    spend(lab, capability)
    lab.clock.now = NOW + 3000
    assert refused(lab, capability) == ("budget_exhausted",)
