"""What a denial discloses to the bearer, and what only the service and its log get."""

import pytest
from msgspec import UNSET

from capx.verify.decision import STATUS
from capx.verify.disclosure import ABOUT_ARGUMENTS, disclosed
from capx_caveats import Refusal

VALUE = {"id": "sesame-4711"}


def refusal(code: str, general: str = "allows no such value") -> Refusal:
    return Refusal(code, "id is sesame-4711", "another", given=VALUE, general=general, detail="of the service")


@pytest.mark.parametrize("code", sorted(STATUS))
@pytest.mark.parametrize("sent", [False, True])
def test_only_an_argument_that_was_not_sent_is_left_out(code: str, *, sent: bool) -> None:
    (found,) = disclosed([refusal(code)], sent=sent)
    hidden = not sent and code in ABOUT_ARGUMENTS
    assert (found.code, found.wanted) == (code, "another")
    assert found.sentence == ("allows no such value" if hidden else "id is sesame-4711")
    assert found.given == (UNSET if hidden else VALUE)


@pytest.mark.parametrize("code", ["argument_refused", "not_understood"])
@pytest.mark.parametrize("sent", [False, True])
def test_the_words_of_a_service_are_never_told(code: str, *, sent: bool) -> None:
    (found,) = disclosed([refusal(code)], sent=sent)
    assert found.detail == ""


def test_a_refusal_without_a_general_sentence_keeps_its_own() -> None:
    (found,) = disclosed([refusal("argument_refused", general="")], sent=False)
    assert (found.sentence, found.given) == ("id is sesame-4711", UNSET)


def test_all_refusals_stay_in_their_order() -> None:
    codes = ["expired", "argument_refused", "argument_not_named", "expired"]
    assert [one.code for one in disclosed(map(refusal, codes), sent=False)] == codes
    assert disclosed([], sent=False) == ()


@pytest.mark.parametrize("names", [("spy", "spy"), ("a", "spy"), (None, None)])
def test_of_the_budgets_without_room_the_last_is_told(names: tuple[str | None, ...]) -> None:
    budgets = [Refusal("budget_exhausted", f"of block {at}", "", hop=1, hop_name=name) for at, name in enumerate(names)]
    found = disclosed([refusal("expired"), *budgets, refusal("stale")], sent=True)
    assert [one.sentence for one in found if one.code == "budget_exhausted"] == ["of block 1"]
    assert [one.code for one in found] == ["expired", "budget_exhausted", "stale"]


def test_only_two_codes_are_about_arguments() -> None:
    assert {"argument_refused", "argument_not_named"} == ABOUT_ARGUMENTS
