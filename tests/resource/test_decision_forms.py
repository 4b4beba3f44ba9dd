"""The shorter forms of a decision: what each says less than the one before."""

from typing import Any

import msgspec

from capx.resource.decision_forms import forms, shorter
from capx.tokens.chain_text import ChainText
from capx.verify.decision import Decision
from capx.verify.evidence import Evidence
from capx_caveats import Refusal

PROOF = {"digest", "chain", "shown_args"}


def decision(given: Any) -> Decision:
    return Decision(
        id="d1",
        at=1,
        allowed=False,
        audience="crm",
        refusals=(Refusal("odd", "is odd", "even", given),),
        evidence=Evidence(digest="A" * 43, chain=ChainText("A", ())),
        shown_args={"id": 7},
    )


def left_out(body: bytes) -> tuple[bool, bool, bool]:
    """Whether the given value, the proof and the reasons are left out."""
    said = msgspec.json.decode(body)
    reasons = said.get("reasons", [])
    assert all({"code", "sentence", "wanted"} <= set(reason) for reason in reasons)
    return all("given" not in reason for reason in reasons), not PROOF & set(said), not reasons


def test_each_form_leaves_out_more_and_the_reasons_last() -> None:
    found = [left_out(form.body) for form in forms(decision([1]))]
    assert found == [
        (False, False, False),
        (True, False, False),
        (False, True, False),
        (True, True, False),
        (True, False, True),
        (True, True, True),
    ]


def test_a_value_that_is_not_json_is_in_no_form() -> None:
    first, *others = forms(decision({1j}))
    assert left_out(first.body) == (True, False, False)
    assert left_out(others[-1].body) == (True, True, True)


def test_a_form_of_a_line_is_that_of_its_decision() -> None:
    first, *others = forms(decision([1]))
    assert list(shorter(first)) == others
    assert {(one.id, one.at) for one in others} == {("d1", 1)}


def test_a_decision_without_reasons_has_shorter_forms() -> None:
    bare = msgspec.structs.replace(decision(1), refusals=())
    assert {left_out(form.body) for form in forms(bare)} == {(True, False, True), (True, True, True)}
