"""What is admitted: its claims, and how its call is screened and judged."""

import pytest

from capx.tokens.binding import ToolCall
from capx.verify.decision import Denied
from capx_caveats import (
    Call,
    Expires,
    Intent,
    Root,
    Step,
    Task,
    Tenant,
    UntilCompleted,
    action,
    allow,
    encode_block,
    tenant,
)
from tests.labs.lab import NONCES, NOW, Lab, codes, minted, raw

READ = ToolCall("a.read")
CALL = Call("a.read")


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
    assert admitted.granted_tenant() == "Acme"
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
        admitted.granted_tenant()
    assert caught.value.code == "incomplete_authority"
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
