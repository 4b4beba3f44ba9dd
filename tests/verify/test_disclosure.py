"""What a refusal discloses, and what is kept for the log."""

import pickle

import pytest
from msgspec import UNSET

from capx.verify.decision import Decision, Denied, reason
from capx.verify.disclosure import disclosed
from capx_caveats import Refusal

ARGUMENT = Refusal("argument_refused", 'x; "to" is 5', "x", {"to": 5}, 1, "sub", general="x")
DERIVED = Refusal("argument_refused", "an attribute cannot be judged", detail="region is 5")
LATE = Refusal("call_window", "99 s old", given=7)


def denied(*refusals: Refusal, sent: bool = False, told: tuple[Refusal, ...] | None = None) -> Denied:
    decision = Decision(id="D" * 22, at=1, allowed=False, audience="crm", refusals=refusals)
    return Denied(decision, None, "", sent, told)


def test_arguments_are_told_to_those_who_sent_them() -> None:
    (told,) = disclosed([ARGUMENT], sent=True)
    assert told == ARGUMENT
    (hidden,) = disclosed([ARGUMENT], sent=False)
    assert (hidden.sentence, hidden.given, hidden.wanted) == ("x", UNSET, "x")
    assert (hidden.code, hidden.hop, hidden.hop_name) == ("argument_refused", 1, "sub")


@pytest.mark.parametrize("sent", [True, False])
def test_a_detail_is_never_told(*, sent: bool) -> None:
    assert [one.detail for one in disclosed([DERIVED, ARGUMENT], sent=sent)] == ["", ""]
    assert "region" not in str(denied(DERIVED, sent=sent))
    assert "region" not in str(denied(DERIVED, sent=sent).problem())
    assert reason(DERIVED)["sentence"] == "an attribute cannot be judged; region is 5"


def test_what_is_given_beside_arguments_is_the_bearers() -> None:
    assert disclosed([LATE], sent=False) == (LATE,)


def test_a_refusal_without_a_general_sentence_keeps_its_own() -> None:
    (told,) = disclosed([Refusal("argument_not_named", "one argument too many", given="to")], sent=False)
    assert (told.sentence, told.given) == ("one argument too many", UNSET)


def test_a_denial_holds_the_decision_and_tells_less() -> None:
    other = Refusal("wrong_tenant", "is for another")
    error = denied(ARGUMENT, DERIVED, told=(other,))
    assert (error.code, error.refusals) == ("wrong_tenant", (other,))
    assert error.decision.refusals == (ARGUMENT, DERIVED)
    assert pickle.loads(pickle.dumps(error)).refusals == (other,)  # our own bytes


def test_neither_general_nor_detail_is_a_member_of_a_reason() -> None:
    assert reason(ARGUMENT).keys() == {"code", "sentence", "wanted", "given", "hop", "hop_name"}
