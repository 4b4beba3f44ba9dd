"""What people signed is shown as signed; what they did not is the word of the authority."""

from msgspec.structs import replace

from capx.proof import export
from tests.labs.proving import NOW, ProofLab, read
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
    assert any("the answer of 'bob' to request" in word for word in report.words)


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
