"""A guarded request by itself: what is judged, told, kept and reported of its calls."""

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Event, get_ident
from typing import Any

import pytest

from capx.background import FewThreads
from capx.guard.call_facts import CallFacts
from capx.guard.guarded_request import GuardedRequest, denials
from capx.guard.observer import Observer
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.binding import HttpRequest
from capx.verify.decision import Allowed, Decision, Denied
from capx.verify.meter import Payer, Tally
from capx_caveats import Caveat, Refusal, Tenant, action, allow, budget, one_of, where
from tests.labs.lab import NOW, Lab, codes, minted

GET = HttpRequest(method="GET", target="/x")


class Reports(Observer):
    """Keeps what is reported, and when each request began."""

    def __init__(self) -> None:
        super().__init__()
        self.reports: list[tuple[str, int]] = []

    def decided(self, decision: Decision, started: int) -> None:
        self.reports.append((decision.id, started))
        super().decided(decision, started)


class Meter(SQLiteStore):
    """A store that notes in which thread something is spent."""

    threads: list[int]

    def spend(self, payer: Payer, spends: Any, *, now: int) -> Tally:
        self.threads.append(get_ident())
        return super().spend(payer, spends, now=now)


@pytest.fixture
def meter(tmp_path: Path) -> Iterator[Meter]:
    store = Meter.create(tmp_path / "meter.db")
    store.threads = []
    yield store
    store.close()


@pytest.fixture
def lab(meter: Meter) -> Lab:
    return Lab(meter=meter)


@pytest.fixture
def reports() -> Reports:
    return Reports()


def admitted(lab: Lab, *caveats: Caveat, observer: Observer | None = None, **parts: Any) -> GuardedRequest:
    """The request of an agent of Acme."""
    current = GuardedRequest(lab.verifier, observer or Observer(), public=False)
    token = minted(Tenant("Acme"), *caveats, **parts).present(GET, now=NOW).text
    current.admitted = lab.verifier.admit(token, GET)
    return current


def facts(tenant: str = "Acme", name: str = "a.read", **others: Any) -> CallFacts:
    return CallFacts(name, {"id": 7}, tenant, **others)


def row(current: GuardedRequest, about: CallFacts, *, is_async: bool) -> Allowed:
    if not is_async:
        return current.judge_row(about)

    async def judge() -> Allowed:
        return await current.judge_row_async(about)

    return asyncio.run(judge())


def test_a_new_request_has_no_decision(lab: Lab) -> None:
    current = GuardedRequest(lab.verifier, Observer(), public=True)
    assert current.public is True
    assert (current.admitted, current.allowed, current.denied) == (None, None, None)
    assert (current.entered, current.large, current.advice) == (False, False, "")
    assert [type(one) for one in (current.entered, current.large)] == [bool, bool]


def test_a_call_of_an_open_path_without_a_token_is_denied(lab: Lab) -> None:
    current = GuardedRequest(lab.verifier, Observer(), public=True)
    with pytest.raises(Denied) as caught:
        current.judge("a.read", {})
    assert codes(caught.value) == ("no_token",)
    assert current.denied is caught.value


def test_a_foreign_call_of_async_code_is_logged_with_its_action(lab: Lab) -> None:
    current = admitted(lab)
    with pytest.raises(Denied):
        asyncio.run(current.judge_call_async(facts("Globex")))
    assert [(one.action, one.code) for one in lab.records.decisions] == [("a.read", "wrong_tenant")]


def test_only_async_code_spends_in_another_thread(lab: Lab, meter: Meter) -> None:
    asyncio.run(admitted(lab, budget("calls", 9)).judge_call_async(facts()))
    admitted(lab, budget("calls", 9)).judge_call(facts())
    assert [thread == get_ident() for thread in meter.threads] == [False, True]


@pytest.mark.parametrize("sent", [{"id": 7}, None])
def test_a_denial_of_the_action_names_what_it_is_given(lab: Lab, sent: dict[str, Any] | None) -> None:
    asked: list[str] = []

    async def args() -> dict[str, Any] | None:
        asked.append("args")
        return sent

    current = admitted(lab)
    asyncio.run(current.screen_naming("a.read", args))
    # Nothing is read for a call that may be allowed.
    assert not asked
    current.advice = "ask a person"
    with pytest.raises(Denied) as caught:
        asyncio.run(current.screen_naming("a.forbidden", args))
    assert caught.value.ask is not None
    assert (caught.value.ask.action, caught.value.ask.args) == ("a.forbidden", sent)
    assert caught.value.advice == "ask a person"
    assert current.denied is caught.value


# Rows


AS_IT_IS: dict[str, Any] = {
    "action_not_allowed": ((), {"name": "a.forbidden"}),
    "budget_exhausted": ((budget("eur", "1"),), {"cost": {"eur": "2"}}),
}
AS_MISSING: dict[str, Any] = {
    "an attribute that is another": ((where("region", one_of("eu")),), {"attributes": {"region": "us"}}),
    "an attribute that the row lacks": ((where("region", one_of("eu")),), {}),
    "a cost that the row lacks": ((budget("eur", "1"),), {}),
    "another tenant": ((), {"tenant": "Globex"}),
    "two reasons, one of which is the row": (
        (budget("eur", "1"), where("region", one_of("eu"))),
        {"cost": {"eur": "2"}},
    ),
}


