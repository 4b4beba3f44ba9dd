"""The bound on the work of one call: what each caveat needs, and which calls are refused for it."""

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capx.errors import InvalidCaveat
from capx.tokens import wire
from capx.tokens.capability import Capability
from capx.tokens.lineage import TokenRefused, unverified_lineage
from capx.verify.evaluator import TOO_MUCH_WORK
from capx_caveats import (
    DEFAULT,
    AllOf,
    AnyConstraint,
    AnyOf,
    Call,
    Caveat,
    Constraint,
    Eq,
    Not,
    NotUnderstood,
    Refusal,
    Vocabulary,
    absent,
    action,
    allow,
    anything,
    argv,
    between,
    cidr,
    contains,
    each,
    expires,
    fields,
    glob,
    host,
    is_too_much,
    length,
    most_work,
    one_of,
    prefix,
    regex,
    tenant,
    url,
    where,
    within,
)
from capx_caveats.texts import MAX_PATTERNS, _compiled, _repetitions, bounded_patterns
from capx_caveats.work_bound import MAX_CALL_WORK, SMALL_CALL, SMALL_TOKEN, _exact
from tests.labs import strategies
from tests.labs.lab import NOW, Lab, codes_of, minted
from tests.labs.own_constraints import Odd

DIGITS = regex("[0-9]+")
"""A pattern."""


def exact(call: Call, *caveats: Caveat) -> int:
    return _exact(call, caveats)


def coarse(call: Call, *caveats: Caveat) -> int:
    """What `most_work` says that these caveats need at most."""
    written = len(msgspec.json.encode([{**call.args}, {**call.defaults}, {**call.attributes}]))
    found = most_work(caveats)
    return found.once + found.each * written // 2 + found.character * written


def refused(call: Call, *caveats: Caveat, size: int = SMALL_TOKEN) -> bool:
    return is_too_much(call, size, lambda: most_work(caveats), lambda: caveats)


# The work of each constraint

COSTS: list[tuple[Constraint, tuple[int, int, int]]] = [
    (Eq("abc"), (128, 0, 0)),
    (Eq((1, 2, "abc")), (224, 0, 0)),
    (one_of([1, 2], 3, ["a"]), (320, 0, 0)),
    (one_of("a"), (160, 0, 0)),
    (one_of("a", 2, None), (224, 0, 0)),
    (between(1, 2), (128, 0, 0)),
    (length(1, 2), (128, 0, 0)),
    (absent(), (128, 0, 0)),
    (anything(), (128, 0, 0)),
    (prefix("abc"), (128, 0, 0)),
    (contains(1), (128, 64, 0)),
    (contains(1, 2, 3), (128, 128, 0)),
    (contains([1, 2], 3), (128, 96, 0)),
    (within("/"), (136, 0, 4)),
    (within("/srv/data"), (200, 0, 4)),
    (host("a.example"), (2080, 0, 0)),
    (host("a.example", "*.b.example"), (2112, 0, 0)),
    (url("a.example"), (8256, 0, 8)),
    (url("a.example", "b.example", ports=[1, 2], path="/abcd"), (8432, 0, 8)),
    (cidr("10.0.0.0/8"), (8256, 0, 0)),
    (cidr("10.0.0.0/8", "11.0.0.0/8"), (8320, 0, 0)),
    (argv("git"), (192, 32, 0)),
    (argv("git", "ls", arguments=[["push"], ["pull", "-f"]]), (384, 32, 0)),
    (Odd(), (128, 0, 0)),
    (Not(Eq((1, 2))), (320, 0, 0)),
    (each(Eq((1, 2))), (128, 320, 0)),
    (Not(one_of("a")), (288, 0, 0)),
    (Not(contains(1)), (256, 64, 0)),
    (AnyOf((one_of("a"), contains(1), within("/"))), (552, 64, 4)),
    (AllOf((one_of("a"), one_of(1))), (448, 0, 0)),
    (each(one_of("a")), (128, 288, 0)),
    (each(each(one_of("a"))), (128, 544, 0)),
    (each(within("/")), (128, 264, 4)),
    (fields({}), (128, 128, 0)),
    (fields(a=one_of("a"), b=contains(1)), (416, 192, 0)),
    (fields({"a": one_of("a"), "*": within("/")}), (424, 264, 4)),
]


def work_of(constraint: Constraint) -> tuple[int, int, int]:
    return constraint.work_once, constraint.work_each, constraint.work_character


