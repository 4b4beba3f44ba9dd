"""A call that had no effect gives back what it spent: once, in time, and nothing that others spent."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from capx.errors import InvalidRequest, StoreProblem, Unavailable
from capx.store.events import GivenBack
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.binding import ToolCall
from capx.verify.decision import Allowed, Denied
from capx.verify.meter import Paid, Payer, Spend, Tally
from capx_caveats import Call, budget
from tests.labs.lab import NONCES, NOW, Lab, codes, minted
from tests.labs.spending import admitted, refused, spend

READ = ToolCall("a.read")


def held(store: SQLiteStore) -> list[str]:
    with store.read() as reading:
        return [str(one.spent) for one in reading.counters()]


def returned(store: SQLiteStore) -> list[GivenBack]:
    with store.read() as reading:
        return [event.read(GivenBack) for event in reading.events(kind="given_back")]


def test_what_a_call_gives_back_another_can_spend(lab: Lab, store: SQLiteStore) -> None:
    capability = minted(budget("calls", 1), budget("eur", "10"))
    allowed = spend(lab, capability, eur="7.50")
    assert refused(lab, capability, eur=1) == ("budget_exhausted",)
    assert allowed.give_back("the bank was closed") == {"calls": "1", "eur": "7.5"}
    assert held(store) == ["0", "0"]
    assert spend(lab, capability, eur=10).remaining == {"calls": "0", "eur": "0"}


def test_the_log_says_who_gave_what_back_and_why(lab: Lab, store: SQLiteStore) -> None:
    allowed = spend(lab, minted(budget("calls", 1)))
    allowed.give_back("the bank was closed")
    (event,) = returned(store)
    (decision,) = lab.records.decisions
    assert (event.audience, event.decision, event.reason) == ("crm", decision.id, "the bank was closed")
    assert event.presentation == decision.presentation
    assert event.given == (Paid(allowed.spent[0].counter, "calls", Decimal(1)),)


def test_what_others_spent_stays_spent(lab: Lab, store: SQLiteStore) -> None:
    parent = minted(budget("eur", 20))
    child = parent.delegate(to="child", caveats=[budget("eur", 10)], nonce=NONCES[0])
    mine = spend(lab, child, eur=4)
    spend(lab, child, eur=3)
    spend(lab, parent, eur=5)
    assert sorted(held(store), key=int) == ["7", "12"]
    assert mine.give_back("x") == {"eur": "4"}
    assert sorted(held(store), key=int) == ["3", "8"]


def test_giving_back_twice_is_giving_back_once(lab: Lab, store: SQLiteStore) -> None:
    capability = minted(budget("calls", 5))
    allowed = spend(lab, capability)
    spend(lab, capability)
    assert [allowed.give_back(reason) for reason in ("first", "second")] == [{"calls": "1"}] * 2
    assert held(store) == ["1"]
    assert [one.reason for one in returned(store)] == ["first"]


def test_a_presentation_that_gave_back_is_used_up(lab: Lab, store: SQLiteStore) -> None:
    one = admitted(lab, minted(budget("calls", 5), budget("eur", 5)))
    one.judge(Call("a.read", cost={"eur": 2})).give_back("x")
    for price in (2, 3, 0):
        with pytest.raises(Denied) as denied:
            one.judge(Call("a.read", cost={"eur": price}))
        assert codes(denied.value) == ("replayed",)
    assert held(store) == ["0", "0"]
    assert lab.records.slots == 0


def test_all_prices_of_a_presentation_are_given_back_at_once(lab: Lab, store: SQLiteStore) -> None:
    one = admitted(lab, minted(budget("eur", 10)))
    cheap, dear = (one.judge(Call("a.read", cost={"eur": price})) for price in (2, 9))
    assert cheap.give_back("x") == dear.give_back("x") == {"eur": "9"}
    assert held(store) == ["0"]


def test_what_has_expired_gives_nothing_back(lab: Lab, store: SQLiteStore) -> None:
    late, early = (spend(lab, minted(budget("calls", 5), expires=NOW + 60)) for _ in range(2))
    lab.clock.now = NOW + 59
    early.give_back("x")
    lab.clock.now = NOW + 60
    with pytest.raises(InvalidRequest, match="expired at"):
        late.give_back("x")
    assert held(store) == ["1"]


@pytest.mark.parametrize("death", ["T1", "presentation", "kid"])
def test_what_is_revoked_gives_nothing_back(lab: Lab, store: SQLiteStore, death: str) -> None:
    capability = minted(budget("calls", 5))
    token = capability.present(READ, now=NOW)
    allowed = lab.verifier.verify(token.text, READ, Call("a.read"))
    keys: dict[str, bytes | str] = {"T1": "T1", "presentation": token.id, "kid": f"kid:{capability.kid}"}
    dead = keys[death]
    lab.deaths.deaths[dead] = "revoked"
    with pytest.raises(InvalidRequest, match="gives nothing back: "):
        allowed.give_back("x")
    assert held(store) == ["1"]


def test_who_may_not_know_of_a_death_gives_nothing_back(lab: Lab, store: SQLiteStore) -> None:
    allowed = spend(lab, minted(budget("calls", 5)))
    lab.deaths.years = 31
    with pytest.raises(InvalidRequest, match="no news of revocations"):
        allowed.give_back("x")
    lab.deaths.years = 0
    allowed.give_back("x")
    assert held(store) == ["0"]


def test_a_call_that_spent_nothing_gives_nothing_back(lab: Lab) -> None:
    # Whether a token has budgets is not the tool's affair.
    for allowed in (spend(lab, minted()), spend(Lab(), minted())):
        assert allowed.give_back("x") == {}


def test_a_bare_token_gives_back_as_a_presentation_does(store: SQLiteStore) -> None:
    lab = Lab(meter=store, bearer=True)
    capability = minted(budget("calls", 2))
    first, _ = (lab.verifier.verify(capability.text, READ, Call("a.read")) for _ in range(2))
    assert [first.give_back("x") for _ in range(2)] == [{"calls": "1"}] * 2
    assert held(store) == ["1"]


def copies(allowed: Allowed) -> list[Allowed]:
    # What pickle would build. (It cannot write a Call, so it writes no Allowed.)
    rebuilt: Any = allowed.__reduce__()
    return [rebuilt[0](*rebuilt[1]), copy(allowed), replace(allowed, hops=())]


def test_a_copy_of_a_decision_equals_it_and_gives_nothing_back(lab: Lab, store: SQLiteStore) -> None:
    allowed = spend(lab, minted(budget("calls", 2)))
    assert "give" not in repr(allowed)
    for one in copies(allowed):
        assert (one, repr(one)) == (allowed, repr(allowed))
        with pytest.raises(InvalidRequest, match="this is a copy of a decision"):
            one.give_back("x")
    assert held(store) == ["1"]


@pytest.mark.parametrize("reason", ["", "x" * 129, "two\nlines", "\x1b[31m", "a\u202eb", None, 5])
def test_a_reason_is_a_label(lab: Lab, store: SQLiteStore, reason: Any) -> None:
    allowed = spend(lab, minted(budget("calls", 2)))
    with pytest.raises(InvalidRequest, match="give a reason of 1 to 128 characters"):
        allowed.give_back(reason)
    assert held(store) == ["1"]


def test_async_code_gives_back_in_a_thread(lab: Lab, store: SQLiteStore) -> None:
    threads: list[int] = []

    class Noting(SQLiteStore):
        def give_back(self, payer: Payer, *, decision: str, reason: str, now: int) -> tuple[Paid, ...]:
            threads.append(threading.get_ident())
            return super().give_back(payer, decision=decision, reason=reason, now=now)

    noting = Noting(store.path)
    allowed = spend(Lab(meter=noting), minted(budget("calls", 2)))
    assert asyncio.run(allowed.give_back_async("x")) == {"calls": "1"}
    noting.close()
    assert threads != [threading.get_ident()]
    assert held(store) == ["0"]


class Losing:
    """A meter over a store whose next answers to a give-back are lost, before or after it was done."""

    def __init__(self, store: SQLiteStore, *, done: bool) -> None:
        self._store = store
        self._done = done
        self.losses = 1

    def spend(self, payer: Payer, spends: Sequence[Spend], *, now: int) -> Tally:
        return self._store.spend(payer, spends, now=now)

    def spent(self, counters: Sequence[tuple[str, str]]) -> tuple[Decimal, ...]:
        return self._store.spent(counters)

    def give_back(self, payer: Payer, *, decision: str, reason: str, now: int) -> tuple[Paid, ...]:
        lost, self.losses = self.losses > 0, self.losses - 1
        if lost and not self._done:
            raise Unavailable("lost")
        given = self._store.give_back(payer, decision=decision, reason=reason, now=now)
        if lost:
            raise Unavailable("lost")
        return given


@pytest.mark.parametrize("done", [False, True])
def test_an_answer_that_is_lost_can_be_asked_for_again(store: SQLiteStore, done: bool) -> None:
    lab = Lab(meter=Losing(store, done=done))
    one = admitted(lab, minted(budget("calls", 2)))
    allowed = one.judge(Call("a.read"))
    with pytest.raises(StoreProblem):
        allowed.give_back("x")
    # It may have been given back, so the presentation is good for nothing more.
    with pytest.raises(Denied, match="gave back"):
        one.judge(Call("a.read"))
    assert allowed.give_back("x") == {"calls": "1"}
    assert held(store) == ["0"]
    assert len(returned(store)) == 1


def test_racing_threads_give_back_once(lab: Lab, store: SQLiteStore) -> None:
    capability, begin = minted(budget("calls", 30)), threading.Barrier(20)
    one = admitted(lab, capability)
    allowed = one.judge(Call("a.read"))
    spend(lab, capability)

    def act(number: int) -> Any:
        begin.wait()
        return one.decide(Call("a.read")).allowed if number % 4 == 0 else allowed.give_back("x")

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(act, range(20)))
    assert answers.count({"calls": "1"}) == 15
    assert held(store) == ["1"]
    assert len(returned(store)) == 1
