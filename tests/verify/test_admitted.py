"""What is admitted: its claims, and how its call is screened and judged."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from msgspec import UNSET

from capx.errors import StoreProblem
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.binding import HttpRequest, ToolCall
from capx.tokens.capability import Capability
from capx.verify.admitted import Admitted
from capx.verify.args_digest import args_digest
from capx.verify.ask import Ask
from capx.verify.decision import Decision, Denied
from capx.verify.meter import Payer, Spend, Tally
from capx_caveats import (
    DEFAULT,
    JSON,
    Call,
    Caveat,
    Expires,
    Facts,
    Intent,
    Refusal,
    Root,
    Step,
    Task,
    Tenant,
    UntilCompleted,
    action,
    allow,
    budget,
    encode_block,
    tenant,
)
from tests.labs.lab import KEY, NONCES, NOW, Clock, Lab, Records, codes, minted, raw

READ = ToolCall("a.read")
CALL = Call("a.read")
REQUEST = HttpRequest(method="GET", target="/x")


def by_request(lab: Lab, capability: Capability) -> Admitted:
    """What is admitted with an HTTP request, which names no action."""
    return lab.verifier.admit(capability.present(REQUEST, now=NOW).text, REQUEST)


def test_admit_refuses_the_dead_and_leaves_the_call_to_judge() -> None:
    lab = Lab()
    admitted = lab.verifier.admit(lab.present(minted()), READ)
    with pytest.raises(Denied) as caught:
        admitted.judge(Call("a.export"))
    assert caught.value.code == "action_not_allowed"
    assert admitted.judge(CALL).call == CALL
    lab.deaths.deaths["T1"] = "task_completed"
    with pytest.raises(Denied) as caught:
        lab.verifier.admit(lab.present(minted()), ToolCall("a.read"))
    assert codes(caught.value) == ("task_completed",)


def test_a_task_that_ends_after_admission_is_refused_later() -> None:
    lab = Lab()
    admitted = lab.verifier.admit(lab.present(minted()), READ)
    assert admitted.judge(CALL).task == "T1"
    lab.deaths.deaths["T1"] = "task_withdrawn"
    with pytest.raises(Denied) as caught:
        admitted.judge(CALL)
    assert caught.value.code == "task_withdrawn"


def test_admitted_and_allowed_state_the_authoritys_claims() -> None:
    lab = Lab()
    steps = (Step("asker", NONCES[3]),)
    block = (Task("T1"), Intent("A" * 43), Root("R1", steps), UntilCompleted("T1"), Expires(NOW + 9), Tenant("Acme"))
    capability = raw(encode_block((*block, allow("a.read")))).delegate(
        to="a", nonce=NONCES[0], caveats=[Expires(NOW + 5), Tenant("Acme")]
    )
    admitted = lab.verifier.admit(lab.present(capability), READ)
    assert (admitted.task, admitted.tenant, admitted.intent, admitted.root) == ("T1", "Acme", "A" * 43, "R1")
    assert (admitted.path, admitted.node, admitted.hops) == (capability.path, capability.node, ("asker", "a"))
    allowed = admitted.judge(Call("a.read", tenant="Acme"))
    assert (allowed.task, allowed.tenant, allowed.intent, allowed.root) == ("T1", "Acme", "A" * 43, "R1")
    assert (allowed.node, allowed.hops, allowed.expires) == (capability.node, ("asker", "a"), NOW + 5)
    assert lab.records.decisions[-1].id == allowed.decision.id


def test_allowed_and_denied_hold_the_decision_that_is_recorded() -> None:
    lab = Lab()
    admitted = lab.verifier.admit(lab.present(minted()), READ)
    allowed = admitted.judge(Call("a.read"))
    assert allowed.decision is lab.records.decisions[-1]
    with pytest.raises(Denied) as caught:
        admitted.judge(Call("b.read"))
    assert caught.value.decision is lab.records.decisions[-1]
    assert [one.allowed for one in (allowed.decision, caught.value.decision)] == [True, False]


def test_a_tenant_that_only_a_holder_names_is_no_claim() -> None:
    lab = Lab()
    admitted = lab.verifier.admit(lab.present(minted().attenuate(tenant("Acme"))), READ)
    assert admitted.tenant is None
    with pytest.raises(Denied) as caught:
        admitted.judge(Call("a.read", tenant="Acme"))
    assert codes(caught.value) == ("incomplete_authority",)


def test_screening_refuses_what_no_arguments_could_make_good() -> None:
    lab = Lab()
    capability = minted().delegate(to="a", allow=[action("a.read", id=1)])
    admitted = lab.verifier.admit(lab.present(capability), READ)
    admitted.screen("a.read")
    with pytest.raises(Denied) as caught:
        admitted.screen("a.export")
    assert [(refusal.code, refusal.hop) for refusal in caught.value.refusals] == [
        ("action_not_allowed", 0),
        ("action_not_allowed", 1),
    ]


def test_screening_tells_no_more_than_any_denial() -> None:
    lab = Lab()
    capability = minted().attenuate(*(allow("b") for _ in range(40)))
    admitted = lab.verifier.admit(lab.present(capability), ToolCall("a.read"))
    with pytest.raises(Denied) as caught:
        admitted.screen("a.read")
    assert len(caught.value.refusals) == 32
    # Each sentence takes time, so no more are written.
    assert len(admitted.ruled_out("a.read")) == 32


def test_an_action_is_permitted_if_every_allowlist_has_it() -> None:
    lab = Lab()
    one = by_request(lab, minted(allowed=allow("a.read", "a.write")).attenuate(allow("a.read", "b.*")))
    assert [one.permits(action) for action in ("a.read", "a.write", "b.read", "c")] == [True, False, False, False]
    assert [len(one.ruled_out(action)) for action in ("a.read", "a.write", "b.read", "c")] == [0, 1, 1, 2]
    assert lab.records.decisions == []


def test_without_arguments_a_screened_denial_has_no_digest() -> None:
    sent: list[tuple[dict[str, JSON] | None, bool]] = [(None, False), ({}, True)]
    for args, has_one in sent:
        with pytest.raises(Denied) as caught:
            by_request(Lab(), minted()).screen("a.export", args)
        assert (caught.value.decision.args_digest is not None) == has_one


def test_a_screened_denial_names_the_action_and_what_was_sent() -> None:
    lab = Lab()
    admitted = by_request(lab, minted())
    with pytest.raises(Denied) as caught:
        admitted.screen("a.export", {"id": 7})
    (refusal,) = caught.value.refusals
    assert (refusal.given, caught.value.ask) == ("a.export", Ask.of("a.export", audience="crm", args={"id": 7}))
    assert lab.records.decisions[-1].action == "a.export"


def test_sent_arguments_that_are_no_json_have_no_digest() -> None:
    admitted = by_request(Lab(), minted())
    with pytest.raises(Denied) as caught:
        admitted.screen("a.export", {"id": "\ud800"})
    assert caught.value.decision.args_digest is None


# Another tenant


@pytest.mark.parametrize(
    ("stated", "why"),
    [
        ("Globex", ""),
        (None, "the service states no tenant"),
        ("", "the service states a tenant that is no label"),
        (5, "the service states a tenant that is no label"),
    ],
)
def test_the_log_has_why_a_tenant_is_not_the_tokens(stated: object, why: str) -> None:
    lab = Lab()
    admitted = by_request(lab, minted(tenant("Acme")))
    admitted.demand_tenant("a.read", "Acme")
    with pytest.raises(Denied) as caught:
        admitted.demand_tenant("a.read", stated)
    assert [refusal.detail for refusal in caught.value.refusals] == [""]
    (decision,) = lab.records.decisions
    assert (decision.action, [refusal.detail for refusal in decision.refusals]) == ("a.read", [why])


def test_an_action_that_is_none_is_not_recorded() -> None:
    lab = Lab()
    admitted = by_request(lab, minted(tenant("Acme")))
    admitted.missing_row("not an action!")
    admitted.missing_row("a.read")
    assert [decision.action for decision in lab.records.decisions] == [None, "a.read"]
    assert [decision.refusals[-1].detail for decision in lab.records.decisions] == ["", ""]


def test_a_recorded_denial_can_be_told_as_a_missing_row() -> None:
    lab = Lab()
    presentation = minted(tenant("Acme")).present(READ, now=NOW)
    admitted = lab.verifier.admit(presentation.text, READ)
    decision = admitted.decide(Call("a.export", tenant="Acme"))
    told = admitted.as_missing(decision)
    assert told.decision is decision
    assert told.refusals == admitted.missing_row("a.read").refusals
    assert presentation.id is not None
    lab.deaths.deaths[presentation.id] = "revoked"
    assert codes(admitted.as_missing(decision)) == ("revoked", "wrong_tenant")


# What is recorded of a judged call


def test_a_denial_of_another_presentation_is_not_this_ones() -> None:
    lab, capability = Lab(), minted()
    one, other = (by_request(lab, capability) for _ in range(2))
    denied = one.missing_row("a.read").decision
    assert one.denied_by(denied)
    # They share a lineage, which the cache keeps.
    assert other.missing_row("a.read").decision.lineage is denied.lineage
    assert not other.denied_by(denied)
    assert not one.denied_by(one.judge(CALL).decision)


def test_a_decision_on_a_request_has_the_judged_action() -> None:
    lab = Lab()
    admitted = by_request(lab, minted(tenant("Acme")))
    assert admitted.decide(Call("a.read", tenant="Acme")).action == "a.read"
    assert admitted.decide(Call("a.export", tenant="Acme")).action == "a.export"
    with pytest.raises(Denied) as caught:
        admitted.judge(Call("a.write", tenant="Globex"))
    assert caught.value.decision.action == "a.write"
    with pytest.raises(Denied) as caught:
        asyncio.run(admitted.judge_async(Call("a.write", tenant="Globex")))
    assert caught.value.decision.action == "a.write"
    lab.records.full = True
    assert admitted.decide(Call("a.read", tenant="Acme")).action == "a.read"
    assert {decision.task for decision in lab.records.decisions} == {"T1"}


def test_a_presentation_that_ends_after_the_head_is_not_admitted() -> None:
    lab = Lab()
    presentation = minted().present(READ, now=NOW)
    authentic = lab.verifier.authenticate(presentation.text)
    assert presentation.id is not None
    lab.deaths.deaths[presentation.id] = "revoked"
    with pytest.raises(Denied) as caught:
        lab.verifier.admit(authentic, READ)
    assert codes(caught.value) == ("revoked",)


# Async code


class Threads(Caveat, frozen=True, tag="acme.threads"):
    """Allows a call, and says in which thread it was judged."""

    def refusal(self, facts: Facts) -> Refusal | None:
        seen.append(threading.current_thread() is threading.main_thread())
        return None

    def sentence(self) -> str:
        return "is judged somewhere"


seen: list[bool] = []
PINNED = minted(tenant("Acme"), allowed=allow(action("a.read", id=1)))


@pytest.mark.parametrize("spends", [False, True])
def test_only_a_call_that_spends_is_judged_in_a_thread(store: SQLiteStore, *, spends: bool) -> None:
    lab = Lab(vocabulary=DEFAULT.extended(Threads), meter=store)
    capability = PINNED.attenuate(Threads(), *([budget("calls", 5)] if spends else []))
    call = Call("a.read", {"id": 1}, tenant="Acme")
    seen.clear()
    allowed = asyncio.run(by_request(lab, capability).judge_async(call))
    assert (allowed.call, allowed.remaining) == (call, {"calls": "4"} if spends else {})
    assert seen == [not spends]


def test_a_foreign_row_is_denied_before_a_thread_is_waited_for(store: SQLiteStore) -> None:
    threads: list[threading.Thread] = []

    class Noting(Records):
        def record(self, decision: Decision) -> None:
            threads.append(threading.current_thread())
            super().record(decision)

    admitted = by_request(Lab(meter=store, recorder=Noting()), PINNED.attenuate(budget("calls", 5)))
    assert admitted.spends
    with pytest.raises(Denied) as caught:
        asyncio.run(admitted.judge_async(Call("a.write", tenant="Globex")))
    assert (caught.value.code, caught.value.decision.action) == ("wrong_tenant", "a.write")
    assert threads == [threading.main_thread()]


@pytest.mark.parametrize("spends", [False, True])
def test_a_denial_names_arguments_only_if_they_were_sent(store: SQLiteStore, *, spends: bool) -> None:
    lab = Lab(meter=store)
    capability = PINNED.attenuate(budget("calls", 5)) if spends else PINNED
    call = Call("a.read", {"id": 2}, tenant="Acme")
    asked: list[Ask | None] = []
    for options in ({"sent": True}, {"sent": False}, dict[str, bool]()):
        for is_async in (False, True):
            admitted = by_request(lab, capability)
            with pytest.raises(Denied) as caught:
                asyncio.run(admitted.judge_async(call, **options)) if is_async else admitted.judge(call, **options)
            (refusal,) = caught.value.refusals
            assert refusal.given == ({"id": 2} if options.get("sent") else UNSET)
            asked.append(caught.value.ask)
    assert asked[:2] == [Ask.of("a.read", audience="crm", args={"id": 2})] * 2
    assert asked[2:] == [asked[2]] * 4
    assert asked[2] != asked[0]


# A meter that fails


class Failing(SQLiteStore):
    """A store that fails when something is spent from it, a second later."""

    error: BaseException
    clock: Clock

    def spend(self, payer: Payer, spends: Sequence[Spend], *, now: int) -> Tally:
        self.clock.now += 1
        raise self.error


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[Failing]:
    SQLiteStore.create(tmp_path / "failing.db").close()
    store = Failing(tmp_path / "failing.db")
    yield store
    store.close()


def test_a_meter_that_cannot_count_refuses_and_warns(
    failing: Failing, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same sentence is written at most once a minute.
    monkeypatch.setattr("capx.diagnostics._said", dict[str, float]())
    failing.error = StoreProblem("the disk of the meter is full")
    lab = Lab(meter=failing)
    failing.clock = lab.clock
    decision = by_request(lab, minted(budget("calls", 5))).decide(CALL)
    (refusal,) = decision.refusals
    assert (refusal.code, refusal.wanted, decision.action) == ("unavailable", "try again later", "a.read")
    assert lab.records.decisions == [decision]
    assert "budgets cannot be counted: the disk of the meter is full" in caplog.text


def test_a_call_that_breaks_off_while_it_is_paid_is_recorded(failing: Failing) -> None:
    failing.error = KeyboardInterrupt()
    lab = Lab(meter=failing)
    failing.clock = lab.clock
    capability = minted(budget("calls", 5))
    admitted = by_request(lab, capability)
    with pytest.raises(KeyboardInterrupt):
        admitted.judge(Call("a.read", {"id": 7}))
    (decision,) = lab.records.decisions
    assert (codes(decision), decision.allowed, decision.action) == (("unavailable",), False, "a.read")
    assert (decision.at, decision.task) == (NOW, "T1")  # as judged, and not as failed
    assert decision.args_digest == args_digest(KEY, capability.path[-1], "a.read", {"id": 7})
    assert lab.records.slots == 0