@pytest.mark.parametrize(("constraint", "expected"), COSTS, ids=lambda one: "" if isinstance(one, tuple) else repr(one))
def test_each_constraint_has_its_work(constraint: Constraint, expected: tuple[int, int, int]) -> None:
    assert work_of(constraint) == expected


@pytest.mark.parametrize("constraint", [glob("a*"), DIGITS, regex("(a|b){40}")], ids=repr)
def test_a_pattern_weighs_its_instructions(constraint: AnyConstraint) -> None:
    assert (constraint.work_once, constraint.work_each) == (1024, 0)
    assert constraint.work_character > 1
    assert work_of(each(constraint)) == (128, 1152, constraint.work_character)
    assert work_of(Not(constraint)) == (1152, 0, constraint.work_character)
    assert work_of(fields({"a": constraint, "b": constraint})) == (2176, 128, 2 * constraint.work_character)
    assert work_of(AllOf((constraint, DIGITS))) == (2176, 0, constraint.work_character + DIGITS.work_character)


def test_every_constraint_of_the_vocabulary_is_in_the_table() -> None:
    tags = {tag for tag in strategies.FAMILIES if tag != "junk"} | {"each", "any", "all", "not", "fields"}
    held = {str(type(one).__struct_config__.tag) for one, _ in COSTS} | {"regex", "glob"}
    assert tags <= held
    assert work_of(Constraint()) == (128, 0, 0)


# The work of a call


def test_the_work_of_a_call_is_what_is_asked_of_its_values() -> None:
    call = Call("a.read", {"x": [1, ["ab", None]], "y": "abc", "z": ({"k": "v"}, "hello")})
    for name, values, characters in (("x", 5, 2), ("y", 1, 3), ("z", 4, 7)):
        # `each` counts the value itself, too.
        assert exact(call, where(f"args.{name}", each(one_of("a")))) == 128 + 288 * values
        assert exact(call, where(f"args.{name}", within("/"))) == 136 + 4 * characters
    assert exact(call, where("args.none", within("/"))) == 136
    # An entry looks at each argument, named or not.
    assert exact(call, allow(action("a.read", x=within("/"), y=anything(), z=anything()))) == 136 + 4 * 2 + 256 + 3 * 16
    everything = allow(action("a.read", args={"*": within("/")}))
    assert exact(call, everything) == (136 + 16) * 3 + 4 * 12
    assert exact(call, everything, everything) == 2 * exact(call, everything)


def test_defaults_and_null_count_as_other_arguments() -> None:
    looking = where("args.x", each(one_of("a")))
    assert exact(Call("a.read", defaults={"x": [1, 2]}), looking) == 128 + 288 * 3
    assert exact(Call("a.read", {"x": None}), looking) == 128 + 288
    everything = allow(action("a.read", args={"*": one_of("a")}))
    assert exact(Call("a.read", {"x": 1}, defaults={"y": 1}), everything) == 2 * 176
    assert exact(Call("a.read"), everything) == 0


def test_attributes_count_and_are_no_arguments() -> None:
    call = Call("a.read", {"region": "a"}, attributes={"region": "abcd", "x": [1]})
    assert exact(call, where("region", within("/"))) == 136 + 4 * 4
    assert exact(call, where("args.region", within("/"))) == 136 + 4
    assert exact(call, where("x", each(one_of("a")))) == 128 + 288 * 2
    assert exact(call, where("args.x", each(one_of("a")))) == 128
    # Nothing but `where` looks at attributes.
    assert exact(call, allow(action("a.read", args={"*": within("/")}))) == 136 + 16 + 4


def test_entries_of_other_actions_do_not_count() -> None:
    args = {"x": "abc"}
    pairs = {"x": within("/")}
    caveat = allow(action("a.read", args=pairs), action("a.*", args=pairs), action("b.*", args=pairs), "a.read")
    assert exact(Call("a.read", args), caveat) == 2 * (136 + 16 + 4 * 3)
    assert exact(Call("a.write", args), caveat) == 136 + 16 + 4 * 3
    assert exact(Call("b.read", args), caveat) == 136 + 16 + 4 * 3
    assert exact(Call("c.read", args), caveat) == 0
    # `most_work` is about any action.
    assert most_work([caveat]) == (3 * (136 + 16), 3 * 16, 3 * 4)


