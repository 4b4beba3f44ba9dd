"""Durations and instants as people write them."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capx_caveats import (
    InvalidCaveat,
    Relative,
    expires,
    not_before,
    parse_duration,
    parse_instant,
    shown_duration,
    shown_instant,
)


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


@pytest.mark.parametrize("foreign", [object(), 1.5, None, b"15m"])
def test_what_is_no_time_at_all_is_refused_as_ours(foreign: Any) -> None:
    with pytest.raises(InvalidCaveat, match="is not a time: write 15m"):
        parse_instant(foreign, 0)
    with pytest.raises(InvalidCaveat, match="is not a duration: write 90s"):
        parse_duration(foreign)


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
