from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    parse_duration,
    parse_instant,
    prefix,
    regex,
    shown_duration,
    shown_instant,
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
def test_what_is_no_text_and_no_object_is_refused_by_one_error_of_ours(foreign: Any) -> None:
    for build in (prefix, glob, regex, within, argv):
        with pytest.raises(InvalidCaveat):
            build(foreign)
    with pytest.raises(InvalidCaveat):
        where(foreign, 1)
    with pytest.raises(InvalidCaveat):
        where("args.x", foreign if isinstance(foreign, bytes | set) else object())  # type: ignore[arg-type] # no JSON


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86400), ("0s", 0)])
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds
    assert parse_instant(text, 1000) == 1000 + seconds


@pytest.mark.parametrize(
    "text",
    ["", "15", "m", "15M", "15 m", "-15m", "1.5h", "1h30m", "15m\n", "\u0661m", "1w", "9999999999s", "1e3s", "soon"],
)
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(InvalidCaveat):
        parse_duration(text)
    with pytest.raises(InvalidCaveat):
        parse_instant(text, 0)
    with pytest.raises(InvalidCaveat):
        expires(text)


@pytest.mark.parametrize(
    "when",
    [
        1_795_608_000,
        "2026-11-25T12:00:00Z",
        "2026-11-25t12:00:00z",
        "2026-11-25T12:00:00.999Z",
        "2026-11-25T13:00:00+01:00",
        "2026-11-25T12:00:00-00:00",
        datetime(2026, 11, 25, 12, tzinfo=UTC),
        datetime(2026, 11, 25, 14, tzinfo=timezone(timedelta(hours=2))),
    ],
)
def test_instants(when: int | str | datetime) -> None:
    assert parse_instant(when, 0) == 1_795_608_000


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-25",
        "2026-11-25T12:00:00",
        "2026-11-25 12:00:00Z",
        "2026-11-25T12:00Z",
        "2026-13-25T12:00:00Z",
        "2026-11-25T25:00:00Z",
        "2026-11-25T12:00:00Z\n",
        "20261125T120000Z",
        "٢026-11-25T12:00:00Z",
        "tomorrow",
        "1795608000",
    ],
)
def test_other_instants_are_refused(text: str) -> None:
    with pytest.raises(InvalidCaveat):
        parse_instant(text, 0)


def test_a_time_without_a_zone_or_that_is_true_is_refused() -> None:
    for when in (datetime(2026, 11, 25), True):  # noqa: DTZ001 - that is the point
        with pytest.raises(InvalidCaveat):
            parse_instant(when, 0)


@given(st.text(max_size=30), st.integers(0, 2**40))
def test_any_text_is_a_time_or_refused(text: str, now: int) -> None:
    with suppress(InvalidCaveat):
        assert isinstance(parse_instant(text, now), int)


@given(st.datetimes(timezones=st.timezones()))
def test_any_aware_datetime_is_an_instant(when: datetime) -> None:
    assert parse_instant(when, 0) == int(when.timestamp())


@given(st.integers(0, 2**53 - 1))
def test_any_instant_can_be_shown(seconds: int) -> None:
    text = shown_instant(seconds)
    assert text == f"{seconds} s" or parse_instant(text, 0) == seconds


@pytest.mark.parametrize("kind", [expires, not_before])
def test_a_duration_stays_relative_until_it_meets_a_clock(kind: Any) -> None:
    relative = kind("15m")
    assert isinstance(relative, Relative)
    assert relative.at(100) == kind(1000)


@pytest.mark.parametrize(("seconds", "text"), [(90, "90s"), (900, "15m"), (86_400, "1d"), (90_000, "25h")])
def test_a_duration_is_shown_as_it_is_written(seconds: int, text: str) -> None:
    assert shown_duration(seconds) == text
    assert parse_duration(text) == seconds