def test_caveats_about_no_value_are_no_work() -> None:
    free = [tenant("Acme"), expires(NOW), allow("a.read"), *DEFAULT.decode(b'[["unknown",1],["acme.own",1]]')]
    held: list[Caveat] = [one for one in free if isinstance(one, Caveat)]
    assert most_work(held) == (0, 0, 0)
    assert exact(Call("a.read", {"x": "abc"}), *held) == 0


def test_a_caveat_of_a_service_may_look_at_each_argument() -> None:
    class Quiet(Caveat, frozen=True, tag="acme.quiet"):
        def refusal(self, facts: object) -> Refusal | None:
            return None

    assert exact(Call("a.read", {"x": 1, "y": 2}, defaults={"z": 3}), Quiet()) == 3 * 128
    assert most_work([Quiet()]) == (128, 128, 0)


# The bound


def decoded(*caveats: Any) -> tuple[Caveat, ...]:
    return DEFAULT.decode(json.dumps(caveats).encode())


rules = st.tuples(st.just("where"), st.sampled_from(["args.id", "args.x-y", "args.é", "region"]), strategies.rules)
lists = st.tuples(st.just("allow"), st.lists(strategies.entries, min_size=1, max_size=3))
caveats = st.lists(st.one_of(rules, lists, strategies.caveats), min_size=1, max_size=3).map(lambda some: decoded(*some))
"""Caveats as they are read from a block, sound or not."""


def stated(call: strategies.Call, times: int = 1) -> Call | None:
    """The call, with each argument so many times as large; None if it holds what is no JSON."""
    args = {name: value if times == 1 else [value] * times for name, value in call.args.items()}
    try:
        return Call(call.action, args, call.tenant, call.attributes)
    except InvalidCaveat:
        return None


@given(strategies.calls, caveats, caveats)
def test_a_caveat_that_is_appended_takes_no_work_away(
    call: strategies.Call, some: tuple[Caveat, ...], more: tuple[Caveat, ...]
) -> None:
    if (judged := stated(call)) is not None:
        assert exact(judged, *some, *more) == exact(judged, *some) + exact(judged, *more)
        assert coarse(judged, *some, *more) >= coarse(judged, *some)
        assert all(both >= one >= 0 for both, one in zip(most_work((*some, *more)), most_work(some), strict=True))


@given(strategies.calls, caveats, st.sampled_from([1, 1, 40]))
def test_the_coarse_bound_is_never_below_the_exact_one(
    call: strategies.Call, some: tuple[Caveat, ...], times: int
) -> None:
    if (judged := stated(call, times)) is not None:
        assert coarse(judged, *some) >= exact(judged, *some)


@given(strategies.calls, caveats, caveats, st.sampled_from([1, 3000, 30_000]), st.sampled_from([1, 4096, 4097]))
def test_what_is_refused_is_refused_for_every_child(
    call: strategies.Call, some: tuple[Caveat, ...], more: tuple[Caveat, ...], times: int, size: int
) -> None:
    if (judged := stated(call, times)) is not None and refused(judged, *some, size=size):
        assert refused(judged, *some, *more, size=size + 1)


