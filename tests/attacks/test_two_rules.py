"""An agent whose call two rules decide, by arguments that neither pins, asks by one and the other in turn."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capx.authority.requests import quotas
from capx.crypto.base64url import b64u
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import InvalidRequest
from capx.policy.terms import Rule
from capx.proof import export
from capx.store.factory import create_store, is_postgres, open_store
from capx.verify.ask import Granted, Pending, Refused
from capx_caveats import Anything, action, between
from tests.labs.granting_lab import BOB, CARA, policy, rule
from tests.labs.proving import PLANNER, ProofLab, read

REFUND = "billing.refund"
ANY = Anything()
SMALL: Any = {"ticket": "T", "amount": 20}
LARGE: Any = {"ticket": "T", "amount": 400}


def by_ticket(*amounts: int) -> Rule:
    """A person agrees to one call for a ticket."""
    entry = action(REFUND, ticket=ANY, amount=between(*amounts))
    return rule("ask", entry, pinned=("ticket",), uses=1)


RULES = (rule("at_open", "crm.*"), by_ticket(0, 50), by_ticket(50, 500))
FREE = (
    rule("at_open", "crm.*"),
    rule("on_request", action(REFUND, ticket=ANY)),
    rule("ask", action(REFUND, ticket=ANY, note=ANY), pinned=("ticket",), uses=1),
)
"""The second leaves a note free, and so pins what the first pins."""


@pytest.fixture(params=["sqlite", "postgres"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ProofLab]:
    place = str(request.getfixturevalue("postgres_url") if request.param == "postgres" else tmp_path / "capx.db")
    if not is_postgres(place):
        create_store(place).close()
    made = ProofLab(tmp_path, store=open_store(place), keyring=KeyRing(RootKey(bytes(range(32)))))
    made.policy = policy(*RULES)
    yield made
    made.close()


def rows(lab: ProofLab, task: str) -> tuple[int, int]:
    """How many requests, and how many arguments of asks, the store has of a task."""
    with lab.authority.store.read() as reading:
        return len(reading.requests(task=task)), len(reading.asks(task))


def result(lab: ProofLab, task: str) -> Any:
    lab.authority.flush()
    report = read(export(lab.authority, task, now=int(lab.clock.now)), lab.trust())
    return report.result, report.contradictions, report.gaps


def test_asks_by_two_rules_in_turn_are_two_requests(lab: ProofLab) -> None:
    task, planner = lab.started()
    ids = {lab.pending(planner, REFUND, args).request for _ in range(10) for args in (SMALL, LARGE)}
    assert (len(ids), lab.kinds().count("request_made"), rows(lab, task.id)) == (2, 2, (2, 2))


def test_grants_by_two_rules_in_turn_are_not_made_anew(lab: ProofLab) -> None:
    lab.policy = policy(*FREE)
    task, planner = lab.started()
    before = lab.kinds().count("capability_minted")
    given, asked = set[str](), set[str]()
    for _ in range(10):
        given.add(lab.granted(planner, REFUND, {"ticket": "T"}).text)
        asked.add(lab.pending(planner, REFUND, {"ticket": "T", "note": "x"}).request)
    assert (len(given), len(asked), lab.kinds().count("capability_minted") - before) == (1, 1, 1)
    assert rows(lab, task.id) == (2, 2)
    assert max(len(one.granted) for one in lab.authority.requests()) == len(
        set(lab.granted(planner, REFUND, {"ticket": "T"}).ids)
    )


@pytest.mark.parametrize("name", ["MOST_MADE", "MOST_WAITING"])
def test_two_rules_in_turn_get_round_no_bound(lab: ProofLab, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(quotas, name, 4)
    task, planner = lab.started()
    answers = [lab.ask(planner, REFUND, {**args, "ticket": n}) for n in range(4) for args in (SMALL, LARGE)]
    # An audience may hold half of what its task may.
    assert [type(one) for one in answers] == [Pending, Pending, *[Refused] * 6]
    assert rows(lab, task.id) == (2, 2)


def test_a_no_lands_though_its_agent_asks_by_another_rule(lab: ProofLab) -> None:
    _, planner = lab.started()
    no = lab.verdict(lab.pending(planner, REFUND, SMALL).request, BOB, yes=False)
    lab.pending(planner, REFUND, LARGE)
    assert lab.authority.answer(no).state == "denied"
    assert [lab.refused(planner, REFUND, args) for args in (SMALL, {**SMALL, "amount": 30})] == [
        ("request_denied",),
        ("request_denied",),
    ]


def test_a_no_by_one_rule_is_one_by_the_other(lab: ProofLab) -> None:
    _, planner = lab.started()
    lab.decide(lab.pending(planner, REFUND, SMALL).request, yes=False)
    assert lab.refused(planner, REFUND, LARGE) == ("request_denied",)


def test_asks_by_another_rule_prolong_nothing(lab: ProofLab) -> None:
    _, planner = lab.started()
    waits = lab.pending(planner, REFUND, SMALL)
    for _ in range(2):
        lab.clock.now += 800
        lab.pending(planner, REFUND, LARGE)
        assert lab.pending(planner, REFUND, SMALL).until == waits.until
    lab.clock.now = waits.until
    assert lab.authority.request(waits.request).state == "expired"


def test_a_yes_that_nobody_fetched_outlives_other_asks(lab: ProofLab) -> None:
    _, planner = lab.started()
    waits = lab.pending(planner, REFUND, SMALL)
    lab.decide(waits.request)
    lab.pending(planner, REFUND, LARGE)
    assert lab.authority.request(waits.request).state == "approved"
    assert isinstance(lab.ask(planner, REFUND, SMALL), Granted)


def test_a_yes_by_one_rule_is_none_by_the_other(lab: ProofLab) -> None:
    _, planner = lab.started()
    lab.decide(lab.pending(planner, REFUND, SMALL).request)
    lab.granted(planner, REFUND, SMALL)
    lab.pending(planner, REFUND, LARGE)


def test_a_yes_counts_once_though_two_rules_take_turns(lab: ProofLab) -> None:
    task, planner = lab.started()
    yes = lab.verdict(lab.pending(planner, REFUND, SMALL).request)
    lab.authority.answer(yes)
    for args in (LARGE, SMALL):
        lab.ask(planner, REFUND, args)
    with pytest.raises(InvalidRequest, match="no longer waits"):
        lab.authority.answer(yes)
    assert result(lab, task.id) == ("consistent", (), ())


def test_the_proof_of_two_rules_in_turn_is_consistent(lab: ProofLab) -> None:
    lab.policy = policy(*RULES, rule("on_request", "shop.*"))
    task, planner = lab.started()
    for args, key in ((SMALL, BOB), (LARGE, CARA)) * 2:
        lab.decide(lab.pending(planner, REFUND, args).request, key)
        held = planner.holding(lab.granted(planner, REFUND, args).with_key(PLANNER), now=int(lab.clock.now))
        lab.call(held, REFUND, args)
        lab.clock.now += 10
    assert [one.round for one in lab.authority.requests()] == [2, 2]
    assert result(lab, task.id) == ("consistent", (), ())


# The policy changes while a request waits, or behind its grant.


def test_an_edit_of_other_rules_leaves_a_request_as_it_is(lab: ProofLab) -> None:
    _, planner = lab.started()
    waits, yes = lab.pending(planner, REFUND, SMALL), lab.pending(planner, REFUND, LARGE)
    lab.policy = policy(rule("ask", "mail.*"), *reversed(RULES))
    lab.decide(yes.request)
    assert lab.pending(planner, REFUND, SMALL).request == waits.request
    lost = lab.granted(planner, REFUND, LARGE)
    assert lab.granted(planner, REFUND, LARGE).text == lost.text, "the answer got lost, and the agent asked once more"


@pytest.mark.parametrize("now", [by_ticket(0, 40), rule("on_request", action(REFUND, ticket=ANY, amount=ANY))])
def test_what_waits_for_another_offer_than_now_ends(lab: ProofLab, now: Rule) -> None:
    task, planner = lab.started()
    waits, other = lab.pending(planner, REFUND, SMALL), lab.pending(planner, REFUND, LARGE)
    lab.policy = policy(RULES[0], now, RULES[2])
    answer = lab.ask(planner, REFUND, SMALL)
    assert isinstance(answer, Pending | Granted)
    states = {one.id: one.state for one in lab.authority.requests()}
    assert (states.pop(waits.request), states.pop(other.request)) == ("expired", "pending")
    assert list(states.values()) == ["pending" if isinstance(answer, Pending) else "granted"]
    assert result(lab, task.id)[0] == "consistent"


def test_what_was_agreed_to_counts_again_as_its_offer_does(lab: ProofLab) -> None:
    _, planner = lab.started()
    waits = lab.pending(planner, REFUND, SMALL)
    lab.decide(waits.request)
    lab.policy = policy(RULES[0], by_ticket(0, 40))
    assert lab.pending(planner, REFUND, SMALL).request != waits.request
    lab.policy = policy(*RULES)
    lab.granted(planner, REFUND, SMALL)
    assert lab.authority.request(waits.request).state == "granted"


def test_what_another_offer_granted_was_revoked_for_all(lab: ProofLab) -> None:
    _, planner = lab.started()
    lab.decide(lab.pending(planner, REFUND, SMALL).request)
    lab.authority.revoke(b64u(lab.granted(planner, REFUND, SMALL).id))
    assert lab.refused(planner, REFUND, LARGE) == ("grant_revoked",)
    lab.policy = policy(RULES[0], by_ticket(0, 40))
    assert lab.refused(planner, REFUND, SMALL) == ("grant_revoked",)