def denied_row(
    lab: Lab, caveats: tuple[Caveat, ...], stated: dict[str, Any], *, is_async: bool
) -> tuple[GuardedRequest, Denied]:
    """A request under these caveats, and the denial of a row of which this is stated."""
    current = admitted(lab, *caveats)
    with pytest.raises(Denied) as caught:
        row(current, facts(**stated), is_async=is_async)
    return current, caught.value


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("code", AS_IT_IS)
def test_a_denial_for_any_row_is_told_as_it_is(lab: Lab, code: str, *, is_async: bool) -> None:
    current, denied = denied_row(lab, *AS_IT_IS[code], is_async=is_async)
    assert codes(denied) == (code,)
    assert current.denied is denied


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("about", AS_MISSING)
def test_a_denial_of_this_row_is_told_as_a_missing_one(lab: Lab, about: str, *, is_async: bool) -> None:
    current, denied = denied_row(lab, *AS_MISSING[about], is_async=is_async)
    assert codes(denied) == ("wrong_tenant",)
    # The answer is the same denial, and the log has its real reasons.
    assert current.denied is denied
    assert lab.records.decisions == [denied.decision]
    assert denied.__context__ is None


def test_a_refused_argument_is_told_of_a_row_too(lab: Lab) -> None:
    current = admitted(lab, allowed=allow(action("a.read", id=one_of(1))))
    with pytest.raises(Denied) as caught:
        current.judge_row(facts(sent=True))
    assert codes(caught.value) == ("argument_refused",)


def test_a_later_denial_of_a_row_leaves_the_first_one(lab: Lab) -> None:
    current = admitted(lab)
    with pytest.raises(Denied) as first:
        current.judge("a.forbidden", {}, tenant="Acme")
    with pytest.raises(Denied) as second:
        current.judge_row(facts("Globex"))
    assert second.value is not first.value
    assert current.denied is first.value


def test_the_log_says_that_no_row_was_found(lab: Lab) -> None:
    with pytest.raises(Denied) as caught:
        admitted(lab).deny_missing_row("a.read")
    (decision,) = lab.records.decisions
    assert decision.action == "a.read"
    assert decision.refusals[0].detail == "the service found no such row"
    assert "no such row" not in str(caught.value)


# Facts that cannot be stated


@pytest.mark.parametrize("sent", [False, True])
def test_an_argument_is_told_in_a_refusal_only_if_it_was_sent(lab: Lab, *, sent: bool) -> None:
    refusal = Refusal("argument_refused", "sesame is no JSON", "JSON", general="an argument is no JSON")
    current = admitted(lab)
    with pytest.raises(Denied) as caught:
        current.deny("a.read", refusal, sent=sent)
    assert ("sesame" in str(caught.value)) is sent
    assert current.denied is caught.value
    (decision,) = lab.records.decisions
    assert (decision.action, decision.refusals) == ("a.read", (refusal,))


# Denials that the application raised by itself


def test_an_own_denial_is_reported_with_the_time_it_began(lab: Lab, reports: Reports) -> None:
    current = admitted(lab, observer=reports)
    assert current.admitted is not None
    denied = current.admitted.missing_row("a.read")
    current.keep_own_denial(denied)
    current.keep_own_denial(denied)
    assert current.denied is denied
    assert reports.reports == [(denied.decision.id, current.started)]


def test_all_decisions_of_a_request_have_one_beginning(lab: Lab, reports: Reports) -> None:
    before = time.time_ns()
    current = admitted(lab, observer=reports)
    assert before <= current.started <= time.time_ns()
    allowed = current.judge("a.read", {}, tenant="Acme")
    with pytest.raises(Denied) as caught:
        current.judge("a.forbidden", {}, tenant="Acme")
    assert reports.reports == [(one.id, current.started) for one in (allowed.decision, caught.value.decision)]
    assert current.allowed is allowed


def test_each_denial_is_found_once_wherever_it_hangs(lab: Lab) -> None:
    current = admitted(lab)
    assert current.admitted is not None
    one, other, last = (current.admitted.missing_row("a.read") for _ in range(3))
    error = RuntimeError()
    error.__context__, error.__cause__ = one, ExceptionGroup("", [ValueError(), ExceptionGroup("", [other])])
    one.__context__ = error
    other.__cause__ = last
    found = [*denials(error)]
    assert len(found) == 3
    assert {*map(id, found)} == {id(one), id(other), id(last)}
    assert [*denials(last)] == [last]
    assert [*denials(ValueError())] == []


async def test_large_requests_of_a_task_hold_up_no_other_task(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capx.guard.guarded_request._THREADS", FewThreads("capx-one", 1))
    began, go, order = Event(), Event(), list[str]()

    def work(task: str) -> None:
        began.set()
        assert go.wait(20)
        order.append(task)

    async def compute(task: str) -> None:
        # Each with a token of its own: a holder can make any number of them.
        current = admitted(lab, task=task)
        current.large = True
        await current.computed(partial(work, task))

    greedy = [asyncio.ensure_future(compute("T1")) for _ in range(5)]
    while not began.is_set():
        await asyncio.sleep(0.001)
    other = asyncio.ensure_future(compute("T2"))
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*greedy, other)
    # One was running already, and one was the next.
    assert order == ["T1", "T1", "T2", "T1", "T1", "T1"]