def test_a_call_may_be_work_of_2_to_the_23_and_not_one_more() -> None:
    call = Call("a.read", {"x": "ab" * 100})
    within_bound = [where("args.x", anything())] * (2**23 // 128)
    assert MAX_CALL_WORK == 2**23 == exact(call, *within_bound)
    assert not refused(call, *within_bound)
    # The same, if only the exact sum can tell: what is asked about an argument that is not there counts 136.
    missing = [where("args.y", within("/"))] * 16
    assert exact(call, *missing) == 17 * 128
    assert coarse(call, *within_bound[17:], *missing) > MAX_CALL_WORK == exact(call, *within_bound[17:], *missing)
    assert not refused(call, *within_bound[17:], *missing)
    assert refused(call, *within_bound[16:], *missing)
    # An entry looks at the argument for 16 more.
    assert refused(call, *within_bound, allow(action("a.read", x=anything())))
    assert refused(call, *within_bound, where("args.x", anything()))


def test_the_exact_sum_decides_beside_a_large_free_argument() -> None:
    heavy = [where("args.name", regex("(a|b){40}"))] * 3
    call = Call("a.read", {"name": "ab", "data": "x" * 500_000, "more": [0] * 100_000})
    assert coarse(call, *heavy) > MAX_CALL_WORK > exact(call, *heavy)
    assert not refused(call, *heavy)
    # The same text under the pattern is too much.
    assert refused(Call("a.read", {"name": "x" * 500_000}), *heavy)


def test_a_long_array_to_compare_with_counts_its_elements() -> None:
    ones = tuple([1] * 1900)
    call = Call("a.read", {f"n{at}": ones for at in range(265)})
    for constraint in (Eq(ones), Not(Eq(ones)), one_of(ones)):
        caveat = allow(action("a.read", args={"*": constraint}))
        assert refused(call, caveat, caveat)
        assert not refused(Call("a.read", {"n": ones}), caveat, caveat)


def test_what_holds_too_many_values_to_be_counted_is_refused() -> None:
    million = [0] * 10**6
    call = Call("a.read", {"x": {"a": million, "b": million, "c": million, "d": million, "e": million}})
    assert exact(call, where("args.x", argv("git"))) > MAX_CALL_WORK
    assert exact(call, where("args.x", within("/"))) > MAX_CALL_WORK
    assert exact(call, where("args.x", anything())) == 128


def test_values_count_as_deep_as_a_call_may_nest() -> None:
    value: Any = "ab"
    for _ in range(64):
        value = [value]
    assert exact(Call("a.read", {"x": value}), where("args.x", each(within("/")))) == 128 + 264 * 65 + 4 * 2


def test_a_small_call_of_a_small_token_is_always_judged() -> None:
    heavy_ones = [where("args.x", each(url("a.example")))] * 200
    args = {"x": ["a"] * 28}
    call = Call("a.read", args)
    written = len(msgspec.json.encode([args, {}, {}]))
    assert SMALL_CALL == 128
    assert written <= SMALL_CALL < len(msgspec.json.encode([{"x": ["a"] * 30}, {}, {}]))
    assert exact(call, *heavy_ones) > MAX_CALL_WORK
    assert not refused(call, *heavy_ones, size=4096)
    assert refused(call, *heavy_ones, size=4097)
    assert refused(Call("a.read", {"x": ["a"] * 30}), *heavy_ones, size=4096)
    # Defaults and attributes make a call large, too.
    assert refused(Call("a.read", args, defaults={"y": "abcdefghijklmno"}), *heavy_ones, size=4096)
    assert refused(Call("a.read", args, attributes={"y": "abcdefghijklmno"}), *heavy_ones, size=4096)


def test_the_largest_call_that_is_small_has_128_bytes() -> None:
    heavy_ones = [where("args.x", each(url("a.example")))] * 5000
    overhead = len(msgspec.json.encode([{"x": ""}, {}, {}]))
    for size, expected in ((128 - overhead, False), (129 - overhead, True)):
        assert refused(Call("a.read", {"x": "a" * size}), *heavy_ones) is expected


def test_nothing_is_summed_up_for_a_small_call() -> None:
    def never() -> Any:
        pytest.fail("it was summed up")

    assert not is_too_much(Call("a.read", {"x": 1}), SMALL_TOKEN, never, never)
    cheap = [where("args.x", anything())]
    assert not is_too_much(Call("a.read", {"x": [0] * 1000}), SMALL_TOKEN, lambda: most_work(cheap), never)


# Over a whole token


def judged(capability: Capability, args: Any) -> tuple[Refusal, ...]:
    lab = Lab()
    return lab.decide(lab.present(capability, "a.read", args), "a.read", args).refusals


def test_hops_add_up_and_no_order_of_them_helps() -> None:
    caveat = where("args.x", each(url("a.example", "b.example")))
    args = {"x": [1] * 400}
    parent, once = minted(), exact(Call("a.read", args), caveat)
    hops = MAX_CALL_WORK // once
    assert hops >= 2
    for at in range(hops):
        parent = parent.delegate(to=f"hop{at}", caveats=[caveat])
    assert TOO_MUCH_WORK not in judged(parent, args)
    child = parent.delegate(to="last", caveats=[caveat])
    assert judged(child, args) == (TOO_MUCH_WORK,)
    assert judged(child.delegate(to="below", caveats=[tenant("Acme")]), args) == (TOO_MUCH_WORK,)


BIG = [f"[a-z]{{{count}}}x" for count in range(985, 1000)]
"""Patterns that count about two thousand each: half of that for their repetitions, half for their instructions."""


def patterned(*patterns: Sequence[str], padding: int = 0) -> Capability:
    """A capability with a block of so much text, and one for each list of patterns."""
    capability = minted()
    if padding:
        capability = capability.attenuate(where("args.y", prefix("p" * padding)))
    for some in patterns:
        capability = capability.attenuate(*(where("args.x", regex(pattern)) for pattern in some))
    return capability


def size_of(capability: Capability) -> int:
    return sum(len(block) for block in capability.blocks if isinstance(block, bytes))


def counted(*patterns: str) -> int:
    """What these patterns count together."""
    with bounded_patterns() as room:
        for pattern in patterns:
            with suppress(InvalidCaveat):
                regex(pattern)
    return MAX_PATTERNS - room.left


def filling(lacking: int) -> list[str]:
    """Patterns that count exactly so much together."""
    sizes = {counted(pattern): pattern for count in range(1, 500) for pattern in (f"x{{{count}}}", f"xx{{{count}}}")}
    patterns = list[str]()
    while lacking not in sizes:
        # Never so much that less than one pattern remains to be added.
        size = max(size for size in sizes if size <= lacking - 100)
        patterns.append(sizes[size])
        lacking -= size
    return [*patterns, sizes[lacking]]


def test_the_patterns_of_a_token_have_a_bound() -> None:
    assert MAX_PATTERNS == 32_768
    exactly = filling(MAX_PATTERNS - counted(*BIG))
    assert counted(*BIG, *exactly) == MAX_PATTERNS
    capability = patterned(BIG, exactly, padding=2000)
    assert codes(capability) != {"too_large"}
    one_more = filling(MAX_PATTERNS + 1 - counted(*BIG))
    for worse in ([exactly, ["x"]], [[*exactly, "x"]], [one_more]):
        (refusal,) = judged(patterned(BIG, *worse, padding=2000), {"x": "a"})
        assert (refusal.code, refusal.sentence, refusal.wanted) == (
            "too_large", "its patterns are too large together", "fewer patterns"
        )  # fmt: skip


def codes(capability: Capability) -> set[str]:
    return {refusal.code for refusal in judged(capability, {"x": "a"})}


def test_the_patterns_of_a_small_token_have_the_same() -> None:
    five = 5 * [BIG[0]]
    small = patterned(BIG, five)
    assert size_of(small) <= SMALL_TOKEN
    assert codes(small) == {"too_large"}
    assert codes(patterned(BIG)) == {"argument_refused"}


def built() -> int:
    """How many patterns RE2 was handed so far."""
    return _compiled.cache_info().misses


def test_no_more_patterns_are_built_than_are_counted() -> None:
    patterns = [f"{pattern}{number}" for number in range(5) for pattern in BIG]
    before = built()
    with bounded_patterns() as room:
        for pattern in patterns:
            with suppress(InvalidCaveat):
                regex(pattern)
    assert room.is_exceeded
    assert built() - before == MAX_PATTERNS // counted(patterns[0]) == 16
    assert regex(patterns[-1]).work_character > 900


@pytest.mark.parametrize("broken", [b"", b"]x", b',"\xff"]'])
def test_patterns_of_a_block_that_cannot_be_split_count(broken: bytes) -> None:
    where = json.dumps(["where", "args.a", ["any", [["regex", f"{pattern}unsplit"] for pattern in BIG]]]).encode()
    with bounded_patterns() as room:
        (caveat,) = DEFAULT.decode(b"[" + where + broken)
        assert type(caveat) is NotUnderstood
        assert room.left < MAX_PATTERNS - 500 * len(BIG)


def test_patterns_of_a_block_that_is_read_twice_count_once() -> None:
    where = json.dumps(["where", "args.a", ["regex", BIG[0]]]).encode()
    with bounded_patterns() as once:
        DEFAULT.decode(b"[%b]" % where)
    with bounded_patterns() as twice:
        DEFAULT.decode(b'[%b,["unknown"]]' % where)
    assert twice.left == once.left
    assert once.left < MAX_PATTERNS


REPETITIONS = [
    ("abc", 0), ("a{7}", 7), ("a{7,}", 7), ("a{2,30}", 30), ("a{0,9}|b{8}", 17), ("(?:a{2}){3}", 5),
    ("[^a]{1,1000}", 1000), ("a{,9}", 0), ("a{x}", 0), ("{", 0), ("a{12345}", 1234), ("a{1,98765}", 9876),
    (r"\{9}", 0), (r"\\{9}", 9), (r"\x{10ff}", 0), (r"\x{10}{9}", 9), (r"\\x{9}", 9), ("\\\n{9}", 9), (r"\Q\\E{9}", 9),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "repetitions"), REPETITIONS)
