"""Times in the forms that people write: a duration such as `15m`, or an instant of RFC 3339.

Law: an instant is in whole Unix seconds. A duration counts from a `now` that the caller gives.
"""

import re
from datetime import UTC, datetime

from capx_caveats.errors import InvalidCaveat
from capx_caveats.levels import SAFE_INTEGER

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)

When = int | str | datetime
"""A time: Unix seconds, a datetime with a time zone, text of RFC 3339, or a duration from now such as `15m`."""


def parse_duration(text: str) -> int:
    """Return the seconds of a duration such as `90s`, `15m`, `2h`, `1d`; InvalidCaveat for any other text."""
    match = _matched(_DURATION, text)
    if match is None:
        raise InvalidCaveat(f"{text!r:.40} is not a duration: write 90s, 15m, 2h or 1d")
    return int(match[1]) * _UNITS[match[2]]


def parse_instant(when: When, now: int) -> int:
    """Return the instant in whole Unix seconds; InvalidCaveat if `when` cannot be read. Durations count from `now`."""
    if isinstance(when, datetime):
        if when.utcoffset() is None:
            raise InvalidCaveat("a datetime without a time zone is not an instant: give it one, such as tzinfo=UTC")
        return int(when.timestamp())
    # A bool is an int in Python: without this check, True would be one second after 1970.
    if isinstance(when, bool):
        raise InvalidCaveat(f"{when} is not a time: write Unix seconds, 15m, or RFC 3339")
    if isinstance(when, int):
        # Without the number: Python refuses to write out a very long one.
        if abs(when) > SAFE_INTEGER:
            raise InvalidCaveat("a number of this size is not a time: write Unix seconds, 15m, or RFC 3339")
        return when
    if is_relative(when):
        return now + parse_duration(when)
    try:
        if _matched(_INSTANT, when):
            return int(datetime.fromisoformat(when.upper()).timestamp())
    except ValueError:
        pass
    raise InvalidCaveat(f"{when!r:.40} is not a time: write 15m, or RFC 3339 such as 2026-11-25T12:00:00Z")


def is_relative(when: When) -> bool:
    """Whether this is a duration, which counts from a `now`."""
    return _matched(_DURATION, when) is not None


def _matched(form: re.Pattern[str], given: object) -> re.Match[str] | None:
    """Match the whole of a text; None for anything else, because not everybody checks types."""
    return form.fullmatch(given) if isinstance(given, str) else None


def shown_instant(seconds: int) -> str:
    """Return an instant as RFC 3339 in UTC, or as a number if it is beyond the year 9999."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"


def shown_duration(seconds: int) -> str:
    """Return a duration in the largest unit that divides it: `15m`, `1d`."""
    unit, size = max(((unit, size) for unit, size in _UNITS.items() if seconds % size == 0), key=lambda one: one[1])
    return f"{seconds // size}{unit}"
