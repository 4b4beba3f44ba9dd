"""Whose answer to a request counts, and until when."""

import pytest

from capx.store.events import RequestApproved, RequestDenied
from tests.labs.granting_lab import GrantingLab
from tests.labs.lab import NOW
from tests.labs.verdicts import lab, waiting

__all__ = ["lab"]


@pytest.mark.parametrize("yes", [True, False])
def test_an_answer_of_somebody_named_is_taken_and_logged(lab: GrantingLab, yes: bool) -> None:
    request = waiting(lab)
    lab.clock.now += 60
    verdict = lab.verdict(request, yes=yes)
    decided = lab.authority.answer(verdict)
    assert (decided.state, decided.approver, decided.answered) == ("approved" if yes else "denied", "bob", NOW + 60)
    fact: type[RequestApproved | RequestDenied] = RequestApproved if yes else RequestDenied
    (said,) = (event.read(fact) for event in lab.authority.log() if event.kind == fact.kind)
    assert (said.request, said.task, said.approver) == (request, decided.task, "bob")
    assert said.signature == verdict.signature
