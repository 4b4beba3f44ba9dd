"""What two lists or two constraints have in common, exactly."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capx.crypto.keys import RootKey
from capx.tokens.effective.effective import effective
from capx.tokens.effective.intersection import constraint_in_common, entries_in_common, simplest
from capx_caveats import (
    DEFAULT,
    JSON,
    MISSING,
    AllOf,
    Allow,
    AnyConstraint,
    AnyOf,
    Anything,
    Call,
    Contains,
    Entry,
    Eq,
    Facts,
    Glob,
    In,
    Judgement,
    Length,
    Not,
    NotBefore,
    Path,
    Prefix,
    Range,
    Refusal,
    Value,
    Where,
    action,
    anything,
    between,
    fields,
    not_,
    prefix,
    where,
    within,
)
from tests.labs.counts import repeated
from tests.labs.entries import LEAVES, allows, entries, grant, hop

NOW = 1_800_000_000
KEY = RootKey(bytes(range(32))).audience_key("crm")


def test_many_rules_for_one_argument_are_folded_as_one() -> None:
    token = hop(grant(), "a", action("crm.r", x=anything()), action("crm.w", x=between(1, 9)))
    for number in range(20):
        token = token.attenuate(where("args.x", between(number, 100 - number)), where("args.x", not_(number)))
    left = effective(token, NOW)
    assert left.also == ()
    (read,) = left.entries
    assert read.pattern == "crm.r"
    assert read.sentence().startswith("crm.r where x ((not: is 0) and (not: is 1) and ")
    assert read.sentence().endswith(" and is between 19 and 81)")


def test_large_lists_share_what_stands_in_all_of_them_by_type() -> None:
    lists = [In(tuple(range(first, 1000))) for first in (0, 500, 998)]
    assert constraint_in_common(*lists) == In((998, 999))
    assert constraint_in_common(In((1, True, (1, "a"), "1")), In((1.0, (1.0, "a"), "2"))) == In((1, (1, "a")))
    assert constraint_in_common(In((1, "a")), In((True, ("a",)))) is None


def test_literals_that_take_many_judgements_stay_beside_others() -> None:
    literals = In(tuple(f"a{n}" for n in range(700)))
    globs = AnyOf(tuple(Glob(f"*{n}") for n in range(100)))
    assert constraint_in_common(literals, globs) == AllOf((literals, globs))
    assert constraint_in_common(literals, Glob("*17")) == In(("a17", "a117", "a217", "a317", "a417", "a517", "a617"))


def test_an_own_constraint_is_not_taken_for_its_base() -> None:
    class Two(Anything, frozen=True, tag="acme.two"):
        def judge(self, value: Value) -> Judgement:
            return value == 2

    class Even(Range, frozen=True, tag="acme.even"):
        def judge(self, value: Value) -> Judgement:
            return super().judge(value) is True and isinstance(value, int) and value % 2 == 0

    for one, other in ((Two(), Range(1, 9)), (Even(1, 9), Even(2, 8)), (Even(1, 9), Range(2, 4)), (Two(), Anything())):
        both = constraint_in_common(one, other)
        assert both is not None
        for value in (MISSING, 1, 2, 3, 4, 6, 8, 9, "a"):
            assert (both.judge(value) is True) == (one.judge(value) is True and other.judge(value) is True)


def test_an_own_caveat_is_not_taken_for_its_base() -> None:
    class Anywhere(Allow, frozen=True, tag="acme.anywhere"):
        def refusal(self, facts: Facts) -> Refusal | None:
            return None

    class Roughly(Where, frozen=True, tag="acme.roughly"):
        def refusal(self, facts: Facts) -> Refusal | None:
            return None

    class Later(NotBefore, frozen=True, tag="acme.later"):
        def refusal(self, facts: Facts) -> Refusal | None:
            return None

    own = (Anywhere((Entry("x.y"),)), Roughly("args.x", Eq(1)), Roughly("args.x", Eq(2)), Later(NOW + 9999))
    left = effective(
        grant(entries=(action("crm.r", x=3),)).attenuate(*own), NOW, DEFAULT.extended(Anywhere, Roughly, Later)
    )
    assert [entry.sentence() for entry in left.entries] == ["crm.r where x is 3"]
    assert left.also == tuple(caveat.sentence() for caveat in own)
    assert (left.why_nothing, left.not_before) == ((), None)


def test_an_argument_called_like_all_others_is_not_folded_in() -> None:
    token = hop(grant(), "a", action("crm.r", args={"*": anything()})).attenuate(where("args.*", 1))
    left = effective(token, NOW)
    assert left.also == (where("args.*", 1).sentence(),)
    assert [entry.sentence() for entry in left.entries] == ["crm.r where any other argument is there"]


def test_an_entry_that_a_wider_one_covers_is_left_out() -> None:
    entries = (Entry("a.b"), action("a.x", id=1), Entry("a.*"), Entry("a.b.*"), Entry("ab"), action("a.*", id=1))
    assert simplest(entries) == (Entry("a.*"), Entry("ab"))
    assert simplest((action("a.*", id=1), Entry("a.b"))) == (action("a.*", id=1), Entry("a.b"))
    assert simplest((Entry("a.b"), action("a.b", id=1), Entry("a"))) == (Entry("a.b"), Entry("a"))


VALUES: list[JSON] = [
    1, 2, True, None, "a", "ab", "b", "/d", "/d/e", 1.0, [1], ["a", 1], ["a"], ["a", "b"], [],
    "10.0.0.1", "a.example", "https://a.example/", {}, {"a": 1}, {"a": 2, "b": 1},
]  # fmt: skip


@pytest.mark.parametrize("judgements", [0, 2**18])
def test_two_constraints_share_exactly_what_both_say_yes_to(judgements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capx.tokens.effective.intersection._JUDGEMENTS", judgements)
    for one in LEAVES:
        for other in LEAVES:
            both = constraint_in_common(one, other)
            for value in (*VALUES, MISSING):
                yes = one.judge(value) is True and other.judge(value) is True
                assert (both is not None and both.judge(value) is True) == yes, (one, other, value)


calls = st.builds(
    Call,
    st.sampled_from(["c.r", "c.w", "c.r.x", "d", "e"]),
    st.dictionaries(st.sampled_from("xyz"), st.sampled_from(VALUES), max_size=3),
)


lists = st.lists(entries(), min_size=1, max_size=3).map(tuple)


@settings(max_examples=repeated(400), deadline=None)
@given(lists, lists, lists, st.lists(calls, min_size=1, max_size=8))
def test_lists_have_in_common_exactly_the_calls_that_each_allows(
    one: tuple[Entry, ...], two: tuple[Entry, ...], three: tuple[Entry, ...], made: list[Call]
) -> None:
    common = entries_in_common(entries_in_common(simplest(one), two), three)
    for call in made:
        assert allows(common, call) == all(allows(each, call) for each in (one, two, three)), (common, call)


rules = st.lists(st.tuples(st.sampled_from(["x", "y", "*"]), st.sampled_from(LEAVES)), max_size=5)


@settings(max_examples=repeated(300), deadline=None)
@given(
    st.lists(lists, max_size=3),
    rules,
    st.lists(calls, min_size=1, max_size=8),
    st.sampled_from([2**18, 400, 200, 0]),
)
def test_no_call_outside_of_what_is_left_satisfies_every_block(
    hops: list[tuple[Entry, ...]], wheres: list[tuple[str, AnyConstraint]], made: list[Call], bound: int
) -> None:
    token = grant(entries=("c.*", "d"), to=None)
    for name, rule in wheres:
        token = token.attenuate(where(f"args.{name}", rule))
    for at, each in enumerate(hops):
        token = hop(token, f"h{at}", *each)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("capx.tokens.effective.effective._AT_ONCE", bound)
        left = effective(token, NOW)
    for call in made:
        facts = Facts(call, NOW, 0)
        satisfied = all(caveat.refusal(facts) is None for block in token.caveats for caveat in block)
        described = not left.why_nothing and allows(left.entries, call)
        assert described or not satisfied
        if not any("allows only" in also for also in left.also):
            shown = [rule for rule in wheres if where(f"args.{rule[0]}", rule[1]).sentence() in left.also]
            judged = all(rule.judge(call.args.get(name, MISSING)) is True for name, rule in shown)
            assert satisfied == (described and judged), (left, call)


def test_paths_and_prefixes_keep_the_narrower() -> None:
    assert constraint_in_common(within("/a"), within("/a/b")) == Path("/a/b")
    assert constraint_in_common(within("/a"), within("/ab")) is None
    assert constraint_in_common(prefix("ab"), prefix("a")) == Prefix("ab")
    assert constraint_in_common(AnyOf((Eq(1),)), Eq(1)) == Eq(1)


def test_kinds_of_values_that_never_meet_have_nothing_in_common() -> None:
    kinds: list[AnyConstraint] = [Range(1, 5), Not(Glob("a")), Not(Contains((1,))), fields(a=1)]
    for one in kinds:
        for other in kinds:
            assert (constraint_in_common(one, other) is None) == (one is not other)
    assert constraint_in_common(Length(1, 5), Length(3, None)) == Length(3, 5)
    assert constraint_in_common(Length(1, 2), Length(3, None)) is None
    assert constraint_in_common(Length(1, 2), Prefix("a")) == AllOf((Length(1, 2), Prefix("a")))
    assert constraint_in_common(Length(1, 2), Range(1, 2)) is None