def test_a_pattern_counts_what_it_takes_to_build_it(pattern: str, repetitions: int) -> None:
    try:
        instructions = regex(pattern).work_character
    except InvalidCaveat:
        instructions = 512
    assert counted(pattern) == 16 + len(pattern) + repetitions + instructions


def test_a_glob_counts_as_the_pattern_that_it_becomes() -> None:
    with bounded_patterns() as room:
        glob("é*{999}")
    assert MAX_PATTERNS - room.left == counted(r"é[^/]*\{999\}") > 16 + len(r"é[^/]*\{999\}".encode())


pieces = st.sampled_from(
    ["\\", "\\Q", "\\E", "\\x", "\\x{", "x", "[", "]", "{", "}", "E", "Q", "1", ",", "\n", "(?i)", "\\\\"]
)


@given(st.lists(pieces, max_size=8).map("".join), st.sampled_from(["{999}", "{1,999}", "{999,}"]))
def test_what_re2_repeats_is_never_overlooked(before: str, braces: str) -> None:
    found = _compiled(f"{before}x{braces}")
    if not isinstance(found, str) and found.programsize > 900:
        assert _repetitions(f"{before}x{braces}") >= 999


def appended(capability: Capability, caveats: Any) -> Capability:
    """The capability with a block that its builders refuse to make."""
    frame = capability._appended(json.dumps(caveats).encode())
    return Capability(frame, wire.encode(frame.identifier, frame.blocks, frame.signature))


