"""For each constraint, a table: this value, yes, no, or cannot judge."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capx_caveats import (
    MISSING,
    SAFE_INTEGER,
    Absent,
    AllOf,
    AnyConstraint,
    AnyOf,
    Anything,
    Each,
    Eq,
    In,
    InvalidCaveat,
    Not,
    Path,
    Prefix,
    Range,
    Value,
    Verdict,
    action,
    allow,
    encode_block,
)

YES, NO, CANNOT = True, False, None
UNJUDGEABLE = Eq("x")  # for a value that is no text

TABLE: list[tuple[AnyConstraint, list[tuple[Value, Verdict]]]] = [
    (Eq(1), [(1, YES), (1.0, YES), (2, NO), (True, CANNOT), ("1", CANNOT), (None, CANNOT)]),
    (Eq(1), [([1], CANNOT), ({}, CANNOT)]),
    (Eq(1.0), [(1, YES), (True, CANNOT), (1.5, NO)]),
    (Eq(0), [(0, YES), (-0.0, YES), (False, CANNOT), (None, CANNOT), ("", CANNOT)]),
    (Eq(True), [(True, YES), (False, NO), (1, CANNOT), (1.0, CANNOT), ("true", CANNOT)]),
    (Eq(False), [(False, YES), (0, CANNOT), (None, CANNOT), ("", CANNOT)]),
    (Eq(None), [(None, YES), (False, CANNOT), (0, CANNOT), ("", CANNOT), ([], CANNOT)]),
    (Eq("a"), [("a", YES), ("A", NO), ("a ", NO), ("", NO), ("\u0430", NO), ("a\u200b", NO)]),
    (Eq("a"), [(1, CANNOT), (["a"], CANNOT)]),
    (Eq("\u00e9"), [("\u00e9", YES), ("e\u0301", NO)]),
    (Eq((1, 2)), [([1, 2], YES), ((1, 2.0), YES), ([2, 1], NO), ([1], NO), ([], NO), ([1, 2, 3], NO)]),
    (Eq((1, 2)), [([True, 2], CANNOT), (["1", 2], CANNOT), ([1, [2]], CANNOT), (1, CANNOT), ({}, CANNOT)]),
    (Eq((True,)), [([True], YES), ([1], CANNOT)]),
    (Eq((None, "a")), [([None, "a"], YES), ([None, None], CANNOT)]),
    (In((1, "a")), [(1, YES), (1.0, YES), ("a", YES), (2, NO), ("b", NO), (True, CANNOT), (None, CANNOT)]),
    (In((1, True)), [(True, YES), (1, YES), (False, NO), (0, NO)]),
    (In(((1, 2), 3)), [([1, 2], YES), (3, YES), ([2, 1], NO), ([True, 2], CANNOT)]),
    (Range(0, 50), [(0, YES), (50, YES), (49.5, YES), (-0.0, YES), (51, NO), (-1, NO), (50.000001, NO)]),
    (Range(0, 1), [(True, CANNOT), ("1", CANNOT), (None, CANNOT), ([1], CANNOT), ({}, CANNOT)]),
    (Range(None, 5), [(-SAFE_INTEGER, YES), (5, YES), (6, NO), (None, CANNOT)]),
    (Range(5, None), [(SAFE_INTEGER, YES), (4, NO)]),
    (Range(0.1, 0.1), [(0.1, YES), (0.2, NO)]),
    (Prefix("ab"), [("ab", YES), ("abc", YES), ("a", NO), ("Ab", NO), (" ab", NO), ("", NO)]),
    (Prefix("ab"), [(1, CANNOT), (["ab"], CANNOT)]),
    (Path("/data/acme"), [("/data/acme", YES), ("/data/acme/x", YES), ("/data/acme/x/...", YES)]),
    (Path("/data/acme"), [("/data/acmebank", NO), ("/data", NO), ("/", NO)]),
    (Path("/data/acme"), [("/data/ACME", NO), ("/data/acm\u0435", NO)]),
    (
        Path("/data/acme"),
        [
            (bad, CANNOT)
            for bad in (
                "/data/acme/../globex", "/data/acme/..", "/data/acme/./x", "/data/acme/", "/data//acme", "//data/acme",
                "data/acme", "", "/data/acme/%2e%2e", "/data/acme\\..\\x", "/data/acme\0", "/data/acme/%",
                1, None, ["/data/acme"],
            )
        ],
    ),
    (Path("/"), [("/", YES), ("/a", YES), ("", CANNOT), ("//", CANNOT), ("/..", CANNOT)]),
    (Each(Eq(1)), [([1], YES), ([1, 1.0], YES), ((1,), YES), ([1, 2], NO), ([], NO)]),
    (Each(Eq(1)), [(["1"], CANNOT), ([1, "1"], CANNOT), ([2, "1"], NO), ("11", CANNOT), (1, CANNOT)]),
    (Each(Eq(1)), [({"a": 1}, CANNOT), (None, CANNOT)]),
    (Each(Eq(1), 0), [([], YES), ([1], YES), ([2], NO)]),
    (Each(Eq(1), 3), [([1, 1], NO), ([1, 1, 1], YES), ([1, True], CANNOT)]),
    (Each(Each(Eq(1))), [([[1], [1]], YES), ([[]], NO), ([1], CANNOT)]),
    (Each(Not(Eq(1))), [([2], YES), ([1], NO), (["1"], CANNOT)]),
    (AnyOf((Eq(1), Eq("a"))), [(1, YES), ("a", YES), (True, CANNOT), (2, CANNOT), ("b", CANNOT)]),
    (AnyOf((Eq(1), Eq(2))), [(1, YES), (2, YES), (3, NO), ("1", CANNOT)]),
    (AllOf((Range(0, 5), Not(Eq(3)))), [(1, YES), (3, NO), (6, NO), ("1", CANNOT)]),
    (AllOf((Eq(1), Eq("a"))), [(1, CANNOT), ("a", CANNOT), (2, NO)]),
    (Not(Eq(1)), [(2, YES), (1, NO), (1.0, NO), ("1", CANNOT), (True, CANNOT), (None, CANNOT)]),
    (Not(Not(Eq(1))), [(1, YES), (2, NO), ("1", CANNOT)]),
    (Not(Prefix("a")), [("b", YES), ("a", NO), (1, CANNOT), ([], CANNOT)]),
    (Not(Path("/secret")), [("/public", YES), ("/secret", NO), ("/public/../secret", CANNOT), ("/%73ecret", CANNOT)]),
    (Not(In((1, 2))), [(3, YES), (1, NO), ("1", CANNOT), (True, CANNOT)]),
    (Not(Range(0, 5)), [(6, YES), (5, NO), ("6", CANNOT), (True, CANNOT)]),
    (Not(Each(Eq(1))), [([2], YES), ([], YES), ([1], NO), (["1"], CANNOT)]),
    (Not(Anything()), [(1, NO), (None, NO)]),
    (Anything(), [(None, YES), (0, YES), ("", YES), ([], YES), ({}, YES), (False, YES)]),
    (Absent(), [(None, NO), (0, NO), ("", NO), ([], NO)]),
    (Not(Absent()), [(None, YES), (1, YES)]),
    (AnyOf((Absent(), Eq(1))), [(1, YES), (2, NO), ("1", CANNOT), (None, CANNOT)]),
]  # fmt: skip
CASES = [(constraint, value, verdict) for constraint, rows in TABLE for value, verdict in rows]
CONSTRAINTS = [constraint for constraint, _ in TABLE]
ABOUT_ABSENCE: dict[AnyConstraint, Verdict] = {
    Absent(): YES,
    Not(Absent()): NO,
    AnyOf((Absent(), Eq(1))): YES,
    AllOf((Absent(), Eq(1))): CANNOT,
}


@pytest.mark.parametrize(("constraint", "value", "verdict"), CASES, ids=lambda part: repr(part)[:60])
def test_a_constraint_says_yes_no_or_cannot_judge(constraint: AnyConstraint, value: Value, verdict: Verdict) -> None:
    assert constraint.judge(value) is verdict
    assert Not(constraint).judge(value) is (None if verdict is None else not verdict)


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=lambda constraint: repr(constraint)[:60])
def test_only_absent_judges_what_is_missing(constraint: AnyConstraint) -> None:
    if constraint.about_absence:
        assert constraint.judge(MISSING) is not None
    else:
        assert constraint.judge(MISSING) is None
        assert Not(constraint).judge(MISSING) is None


@pytest.mark.parametrize("constraint", ABOUT_ABSENCE, ids=repr)
def test_absent_within_others_follows_kleene(constraint: AnyConstraint) -> None:
    assert constraint.judge(MISSING) is ABOUT_ABSENCE[constraint]


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=lambda constraint: repr(constraint)[:60])
def test_every_constraint_reads_back_as_it_was_written_and_says_what_it_demands(constraint: AnyConstraint) -> None:
    assert encode_block((allow(action("a.read", x=constraint)),))
    assert constraint.sentence()


KLEENE = {"yes": Eq("a"), "no": Eq("b"), "cannot": Eq(1)}
AND = {
    ("yes", "yes"): YES,
    ("yes", "no"): NO,
    ("yes", "cannot"): CANNOT,
    ("no", "no"): NO,
    ("no", "cannot"): NO,
    ("cannot", "cannot"): CANNOT,
}
OR = {
    ("yes", "yes"): YES,
    ("yes", "no"): YES,
    ("yes", "cannot"): YES,
    ("no", "no"): NO,
    ("no", "cannot"): CANNOT,
    ("cannot", "cannot"): CANNOT,
}


@pytest.mark.parametrize(("one", "other"), AND)
def test_all_and_any_are_kleenes_in_either_order(one: str, other: str) -> None:
    for pair in ((KLEENE[one], KLEENE[other]), (KLEENE[other], KLEENE[one])):
        assert AllOf(pair).judge("a") is AND[one, other]
        assert AnyOf(pair).judge("a") is OR[one, other]


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-5, 5),
        st.floats(-5, 5),
        st.sampled_from(["", "a", "/a", "/a/b", "/a/.."]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)),
    max_leaves=5,
)


@given(values)
def test_no_constraint_raises_and_not_never_opens_what_cannot_be_judged(value: Any) -> None:
    for constraint in CONSTRAINTS:
        said = constraint.judge(value)
        assert said in (True, False, None)
        assert not (said is not True and Not(constraint).judge(value) is not True and said is False)
        if said is None:
            assert AnyOf((constraint, Not(constraint))).judge(value) is None


BAD: dict[str, Any] = {
    "empty text": lambda: Eq(""),
    "empty list": lambda: Eq(()),
    "empty text within": lambda: Eq(("a", "")),
    "nested list": lambda: Eq(((1,),)),  # type: ignore[arg-type] # what is not flat
    "an object": lambda: Eq({"a": 1}),  # type: ignore[arg-type] # no literal
    "a set": lambda: Eq({1}),  # type: ignore[arg-type] # no literal
    "2**53": lambda: Eq(2**53),
    "-(2**53)": lambda: Eq(-(2**53)),
    "1e16": lambda: Eq(1e16),
    "nan": lambda: Eq(float("nan")),
    "inf": lambda: Range(0, float("inf")),
    "a lone surrogate": lambda: Eq("\ud800"),
    "a list with nan": lambda: Eq((float("nan"),)),
    "no literals": lambda: In(()),
    "a literal that is empty": lambda: In(("a", "")),
    "a constraint for a literal": lambda: In((Eq(1),)),  # type: ignore[arg-type] # no literal
    "no end": lambda: Range(None, None),
    "ends crossed": lambda: Range(2, 1),
    "empty prefix": lambda: Prefix(""),
    "relative path": lambda: Path("data"),
    "empty path": lambda: Path(""),
    "path with dots": lambda: Path("/a/../b"),
    "path with an empty segment": lambda: Path("/a//b"),
    "path with a trailing slash": lambda: Path("/a/"),
    "path with percent": lambda: Path("/a%2e"),
    "fewer than none": lambda: Each(Eq(1), -1),
    "more than can be": lambda: Each(Eq(1), 2**53),
    "absent element": lambda: Each(Absent()),
    "absent element within not": lambda: Each(Not(Absent())),
    "absent element within any": lambda: Each(AnyOf((Eq(1), AllOf((Absent(), Eq(1)))))),
    "any of nothing": lambda: AnyOf(()),
    "all of nothing": lambda: AllOf(()),
}


@pytest.mark.parametrize("build", BAD.values(), ids=list(BAD))
def test_a_constraint_that_cannot_be_meant_cannot_be_built(build: Any) -> None:
    with pytest.raises(InvalidCaveat):
        build()
