"""What is left of a token: exactly what its hops have in common."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capx.crypto.keys import RootKey
from capx.tokens.capability import Capability, mint
from capx.tokens.effective.effective import effective, hops_left
from capx.tokens.effective.intersection import constraint_in_common, entries_in_common, simplest, size
from capx_caveats import (
    DEFAULT,
    JSON,
    MISSING,
    Absent,
    AllOf,
    Allow,
    AnyConstraint,
    AnyOf,
    Anything,
    Appendable,
    Argv,
    Call,
    Caveat,
    Constraint,
    Contains,
    Each,
    Entry,
    Eq,
    Expires,
    Facts,
    Glob,
    Host,
    In,
    Judgement,
    Length,
    Meant,
    Not,
    NotBefore,
    Pair,
    Path,
    Prefix,
    Range,
    Refusal,
    Regex,
    Root,
    Task,
    Tenant,
    UntilCompleted,
    Value,
    Where,
    absent,
    action,
    all_of,
    allow,
    any_of,
    anything,
    between,
    cidr,
    expires,
    fields,
    max_hops,
    not_,
    not_before,
    one_of,
    prefix,
    tenant,
    until_completed,
    url,
    where,
    within,
)

NOW = 1_800_000_000
KEY = RootKey(bytes(range(32))).audience_key("crm")


def grant(*more: Caveat, to: str | None = "Acme", entries: tuple[str | Entry, ...] = ("crm.*",)) -> Capability:
    claims = (Task("t1"), Root("r1"), UntilCompleted("t1"), Expires(NOW + 3600), allow(*entries))
    return mint(KEY, (*claims, *(() if to is None else (Tenant(to),)), *more), now=NOW)


def hop(parent: Capability, to: str, *entries: str | Entry, caveats: tuple[Appendable, ...] = ()) -> Capability:
    return parent.delegate(to=to, allow=entries or None, caveats=caveats, now=NOW)


def test_it_is_what_all_hops_have_in_common() -> None:
    token = hop(
        hop(grant(), "planner", action("crm.read", id=one_of(1, 2, 3), note=prefix("q")), "crm.list"),
        "reader",
        action("crm.read", id=between(2, 9), note="quick"),
        "crm.delete",
        caveats=(expires("10m"), max_hops(2), not_before("1m")),
    )
    left = effective(token, NOW)
    assert left.why_nothing == ()
    assert [entry.sentence() for entry in left.entries] == ['crm.read where id is one of 2, 3 and note is "quick"']
    assert (left.tenant, left.hops, left.hops_left) == ("Acme", ("planner", "reader"), 2)
    assert (left.not_before, left.expires, left.until) == (NOW + 60, NOW + 600, ("t1",))
    assert left.as_json()["may"] == [
        {
            "action": "crm.read",
            "words": 'crm.read where id is one of 2, 3 and note is "quick"',
            "args": {"id": ["in", [2, 3]], "note": ["eq", "quick"]},
        }
    ]


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (hop(hop(grant(), "a", "crm.read"), "b", "crm.write"), "hop 2 (b) allows only crm.write"),
        (hop(hop(grant(), "a", action("crm.r", id=1)), "b", action("crm.r", id=2)), "nothing is allowed by all"),
        (hop(hop(grant(), "a", action("crm.r", id=1)), "b", action("crm.r", id=True)), "nothing is allowed by all"),
        (hop(hop(grant(), "a", action("crm.r", id=1)), "b", action("crm.r", x=1)), "nothing is allowed by all"),
        (grant().attenuate(tenant("Other")), "no call has two tenants"),
        (grant().attenuate(expires(NOW)), "expired at"),
        (grant().attenuate(not_before("2h"), now=NOW), "no time is left"),
        (hop(hop(grant().attenuate(max_hops(1)), "a"), "b"), "at most 1 more delegations, and 2 came"),
        (grant().attenuate(where("region", "eu"), where("region", "us")), "nothing is all of this"),
        (
            hop(grant(), "a", action("crm.r", id=1)).attenuate(where("args.id", 2)),
            "no allowed action can satisfy",
        ),
    ],
)
def test_a_token_that_can_allow_nothing_says_why(token: Capability, why: str) -> None:
    left = effective(token, NOW)
    assert any(why in reason for reason in left.why_nothing), left.why_nothing
    assert left.as_json()["may"] == []


def test_what_is_not_understood_is_named_with_its_hop() -> None:
    class Region(Caveat, frozen=True, tag="acme.region"):
        name: str

        def sentence(self) -> str:
            return f"region {self.name}"

    token = hop(grant(), "a", caveats=(Region("eu"),))
    left = effective(token, NOW)
    assert left.why_nothing == ()
    assert left.entries == effective(grant(), NOW).entries
    assert left.also[-1].startswith("what hop 1 (a) demands is met (not understood here, only the service")
    assert left.also[-1].endswith(': ["acme.region","eu"])')


def test_a_grant_with_a_constraint_of_a_services_own_is_not_said_to_allow_nothing() -> None:
    class Even(Constraint, frozen=True, tag="acme.even"):
        def judge(self, value: Value) -> Judgement:
            return value == 2

        def sentence(self) -> str:
            return "is even"

    claims = (Task("t1"), Root("r1"), Expires(NOW + 9), until_completed("t1"))
    token = mint(KEY, (*claims, allow(action("crm.read", args={"x": Even()}))), now=NOW)
    left = effective(token, NOW)
    assert left.untold
    assert left.why_nothing == ("its grant is not understood here: only the service that knows it can tell",)
    assert not effective(token, NOW, DEFAULT.extended(Even)).why_nothing


def test_an_authority_block_that_lacks_what_it_must_have_allows_nothing() -> None:
    token = mint(KEY, (Task("t1"), Root("r1"), Expires(NOW + 9), allow("crm.read")), now=NOW)
    assert effective(token.attenuate(until_completed("t1")), NOW).why_nothing == (
        "the authority's block has no until_completed of its task",
    )


def test_hops_left_is_the_tightest_of_all_limits() -> None:
    token = hop(hop(grant().attenuate(max_hops(5)), "a", caveats=(max_hops(1),)), "b", caveats=(max_hops(9),))
    assert hops_left(token.caveats) == 0
    assert hops_left(grant().caveats) is None


def test_lists_too_long_to_combine_are_shown_beside() -> None:
    many = [action("crm.read", id=number) for number in range(60)]
    token = grant()
    for name in "abc":
        token = hop(token, name, *(action("crm.read", any_id=prefix(f"{name}{n}")) for n in range(40)), *many[:20])
    left = effective(token, NOW)
    assert left.entries
    free = hop(grant(), "x", *(f"crm.a{n}" for n in range(200)))
    left = effective(hop(free, "y", *(f"crm.a{n}" for n in range(200))), NOW)
    assert len(left.also) == 1
    assert left.also[0].startswith("hop 2 (y) allows only crm.a0;")


def test_many_hops_that_name_few_actions_each_are_combined_to_the_end() -> None:
    token = grant()
    for number in range(16):
        entries = [action(f"crm.a{n}", id=not_(number), note=prefix("q"), x=anything()) for n in range(8)]
        token = hop(token, f"h{number}", *entries)
    left = effective(token, NOW)
    assert (len(left.entries), left.also) == (8, ())
    assert left.entries[0].sentence().count("not: ") == 16


def differing(count: int, first: int = 0) -> list[Entry]:
    return [action("crm.r", args={"x": not_(first + n), "*": anything()}) for n in range(count)]


def many_wheres() -> Capability:
    token = hop(hop(grant(), "a", *differing(10)), "b", *differing(10, 100))
    for block in range(6):
        token = token.attenuate(*(where("args.x", not_(1000 + 30 * block + n)) for n in range(30)))
    return token


def many_lists() -> Capability:
    token = grant()
    for number in range(6):
        token = hop(token, "x", *differing(10, 10 * number))
    return token


def many_optional_names() -> Capability:
    token = grant()
    for number in range(9):
        maybe: list[dict[str, Meant]] = [{f"k{number}{n}": any_of(Absent(), Eq(n)), "*": Anything()} for n in range(8)]
        token = hop(token, "x", *(action("crm.r", args=args) for args in maybe))
    return token


def many_names_under_a_long_rule_for_the_rest() -> Capability:
    names: dict[str, Meant] = {f"n{n}": any_of(absent(), anything()) for n in range(35)}
    token = hop(grant(), "x", action("crm.r", args={**names, "*": anything()}))
    for block in range(3):
        rest = all_of(*(not_(100 * block + n) for n in range(100)))
        token = hop(token, "y", action("crm.r", args={"*": rest}))
    return token


def many_entries_and_then_many_short_lists() -> Capability:
    token = hop(hop(grant(), "a", *differing(25)), "b", *differing(25, 100))
    for _ in range(4):
        token = token.attenuate(*(allow("crm.*") for _ in range(20)))
    return token


@pytest.mark.parametrize(
    "made",
    [
        many_entries_and_then_many_short_lists,
        many_wheres,
        many_lists,
        many_optional_names,
        many_names_under_a_long_rule_for_the_rest,
    ],
)
def test_a_token_made_to_multiply_is_described_in_bounds_and_the_rest_is_shown_beside(
    made: Callable[[], Capability],
) -> None:
    token = made()
    left = effective(token, NOW)
    assert left.entries
    assert size(left.entries) <= 2**18
    demanded = [caveat for block in token.caveats for caveat in block if isinstance(caveat, Allow | Where)]
    assert 0 < len(left.also) < len(demanded)
    assert not left.why_nothing


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


def test_large_lists_have_in_common_what_stands_in_all_of_them_by_type() -> None:
    lists = [In(tuple(range(first, 1000))) for first in (0, 500, 998)]
    assert constraint_in_common(*lists) == In((998, 999))
    assert constraint_in_common(In((1, True, (1, "a"), "1")), In((1.0, (1.0, "a"), "2"))) == In((1, (1, "a")))
    assert constraint_in_common(In((1, "a")), In((True, ("a",)))) is None


def test_literals_that_would_take_many_judgements_stay_beside_what_judges_them() -> None:
    literals = In(tuple(f"a{n}" for n in range(700)))
    globs = AnyOf(tuple(Glob(f"*{n}") for n in range(100)))
    assert constraint_in_common(literals, globs) == AllOf((literals, globs))
    assert constraint_in_common(literals, Glob("*17")) == In(("a17", "a117", "a217", "a317", "a417", "a517", "a617"))


def test_a_services_own_constraint_is_not_taken_for_the_one_it_descends_from() -> None:
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


def test_a_services_own_caveat_is_not_taken_for_the_one_it_descends_from() -> None:
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


def test_an_argument_that_is_called_by_the_sign_for_all_others_is_not_folded_in() -> None:
    token = hop(grant(), "a", action("crm.r", args={"*": anything()})).attenuate(where("args.*", 1))
    left = effective(token, NOW)
    assert left.also == (where("args.*", 1).sentence(),)
    assert [entry.sentence() for entry in left.entries] == ["crm.r where any other argument is there"]


def test_an_entry_that_a_freer_one_covers_is_left_out() -> None:
    entries = (Entry("a.b"), action("a.x", id=1), Entry("a.*"), Entry("a.b.*"), Entry("ab"), action("a.*", id=1))
    assert simplest(entries) == (Entry("a.*"), Entry("ab"))
    assert simplest((action("a.*", id=1), Entry("a.b"))) == (action("a.*", id=1), Entry("a.b"))
    assert simplest((Entry("a.b"), action("a.b", id=1), Entry("a"))) == (Entry("a.b"), Entry("a"))


VALUES: list[JSON] = [
    1, 2, True, None, "a", "ab", "b", "/d", "/d/e", 1.0, [1], ["a", 1], ["a"], ["a", "b"], [],
    "10.0.0.1", "a.example", "https://a.example/", {}, {"a": 1}, {"a": 2, "b": 1},
]  # fmt: skip
LEAVES: list[AnyConstraint] = [
    Eq(1),
    Eq(True),
    Eq("a"),
    Eq(None),
    In((1, 2)),
    In(("a", "b")),
    In((1, "a")),
    Range(1, 1),
    Range(2, None),
    Range(None, 1),
    Prefix("a"),
    Prefix("ab"),
    Path("/d"),
    Path("/d/e"),
    Path("/"),
    Each(Eq(1)),
    Anything(),
    Absent(),
    any_of(Absent(), Eq(1)),
    any_of(Absent(), Prefix("a")),
    Not(Eq(1)),
    Not(Absent()),
    all_of(Range(1, None), Range(None, 2)),
    Glob("a*"),
    Glob("/**"),
    Regex("a|b"),
    Not(Regex("a|b")),
    Length(1, 2),
    Length(2, None),
    Length(None, 1),
    Not(Length(2, None)),
    Contains((1,)),
    Contains(("a",)),
    Not(Contains(("a", 1))),
    Argv(("a",)),
    Argv(("a",), (("b",),)),
    fields(a=1),
    fields({"*": Range(1, 2)}),
    Not(fields(a=1)),
    Host(("a.example",)),
    url("a.example"),
    cidr("10.0.0.0/8"),
]


@pytest.mark.parametrize("judgements", [0, 2**18])
def test_two_constraints_have_in_common_exactly_what_both_say_yes_to(
    judgements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capx.tokens.effective.intersection._JUDGEMENTS", judgements)
    for one in LEAVES:
        for other in LEAVES:
            both = constraint_in_common(one, other)
            for value in (*VALUES, MISSING):
                yes = one.judge(value) is True and other.judge(value) is True
                assert (both is not None and both.judge(value) is True) == yes, (one, other, value)


present = [leaf for leaf in LEAVES if not leaf.about_absence]
pairs = st.dictionaries(st.sampled_from("xy"), st.sampled_from(LEAVES), max_size=2)
rest = st.none() | st.sampled_from(present)
actions = st.sampled_from(["c.r", "c.w", "c.*", "c.r.*", "d"])


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    if draw(st.booleans()):
        return Entry(draw(actions))
    named = tuple(Pair(name, constraint) for name, constraint in draw(pairs).items())
    others = draw(rest)
    return Entry(draw(actions), named if others is None else (*named, Pair("*", others)))


calls = st.builds(
    Call,
    st.sampled_from(["c.r", "c.w", "c.r.x", "d", "e"]),
    st.dictionaries(st.sampled_from("xyz"), st.sampled_from(VALUES), max_size=3),
)
lists = st.lists(entries(), min_size=1, max_size=3).map(tuple)


def allows(entries: tuple[Entry, ...], call: Call) -> bool:
    return bool(entries) and Allow(entries).refusal(Facts(call, 0, 0)) is None


@settings(max_examples=400, deadline=None)
@given(lists, lists, lists, st.lists(calls, min_size=1, max_size=8))
def test_lists_have_in_common_exactly_the_calls_that_each_allows(
    one: tuple[Entry, ...], two: tuple[Entry, ...], three: tuple[Entry, ...], made: list[Call]
) -> None:
    common = entries_in_common(entries_in_common(simplest(one), two), three)
    for call in made:
        assert allows(common, call) == all(allows(each, call) for each in (one, two, three)), (common, call)


rules = st.lists(st.tuples(st.sampled_from(["x", "y", "*"]), st.sampled_from(LEAVES)), max_size=5)


@settings(max_examples=300, deadline=None)
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
