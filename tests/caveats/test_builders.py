from typing import Any

import pytest

from capx_caveats import (
    Absent,
    AllOf,
    Allow,
    AnyOf,
    Anything,
    Argv,
    Contains,
    Each,
    Entry,
    Eq,
    Expires,
    Fields,
    Glob,
    In,
    InvalidCaveat,
    Length,
    MaxHops,
    Not,
    NotBefore,
    Pair,
    Path,
    Prefix,
    Range,
    Regex,
    Relative,
    Tenant,
    UntilCompleted,
    Where,
    absent,
    action,
    all_of,
    allow,
    any_of,
    anything,
    argv,
    between,
    contains,
    each,
    expires,
    fields,
    glob,
    length,
    max_hops,
    not_,
    not_before,
    not_in,
    one_of,
    prefix,
    regex,
    subset,
    tenant,
    until_completed,
    where,
    within,
)

BUILT = [
    (action("a.read"), Entry("a.read")),
    (action("a.read", args={}), Entry("a.read", ())),
    (action("a.read", deck="d", n=between(0, 1)), Entry("a.read", (Pair("deck", Eq("d")), Pair("n", Range(0, 1))))),
    (action("a.read", args={"x-y": 1}, z=None), Entry("a.read", (Pair("x-y", Eq(1)), Pair("z", Eq(None))))),
    (action("a.read", pattern=1), Entry("a.read", (Pair("pattern", Eq(1)),))),
    (action("a.read", x=[1, "a"]), Entry("a.read", (Pair("x", Eq((1, "a"))),))),
    (allow("a.read", action("b.*")), Allow((Entry("a.read"), Entry("b.*")))),
    (where("region", "eu"), Where("region", Eq("eu"))),
    (one_of("a", 1, [1, 2]), In(("a", 1, (1, 2)))),
    (between(None, 5), Range(None, 5)),
    (prefix("a"), Prefix("a")),
    (not_in("a", 1), Not(In(("a", 1)))),
    (subset("a", "b"), Each(In(("a", "b")))),
    (contains("a", [1, 2]), Contains(("a", (1, 2)))),
    (length(1, 10), Length(1, 10)),
    (length(hi=10), Length(None, 10)),
    (glob("*.txt"), Glob("*.txt")),
    (regex("[a-z]+"), Regex("[a-z]+")),
    (argv("git", "hg"), Argv(("git", "hg"))),
    (argv("git", arguments=[["status"], ("log", "-1")]), Argv(("git",), (("status",), ("log", "-1")))),
    (fields(a=1, b=prefix("x")), Fields((Pair("a", Eq(1)), Pair("b", Prefix("x"))))),
    (
        fields({"x-y": 1, "*": anything()}, z=None),
        Fields((Pair("x-y", Eq(1)), Pair("*", Anything()), Pair("z", Eq(None)))),
    ),
    (fields(named=1), Fields((Pair("named", Eq(1)),))),
    (within("/a"), Path("/a")),
    (each(1), Each(Eq(1))),
    (each(1, min=0), Each(Eq(1), 0)),
    (any_of(1, prefix("a")), AnyOf((Eq(1), Prefix("a")))),
    (all_of(1, 2), AllOf((Eq(1), Eq(2)))),
    (not_("a"), Not(Eq("a"))),
    (absent(), Absent()),
    (anything(), Anything()),
    (tenant("Acme"), Tenant("Acme")),
    (until_completed("T1"), UntilCompleted("T1")),
    (max_hops(2), MaxHops(2)),
    (expires(5), Expires(5)),
    (not_before("2026-11-25T12:00:00Z"), NotBefore(1_795_608_000)),
    (expires("15m"), Relative(Expires, "15m")),
]


@pytest.mark.parametrize(("built", "meant"), BUILT, ids=lambda part: repr(part)[:50])
def test_a_builder_makes_what_its_class_would(built: Any, meant: Any) -> None:
    assert built == meant
    assert type(built) is type(meant)


@pytest.mark.parametrize("value", [{"a": 1}, {1}, b"a", object(), [[1]], "", [], float("nan"), 2**53, absent])
def test_what_is_no_literal_is_refused(value: Any) -> None:
    with pytest.raises(InvalidCaveat):
        action("a.read", x=value)
    with pytest.raises(InvalidCaveat):
        one_of(value)


def test_nothing_is_allowed_or_one_of_nothing() -> None:
    for build in (allow, one_of, any_of, all_of, not_in, subset, contains, argv, length):
        with pytest.raises(InvalidCaveat):
            build()


def test_an_object_of_no_fields_has_no_members() -> None:
    assert fields().judge({}) is True
    assert fields().judge({"a": 1}) is False
    assert fields().sentence() == "is an object without members"


def test_arguments_are_lists_of_texts() -> None:
    refused: list[Any] = ["status", ["status"], [], [[]], [[1]], 5, [5], [["a", None]]]
    for arguments in refused:
        with pytest.raises(InvalidCaveat):
            argv("git", arguments=arguments)


@pytest.mark.parametrize("foreign", [5, None, True, b"a", {"a"}, object()])
def test_what_is_no_text_and_no_object_is_refused_by_our_error(foreign: Any) -> None:
    for build in (prefix, glob, regex, within, argv):
        with pytest.raises(InvalidCaveat):
            build(foreign)
    with pytest.raises(InvalidCaveat):
        where(foreign, 1)
    with pytest.raises(InvalidCaveat):
        where("args.x", foreign if isinstance(foreign, bytes | set) else object())  # type: ignore[arg-type] # no JSON
