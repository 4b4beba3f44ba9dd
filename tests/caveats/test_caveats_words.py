"""The words of a refusal: which arguments are wrong, and why a value could not be judged."""

from collections.abc import Mapping
from typing import Any

import pytest

from capx_caveats import (
    JSON,
    Call,
    Caveat,
    Constraint,
    Eq,
    Facts,
    Refusal,
    action,
    all_of,
    allow,
    any_of,
    anything,
    between,
    cidr,
    each,
    fields,
    glob,
    host,
    not_,
    one_of,
    url,
    where,
    within,
)


def refusal_of(caveat: Caveat, args: Mapping[str, JSON]) -> Refusal:
    refusal = caveat.refusal(Facts(Call("a.read", args), now=0, age=0))
    assert refusal is not None
    return refusal


def test_all_wrong_arguments_of_an_entry_are_named() -> None:
    entry = allow(action("a.read", amount=between(1, 50), currency="EUR", to="ann"))
    refusal = refusal_of(entry, {"amount": 80, "currency": "USD", "to": "ann"})
    assert refusal.sentence == (
        'allows a.read only where amount is between 1 and 50 and currency is "EUR"; "amount" is 80; "currency" is "USD"'
    )
    assert (refusal.code, refusal.given) == ("argument_refused", {"amount": 80, "currency": "USD"})
    refusal = refusal_of(entry, {"amount": 80, "currency": "EUR", "cc": "ben", "bcc": "eve"})
    assert refusal.sentence == (
        'allows a.read only where amount is between 1 and 50 and to is "ann"; "amount" is 80; "to" is not given; '
        'without an argument "cc" or "bcc"'
    )
    assert refusal.given == {"amount": 80}
    refusal = refusal_of(entry, {"amount": 8, "currency": "EUR", "to": "ann", "cc": "ben", "bcc": "eve"})
    assert refusal.sentence == 'allows a.read without an argument "cc" or "bcc"'
    assert (refusal.code, refusal.given) == ("argument_not_named", "cc")


def test_of_many_wrong_arguments_eight_are_named() -> None:
    many: dict[str, JSON] = {f"x{number}": 10 + number for number in range(500)}
    refusal = refusal_of(allow(action("a.read", args={"*": between(1, 5)})), many)
    assert refusal.sentence.startswith(
        'allows a.read only where any other argument is between 1 and 5; "x0" is 10; "x1"'
    )
    assert refusal.sentence.endswith('"x7" is 17; and more')
    assert refusal_of(allow(action("a.read", args={})), many).sentence.endswith(' or "x7"; and more')


def test_the_services_data_is_told_by_the_first_argument_alone() -> None:
    # For a bearer that did not send the arguments, each rule that is named tells something of them.
    refusal = refusal_of(allow(action("a.read", amount=between(1, 50), owner="ann")), {"amount": 80, "owner": "eve"})
    assert refusal.general == "allows a.read only where amount is between 1 and 50"


@pytest.mark.parametrize(
    ("constraint", "value", "why"),
    [
        (within("/a"), "/a/../b", "it contains `..`"),
        (within("/a"), "/a/./b", "it contains `.`"),
        (within("/a"), "/a//b", "it has an empty segment"),
        (within("/a"), "/a/", "it has an empty segment"),
        (within("/a"), "/a%2e", "it contains `%`"),
        (within("/a"), "/a\\b", "it contains a backslash"),
        (within("/a"), "/a\0b", "it contains a NUL"),
        (within("/a"), "a", "it does not begin with `/`"),
        (within("/a"), "/" * 5000, "it is too long"),
        (within("/a"), 7, "it is a number"),
        (not_(within("/a")), "/a/..", "it contains `..`"),
        (each(within("/a")), ["/a", "/a/.."], "an element contains `..`"),
        (each(within("/a")), "/a", "it is text"),
        (each(not_(1)), [2, None], "an element is null"),
        (each(1), [1] * 2000, "it holds too much"),
        (any_of(1, within("/a")), "/..", "it is text"),
        (all_of(anything(), within("/a")), "/..", "it contains `..`"),
        (fields(path=within("/a"), n=1), {"path": "/..", "n": 1}, 'its "path" contains `..`'),
        (fields(path=within("/a"), n=1), {"n": 1}, 'its "path" is missing'),
        (fields(n=1), [1], "it is an array"),
        (Eq(1), {"a": 1}, "it is an object"),
        (Eq((1, 2)), ["1", 2], "it has too many elements, or some of another type"),
        (one_of([1], [2]), ["1"], "it has too many elements, or some of another type"),
        (one_of(1, 2), ["1"], "it is an array"),
        (glob("a*"), "a" * 5000, "it is too long"),
        (host("a.example"), "A.example", "it is no host name in lower-case ASCII"),
        (cidr("10.0.0.0/8"), "10.1", "it is no address in canonical spelling"),
        (url("a.example"), "https://127.0.0.1/", "it is no URL in canonical spelling that leads elsewhere"),
    ],
)
def test_a_refusal_says_why_a_value_could_not_be_judged(constraint: Any, value: JSON, why: str) -> None:
    assert constraint.judge(value) is None
    for demand in (allow(action("a.read", args={"x": constraint})), where("args.x", constraint)):
        refusal = refusal_of(demand, {"x": value})
        assert refusal.sentence.endswith(f"which this rule cannot judge: {why}")
        assert why not in refusal.general


def test_of_an_attribute_no_reason_is_told() -> None:
    refusal = where("path", within("/a")).refusal(Facts(Call("a.read", attributes={"path": "/secret/.."}), 0, 0.0))
    assert refusal is not None
    assert ".." not in str(refusal)


JUDGED: list[JSON] = []


class Counted(Constraint, frozen=True, tag="acme.counted"):
    """A constraint that cannot judge anything, and counts."""

    obstacles = {str: "is no name"}  # noqa: RUF012 # a class variable

    def judge(self, value: Any) -> None:
        JUDGED.append(value)

    def sentence(self) -> str:
        return "is counted"


@pytest.mark.parametrize("nested", [all_of, any_of, not_, each])
def test_to_say_why_costs_no_more_than_to_judge(nested: Any) -> None:
    # If each level judged all that is below it, a holder could make a denial cost sixty times the bound.
    rule: Any = Counted()
    value: JSON = 1
    for _ in range(30):
        rule, value = nested(rule), [value] if nested is each else value
    JUDGED.clear()
    refusal = refusal_of(where("args.x", rule), {"x": value})
    assert refusal.sentence.endswith("which this rule cannot judge")
    assert len(JUDGED) <= 2


def test_a_services_own_constraint_says_why_if_it_wants() -> None:
    said = [refusal_of(where("args.x", Counted()), {"x": value}).sentence for value in ("a", 1)]
    assert said[0].endswith('"x" is "a", which this rule cannot judge: it is no name')
    assert said[1].endswith('"x" is 1, which this rule cannot judge')
