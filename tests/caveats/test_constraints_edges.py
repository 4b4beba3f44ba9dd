"""Where a shortcut, an order or a bound could let through what the rule does not."""

from typing import Any

import pytest

from capx_caveats import Call, Facts, Fields, Pair, Regex, action, allow, anything, fields, one_of

HEAVY = Regex("(?:(?:a|b|ab|ba)*[ab]{0,5}){0,50}")


def refusal(args: dict[str, Any], pairs: dict[str, Any]) -> Any:
    return allow(action("a.read", args=pairs)).refusal(Facts(Call("a.read", args), 0, 0.0))


@pytest.mark.parametrize("pairs", [{"*": anything(), "id": 1}, {"id": 1, "*": anything()}])
def test_the_pair_for_all_others_judges_no_named_argument(pairs: dict[str, Any]) -> None:
    assert refusal({"id": 1, "x": 2}, pairs) is None
    assert refusal({"id": 2, "x": 2}, pairs).given == {"id": 2}
    assert refusal({"x": 2}, pairs).code == "argument_refused"
    assert fields(pairs).judge({"id": 2, "x": 2}) is False
    assert fields(pairs).judge({"id": 1, "x": 2}) is True


def test_another_argument_that_is_refused_is_told_with_its_value() -> None:
    refused = refusal({"x": 1, "y": 2}, {"*": one_of(1)})
    assert (refused.code, refused.given) == ("argument_refused", {"y": 2})
    assert '"y" is 2' in refused.sentence


def test_an_argument_named_like_all_others_is_one_of_them() -> None:
    assert refusal({"*": 1}, {"*": one_of(1)}) is None
    assert refusal({"*": 2}, {"*": one_of(1)}).given == {"*": 2}
    assert refusal({"*": 1, "id": 1}, {"id": 1}).code == "argument_not_named"


def test_many_arguments_are_judged_by_what_reads_no_text() -> None:
    many = {str(at): "x" for at in range(2000)}
    assert refusal(many, {"*": anything()}) is None
    assert refusal({**many, "id": 2}, {"id": 1, "*": anything()}).given == {"id": 2}


def test_the_members_of_an_object_share_one_bound() -> None:
    both = Fields((Pair("a", HEAVY), Pair("b", HEAVY)))
    assert both.judge({"a": "ab" * 5, "b": "ab" * 5}) is True
    assert HEAVY.judge("ab" * 240) is True
    assert both.judge({"a": "ab" * 240, "b": "ab" * 240}) is None


def test_neither_order_nor_number_of_names_opens_the_world() -> None:
    pairs: dict[str, Any] = {"a": 1, "b": 1, "c": 1}
    assert refusal({"a": 1, "b": 1, "c": 1}, pairs) is None
    for args in ({"a": 1, "b": 1, "c": 1, "d": 1}, {"a": 1, "b": 1, "d": 1}, {"d": 1}, {}):
        assert refusal(args, pairs) is not None
