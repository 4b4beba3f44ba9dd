"""Each caveat against calls: satisfied, or refused with its code."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from capx_caveats import (
    JSON,
    Budget,
    Call,
    Caveat,
    Eq,
    Expires,
    Facts,
    Hop,
    InvalidCaveat,
    MaxHops,
    NotBefore,
    NotUnderstood,
    Pair,
    Refusal,
    Root,
    Task,
    Where,
    absent,
    action,
    all_of,
    allow,
    any_of,
    anything,
    between,
    each,
    fields,
    not_,
    one_of,
    tenant,
    until_completed,
    where,
)

NOW = 1000


def code(caveat: Caveat, name: str = "a.read", args: Mapping[str, JSON] | None = None, **facts: Any) -> str | None:
    refusal = caveat.refusal(Facts(Call(name, args or {}, **facts), NOW, 0.0))
    return refusal.code if refusal else None


@pytest.mark.parametrize(("at", "said"), [(NOW - 1, "expired"), (NOW, "expired"), (NOW + 1, None), (2**53 - 1, None)])
def test_expires_at_its_very_second(at: int, said: str | None) -> None:
    assert code(Expires(at)) == said


@pytest.mark.parametrize(("at", "said"), [(NOW - 1, None), (NOW, None), (NOW + 1, "not_yet"), (0, None)])
def test_begins_at_its_very_second(at: int, said: str | None) -> None:
    assert code(NotBefore(at)) == said


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("Acme", None),
        ("acme", "wrong_tenant"),
        ("Acme ", "wrong_tenant"),
        ("Acme Corp", "wrong_tenant"),
        ("\u0410cme", "wrong_tenant"),
        ("*", "wrong_tenant"),
        (None, "attribute_missing"),
    ],
)
def test_a_tenant_is_compared_code_point_by_code_point(stated: str | None, said: str | None) -> None:
    assert code(tenant("Acme"), tenant=stated) == said


def test_a_tenant_is_not_normalised() -> None:
    assert code(tenant("Caf\u00e9"), tenant="Cafe\u0301") == "wrong_tenant"


def test_no_refusal_tells_the_resources_own_tenant_or_attribute() -> None:
    for caveat in (tenant("Acme"), where("region", "eu")):
        refusal = caveat.refusal(Facts(Call("a.read", tenant="Globex", attributes={"region": "us-secret"}), NOW, 0.0))
        assert refusal is not None
        assert "Globex" not in repr(refusal)
        assert "us-secret" not in repr(refusal)


@pytest.mark.parametrize(
    ("pattern", "name", "said"),
    [
        ("a.read", "a.read", True),
        ("a.read", "a.readx", False),
        ("a.read", "a.read.x", False),
        ("a.read", "a", False),
        ("a.read", "A.read", False),
        ("a.read", "b.a.read", False),
        ("a.*", "a.read", True),
        ("a.*", "a.b.c", True),
        ("a.*", "a", False),
        ("a.*", "ab.c", False),
        ("a.*", "b.a.c", False),
        ("a.b.*", "a.b.c", True),
        ("a.b.*", "a.bc", False),
        ("a.b.*", "a.c.b", False),
    ],
)
def test_a_pattern_matches_exactly_or_below(pattern: str, name: str, said: bool) -> None:
    assert (code(allow(pattern), name) is None) == said
    assert allow(pattern).permits(name) == said
    assert said or code(allow(pattern), name) == "action_not_allowed"


@pytest.mark.parametrize(
    "pattern", ["*", ".*", "*.read", "a.*.b", "a*", "a.**", "a.*.*", "", "a.", ".a", "a b", "a\n", "ä", "a" * 129]
)
def test_any_other_pattern_cannot_be_built(pattern: str) -> None:
    with pytest.raises(InvalidCaveat):
        allow(pattern)


OPEN = action("a.read")
PINNED = action("a.read", id=1)
NONE = action("a.read", args={})
OTHERS = action("a.read", args={"id": 1, "*": between(0, 9)})
OPTIONAL = action("a.read", limit=any_of(absent(), between(1, 100)))
FORBIDDEN = action("a.read", args={"force": absent(), "*": anything()})


@pytest.mark.parametrize(
    ("entry", "args", "said"),
    [
        (OPEN, {}, None),
        (OPEN, {"anything": [1]}, None),
        (PINNED, {"id": 1}, None),
        (PINNED, {"id": 1.0}, None),
        (PINNED, {"id": True}, "argument_refused"),
        (PINNED, {"id": "1"}, "argument_refused"),
        (PINNED, {"id": [1]}, "argument_refused"),
        (PINNED, {"id": None}, "argument_refused"),
        (PINNED, {}, "argument_refused"),
        (PINNED, {"ID": 1}, "argument_refused"),
        (PINNED, {"id": 1, "x": 1}, "argument_not_named"),
        (PINNED, {"id": 1, "i\u0501": 1}, "argument_not_named"),
        (NONE, {}, None),
        (NONE, {"x": None}, "argument_not_named"),
        (OTHERS, {"id": 1}, None),
        (OTHERS, {"id": 1, "x": 5, "y": 9}, None),
        (OTHERS, {"id": 1, "x": 5, "y": 10}, "argument_refused"),
        (OTHERS, {"id": 1, "x": "5"}, "argument_refused"),
        (OTHERS, {"id": 1, "*": 5}, None),
        (OTHERS, {"id": 1, "*": 10}, "argument_refused"),
        (OTHERS, {"id": 2, "x": 5}, "argument_refused"),
        (OTHERS, {"x": 5}, "argument_refused"),
        (OPTIONAL, {}, None),
        (OPTIONAL, {"limit": 100}, None),
        (OPTIONAL, {"limit": 101}, "argument_refused"),
        (OPTIONAL, {"limit": None}, "argument_refused"),
        (FORBIDDEN, {"x": 1}, None),
        (FORBIDDEN, {"force": False}, "argument_refused"),
        (action("a.read", args={"*": anything()}), {}, None),
        (action("a.read", args={"*": anything()}), {"x": {}}, None),
        (action("a.read", ids=each(one_of(1, 2))), {"ids": []}, "argument_refused"),
        (action("a.read", ids=each(one_of(1, 2))), {"ids": [1, 3]}, "argument_refused"),
        (action("a.read", ids=each(one_of(1, 2))), {"ids": 1}, "argument_refused"),
        (action("a.read", id=not_(one_of(1, 2))), {"id": "1"}, "argument_refused"),
        (action("a.read", id=not_(one_of(1, 2))), {}, "argument_refused"),
    ],
)
def test_arguments_are_a_closed_world_once_any_is_named(entry: Any, args: Mapping[str, JSON], said: str | None) -> None:
    assert code(allow(entry), "a.read", args) == said


@pytest.mark.parametrize(
    ("entry", "args", "defaults", "said"),
    [
        (OPEN, {}, {"id": 2}, None),
        (PINNED, {}, {"id": 1}, None),
        (PINNED, {}, {"id": 2}, "argument_refused"),
        (PINNED, {"id": 1}, {"x": 1}, None),
        (PINNED, {}, {"x": 1}, "argument_refused"),
        (NONE, {}, {"id": 2}, None),
        (NONE, {"id": 2}, {"x": 1}, "argument_not_named"),
        (OTHERS, {"id": 1}, {"x": 9}, None),
        (OTHERS, {"id": 1}, {"x": 10}, "argument_refused"),
        (FORBIDDEN, {}, {"force": False}, "argument_refused"),
    ],
)
def test_a_default_is_judged_only_where_a_rule_speaks_of_it(
    entry: Any, args: Mapping[str, JSON], defaults: dict[str, JSON], said: str | None
) -> None:
    assert code(allow(entry), "a.read", args, defaults=defaults) == said


def test_one_entry_that_allows_is_enough_and_entries_do_not_mix() -> None:
    either = allow(action("a.read", x=1, y=1), action("a.read", x=2, y=2))
    assert code(either, "a.read", {"x": 1, "y": 1}) is None
    assert code(either, "a.read", {"x": 2, "y": 2}) is None
    assert code(either, "a.read", {"x": 1, "y": 2}) == "argument_refused"
    assert code(allow(action("a.read", x=1), "a.*"), "a.read", {"x": 2}) is None


@pytest.mark.parametrize(
    ("args", "said", "told"),
    [
        ({"at": "mail", "to": "ben"}, "argument_refused", 'only where to is "ann"'),
        ({"at": "crm", "to": "ben"}, "argument_refused", "only where id is 1"),
        ({"at": "mail", "to": "ann", "cc": "ben"}, "argument_not_named", 'without an argument "cc"'),
        ({"at": "hr"}, "argument_refused", 'only where at is "crm"'),
    ],
)
def test_of_entries_that_refuse_the_closest_one_is_told(args: dict[str, JSON], said: str, told: str) -> None:
    several = allow(action("a.read", at="crm", id=1), action("a.read", at="mail", to="ann"), action("a.read", at="x"))
    refusal = several.refusal(Facts(Call("a.read", args), now=0, age=0))
    assert refusal is not None
    assert (refusal.code, told in refusal.sentence) == (said, True)


def test_the_rule_for_other_arguments_brings_no_entry_closer() -> None:
    several = allow(action("a.read", args={"at": "crm", "*": 1}), action("a.read", at="crm", id=1))
    refusal = several.refusal(Facts(Call("a.read", {"at": "crm", "id": 1, "cc": "ben"}), now=0, age=0))
    assert refusal is not None
    assert refusal.code == "argument_not_named"


def test_an_argument_is_not_named_twice() -> None:
    with pytest.raises(InvalidCaveat):
        type(PINNED)("a.read", (Pair("x", anything()), Pair("x", anything())))


def test_absent_of_every_other_argument_cannot_be_meant() -> None:
    with pytest.raises(InvalidCaveat):
        action("a.read", args={"*": absent()})


@pytest.mark.parametrize(
    ("caveat", "said"),
    [
        (where("region", "eu"), None),
        (where("region", one_of("us", "eu")), None),
        (where("region", "us"), "argument_refused"),
        (where("region", not_("us")), None),
        (where("zone", "eu"), "attribute_missing"),
        (where("zone", not_("eu")), "attribute_missing"),
        (where("args.x", 1), None),
        (where("args.x", 2), "argument_refused"),
        (where("args.y", 1), "attribute_missing"),
        (where("args.y", not_(1)), "attribute_missing"),
        (where("args.y", absent()), None),
        (where("args.x", absent()), "argument_refused"),
        (where("args.a.b", 1), None),
        (where("args.args.x", 1), "attribute_missing"),
        (where("x", 1), "attribute_missing"),
    ],
)
def test_where_judges_an_attribute_or_one_top_level_argument(caveat: Caveat, said: str | None) -> None:
    assert code(caveat, args={"x": 1, "a.b": 1, "a": {"b": 2}}, attributes={"region": "eu"}) == said


def test_where_judges_a_default_as_the_argument_that_it_is() -> None:
    defaults: dict[str, JSON] = {"x": 1}
    assert code(where("args.x", 1), defaults=defaults) is None
    assert code(where("args.x", 2), defaults=defaults) == "argument_refused"
    assert code(where("args.y", 1), defaults=defaults) == "attribute_missing"
    assert code(where("args.y", 2), args={"y": 2}, defaults=defaults) is None


@pytest.mark.parametrize("attribute", ["", "Region", "args.", "1x", "a-b", "a" * 33, "args.\n", "é", "région"])
def test_where_names_an_attribute(attribute: str) -> None:
    with pytest.raises(InvalidCaveat):
        where(attribute, 1)


@pytest.mark.parametrize("constraint", [absent(), not_(absent()), any_of(absent(), 1)])
def test_an_attribute_is_never_demanded_to_be_absent(constraint: Any) -> None:
    with pytest.raises(InvalidCaveat):
        Where("region", constraint)


@pytest.mark.parametrize("mark", [Task("T1"), Root("R1"), Hop("a", "AgICAgICAgI"), MaxHops(0), until_completed("T1")])
def test_a_mark_demands_nothing_of_a_call(mark: Caveat) -> None:
    assert code(mark) is None


def test_what_is_not_understood_refuses() -> None:
    assert code(NotUnderstood("x", "unknown")) == "not_understood"


def test_a_refusal_says_when_a_value_could_not_be_judged() -> None:
    entry = action("a.read", x=between(1, 2))
    for demand in (allow(entry), where("args.x", between(1, 2))):
        no, cannot = (demand.refusal(Facts(Call("a.read", {"x": x}), 0, 0.0)) for x in (3, "1"))
        assert no is not None
        assert cannot is not None
        assert no.sentence.endswith('"x" is 3')
        assert cannot.sentence.endswith('"x" is "1", which this rule cannot judge: it is text')
        assert (no.given, cannot.given) == ({"x": 3}, {"x": "1"})


def test_a_number_and_the_text_of_its_digits_read_differently() -> None:
    refusal = allow(action("a.read", x="7")).refusal(Facts(Call("a.read", {"x": 7}), 0, 0.0))
    assert refusal is not None
    assert refusal.sentence == (
        'allows a.read only where x is "7"; "x" is 7, which this rule cannot judge: it is a number'
    )
    refusal = where("args.x", "true").refusal(Facts(Call("a.read", {"x": True}), 0, 0.0))
    assert refusal is not None
    assert refusal.sentence.endswith('"x" is true, which this rule cannot judge: it is a boolean')


def test_two_rules_that_differ_do_not_read_alike() -> None:
    a, b, c = Eq(1), Eq(2), Eq(3)
    rules = [
        not_(any_of(a, b)),
        any_of(not_(a), b),
        all_of(a, any_of(b, c)),
        any_of(all_of(a, b), c),
        all_of(any_of(a, b), c),
        each(any_of(a, b)),
        any_of(each(a), b),
        all_of(each(a), b),
        each(all_of(a, b)),
        not_(each(a)),
        each(not_(a)),
        fields(a=1, b=2),
        all_of(fields(a=1), b),
    ]
    sentences = [rule.sentence() for rule in rules]
    assert len(set(sentences)) == len(rules)
    assert not_(any_of(1)).sentence() == "not: is 1"
    inside, beside = (
        allow(action("a.read", args={"x": fields(a=1, b=2)})),
        allow(action("a.read", args={"x": fields(a=1), "b": 2})),
    )
    assert inside.sentence() != beside.sentence()


def test_a_budget_says_what_it_lacks() -> None:
    limit, words = Budget("eur", "5"), "at most 5 eur, shared by everyone below"
    missing = limit.refusal(Facts(Call("a.read"), now=0, age=0, metered=True))
    said = f"allows {words}, and this call states no cost in eur"
    how = 'state it at the guard, as in `cost={"eur": 0}` for what is free'
    assert missing == Refusal("attribute_missing", said, words, detail=how)
    for spent, what in (("4", "this call costs more than is left"), ("5", "all of it is spent")):
        said = f"allows {words}, and {what}"
        assert limit.exhausted(Decimal(spent), Decimal(2)) == Refusal("budget_exhausted", said, words)