@pytest.mark.parametrize("pattern", ["|".join(["a{0,999}"] * 440), "a{0,999}" * 490, "(?:a{0,999}|b)" * 270])
def test_repetitions_beyond_the_bound_are_never_unfolded(pattern: str) -> None:
    # RE2 refuses each of these too, but only after up to 60 ms.
    before = built()
    with pytest.raises(InvalidCaveat, match="too large together"):
        regex(pattern)
    assert codes(appended(minted(), [["where", "args.x", ["regex", pattern]]])) == {"too_large"}
    assert built() == before


def test_a_pattern_that_cannot_be_built_is_counted() -> None:
    assert counted("(", "(?:k){0,1000}") == (16 + 1 + 512) + (16 + 13 + 1000 + 512)


def test_a_pattern_that_cannot_be_built_is_remembered() -> None:
    pattern = "(?:k){0,998}"
    said = list[str]()
    before = built()
    for _ in range(2):
        with pytest.raises(InvalidCaveat) as refused, bounded_patterns() as room:
            regex(pattern)
        said.append(f"{refused.value}, {room.left} left")
    assert built() == before + 1
    assert said[0] == said[1]


def test_a_block_that_is_read_twice_counts_its_patterns_once() -> None:
    # The last caveat is unknown, so each caveat is read again, by itself.
    block = json.dumps([["where", "args.x", ["regex", BIG[0]]], ["where", "args.x", ["regex", "("]], ["acme.own"]])
    with bounded_patterns() as room:
        DEFAULT.decode(block.encode())
    assert MAX_PATTERNS - room.left == counted(BIG[0], "(")


def test_no_pattern_is_built_to_look_for_a_presentation() -> None:
    # The last block has as much as a token may have, and so has the one before it.
    capability = minted()
    for name in ("body", "last"):
        capability = appended(capability, [["where", "args.x", ["regex", f"{pattern}{name}"]] for pattern in BIG])
    before = built()
    assert codes_of(Lab().decide(capability.text, "a.read", {}).refusals) == ("too_large",)
    assert built() - before == len(BIG) + 1


def test_reading_stops_at_the_block_with_one_pattern_too_many() -> None:
    class Counting(Vocabulary):
        """The usual vocabulary, which counts what it reads."""

        read = 0

        def decode(self, block: bytes) -> tuple[Caveat, ...]:
            self.read += 1
            return super().decode(block)

    counting = Counting(*DEFAULT.caveats)
    with pytest.raises(TokenRefused, match="too_large"):
        unverified_lineage(patterned(BIG, BIG, ["x"], padding=3000), counting)
    # The authority's block, the text, and two blocks of patterns.
    assert counting.read == 4
