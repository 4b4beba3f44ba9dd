"""What people signed is shown as signed; what they did not is the word of the authority."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from capx.proof import ProofBroken, export
from tests.labs.proving import NOW, PLANNER, ProofLab, read
from tests.proof.conftest import Told


def test_an_intent_is_shown_with_its_principal(told: Told) -> None:
    intent = told.report.intent
    assert intent is not None
    assert (intent.principal, intent.statement, intent.is_signed) == ("ana", "Do the work.", True)
    assert "the intent: signed by 'ana'" in told.report.signed


def test_an_answer_is_shown_with_what_was_asked(told: Told) -> None:
    (answer,) = told.report.answers
    assert (answer.approver, answer.yes, answer.is_signed) == ("bob", True, True)
    assert (answer.action, answer.audience) == ("billing.refund", "billing")
    (part,) = told.proof.requests
    assert part.shown["args"] == '{"amount":40}'


def test_an_answer_that_is_left_out_is_the_word_of_the_log(told: Told) -> None:
    report = read(replace(told.proof, requests=()), told.trust)
    assert [one.is_signed for one in report.answers] == [False]
    (request,) = (one.about for one in report.answers)
    lacks = f"the proof lacks what 'bob' has signed about {request}: the log says only that it was a yes"
    assert lacks in report.gaps
    assert report.result == "incomplete"


def test_a_no_is_in_the_proof_as_a_yes_is(lab: ProofLab) -> None:
    task, planner = lab.started()
    request = lab.pending(planner, "billing.refund", {"amount": 400})
    lab.decide(request.request, yes=False)
    report = read(export(lab.authority, task.id, now=NOW), lab.trust())
    assert [(one.yes, one.is_signed) for one in report.answers] == [(False, True)]


def test_a_task_by_hand_has_nobodys_intent(lab: ProofLab) -> None:
    task = lab.authority.open(allow=["crm.read"])
    report = read(export(lab.authority, task.id, now=NOW), lab.trust())
    assert report.intent is None
    assert "the task was opened by hand: nobody's intent is behind it" in report.words


def test_an_answer_is_of_its_task(lab: ProofLab) -> None:
    task, planner = lab.started()
    lab.decide(lab.pending(planner, "billing.refund", {"amount": 40}).request)
    made = export(lab.authority, task.id, now=NOW)
    other, _ = lab.started()
    # A dishonest authority writes the yes into the log of another task.
    (said,) = [event for event in lab.authority.log() if event.kind == "request_approved"]
    facts = said.facts() | {"task": other.id}
    with lab.authority.store.write() as transaction:
        transaction.append("request_approved", msgspec.json.encode(facts), at=NOW)
    moved = replace(export(lab.authority, other.id, now=NOW), requests=made.requests)
    with pytest.raises(ProofBroken, match=r"has answered request .* in another task"):
        read(moved, lab.trust())


def test_a_grant_is_what_the_person_was_shown(lab: ProofLab) -> None:
    task, planner = lab.started()
    request = lab.pending(planner, "billing.refund", {"amount": 40}).request
    lab.decide(request)
    lab.granted(planner, "billing.refund", {"amount": 40})
    assert read(export(lab.authority, task.id, now=NOW), lab.trust()).contradictions == ()
    minted = [event for event in lab.authority.log() if event.kind == "capability_minted"]
    wide, granted = minted[0].facts(), minted[-1].facts()
    assert granted["request"] == request
    made_up: list[dict[str, Any]] = [
        # What was minted at open, as if a person had agreed to it; and what nobody has agreed to.
        wide | {"request": request, "hops": list[str](), "consent": True},
        granted | {"request": lab.pending(planner, "billing.refund", {"amount": 41}).request},
    ]
    for facts in made_up:
        with lab.authority.store.write() as transaction:
            transaction.append("capability_minted", msgspec.json.encode(facts), at=NOW)
    found = read(export(lab.authority, task.id, now=NOW), lab.trust()).contradictions
    assert any("is not what was shown to who agreed to request" in why for why in found), found
    assert any("and nobody had agreed" in why for why in found), found


def test_each_round_of_asking_has_its_own_yes(tmp_path: Path) -> None:
    lab = ProofLab(tmp_path, uses=1)
    task, planner = lab.started()
    for nth in range(2):
        request = lab.pending(planner, "billing.refund", {"amount": 40}).request
        lab.decide(request)
        granted = lab.granted(planner, "billing.refund", {"amount": 40})
        holder = planner.holding(granted.with_key(PLANNER), now=NOW)
        assert lab.call(holder, "billing.refund", {"amount": 40}).allowed, nth
        lab.authority.flush()
        assert read(export(lab.authority, task.id, now=NOW), lab.trust()).contradictions == ()
    again = lab.pending(planner, "billing.refund", {"amount": 40}).request
    minted = [event.facts() for event in lab.authority.log() if event.kind == "capability_minted"][-1]
    with lab.authority.store.write() as transaction:
        transaction.append("capability_minted", msgspec.json.encode(minted | {"request": again}), at=NOW)
    found = read(export(lab.authority, task.id, now=NOW), lab.trust()).contradictions
    lab.close()
    assert any("and nobody had agreed" in why for why in found), found
