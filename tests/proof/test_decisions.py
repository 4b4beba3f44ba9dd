"""Each decision in a proof says who vouches for it."""

from typing import Any

import msgspec
import pytest
from msgspec import structs

from capx.api.messages.base import decode_body
from capx.api.messages.resources import Reports
from capx.crypto.canonical_json import canonical
from capx.errors import InvalidRequest
from capx.proof import export
from capx.store.records import DecisionRecord
from capx.tokens.binding import ToolCall
from capx.verify.evidence import args_commitment, salt_of
from capx_caveats import Call
from tests.labs.proving import NOW, PLANNER, READER, ProofLab, full_trust, read
from tests.proof.conftest import Told


def test_each_decision_says_who_held_what(told: Told) -> None:
    by_action = {(one.action, one.outcome, one.agents): one for one in told.report.decisions}
    own = by_action["crm.export", "allowed", ()]
    assert (own.key, own.agent_signed) == (PLANNER.public, True)
    denied = by_action["crm.read", "denied", ("reader",)]
    assert denied.key == READER.public
    assert "demands the approval" in denied.reasons[0]
    approved = by_action["crm.read", "allowed", ("reader",)]
    assert [(one.signers, one.calls, one.is_shown) for one in approved.approvals] == [(("cara",), "1", True)]
    assert approved.shown_args == {"id": 2}
    assert by_action["slides.write", "allowed", ()].logs[0].startswith("capx-ledger/slides/")


def test_what_a_service_has_filled_in_is_told(lab: ProofLab) -> None:
    task, planner = lab.started()
    sent, judged = {"id": 1}, {"id": 1, "page": 1}
    text = planner.present("crm", ToolCall("crm.read", sent), now=NOW).text
    verifier = lab.authority.verifier("crm")
    call = Call("crm.read", sent, tenant="Acme", defaults={"page": 1})
    decided = verifier.decide(text, ToolCall("crm.read", sent), call)
    assert decided.allowed
    lab.authority.flush()
    made = export(lab.authority, task.id, disclose={decided.id: judged}, now=NOW)
    (decision,) = read(made, lab.trust()).decisions
    assert (decision.args, decision.compared, decision.filled) == (judged, True, ("page",))


def test_disclosed_arguments_stand_beside_their_decision(told: Told) -> None:
    shown = [one for one in told.report.decisions if one.args is not None]
    assert [(one.id, one.args) for one in shown] == [(told.lab.decisions[0].id, {"id": 1})]


def test_a_decision_in_two_logs_is_one(lab: ProofLab) -> None:
    task, planner = lab.started()
    lab.call(planner, "slides.write")
    lab.authority.flush()
    (event,) = [one for one in lab.authority.log() if one.kind == "decision"]
    part = lab.ledger_part(task.id, event.facts())
    report = read(export(lab.authority, task.id, parts=[part], now=NOW), full_trust(lab))
    assert [len(one.logs) for one in report.decisions] == [2]
    assert report.contradictions == ()


def test_without_evidence_a_decision_is_the_word_of_its_resource(lab: ProofLab) -> None:
    task, planner = lab.started()
    verifier = lab.authority.verifier("crm", evidence=False)
    lab.call(planner, "crm.read", verifier=verifier)
    lab.authority.flush()
    report = read(export(lab.authority, task.id, now=NOW), lab.trust())
    assert [(one.outcome, one.agent_signed) for one in report.decisions] == [("allowed", False)]
    assert any("that no agent's key has signed" in word for word in report.words)
    assert report.contradictions == ()


def test_an_approval_whose_document_is_gone_says_so(told: Told) -> None:
    report = read(structs.replace(told.proof, approvals=()), told.trust)
    assert any("what the signers of 1 approvals were shown" in one for one in report.would_show_more)
    assert [each.is_shown for one in report.decisions for each in one.approvals] == [False]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"shown_args": {"id": 2**60}}, "shows other arguments in the clear than those that it commits to"),
        ({"shown_args": {"id": 1e300}}, "shows other arguments in the clear than those that it commits to"),
        ({"shown_args": {"other": 1}}, "shows other arguments in the clear than those that it commits to"),
        ({"action": "no action"}, "names an action that is none"),
    ],
)
def test_one_report_that_no_call_fits_takes_nothing_from_others(
    lab: ProofLab, change: dict[str, Any], why: str
) -> None:
    task, planner = lab.started()
    ours = lab.call(planner, "crm.read", {"id": 1})
    other = lab.call(planner, "crm.read", {"id": 1})
    lab.authority.flush()
    bodies = {event.facts()["id"]: event.facts() for event in lab.authority.log() if event.kind == "decision"}
    made_up = {**bodies[ours.id], **change, "id": f"{ours.id[:-1]}{'B' if ours.id[-1] == 'A' else 'A'}"}
    made_up["args"] = args_commitment(
        salt_of(lab.authority.keyring.active.audience_key("crm"), made_up["id"]), canonical({"id": 1})
    )
    lab.authority.store.record([DecisionRecord(made_up["id"], made_up["at"], msgspec.json.encode(made_up))])
    made = export(lab.authority, task.id, disclose={made_up["id"]: {"id": 1}}, now=NOW)
    report = read(made, lab.trust())
    assert any(made_up["id"] in one and one.endswith(why) for one in report.contradictions), report.contradictions
    assert other.id in {one.id for one in report.decisions}


def test_a_number_that_no_call_can_have_is_not_reported(lab: ProofLab) -> None:
    _, planner = lab.started()
    body = lab.call(planner, "crm.read", {"id": 1}).body()
    for value, is_taken in ((2**53 - 1, True), (2**53, False), (-(2.0**60), False), (0.5, True), (True, True)):
        report = msgspec.json.encode({"decisions": [{**body, "shown_args": {"id": value}}]})
        if is_taken:
            assert decode_body(report, Reports).decisions
        else:
            with pytest.raises(InvalidRequest, match="Expected"):
                decode_body(report, Reports)
