"""Times as people write them: `15m`, or an instant of RFC 3339.

Law: an instant is whole Unix seconds; a duration is relative to a `now` that the caller gives.
"""

import re
from datetime import UTC, datetime

from capx_caveats.errors import InvalidCaveat

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)

When = int | str | datetime
"""Unix seconds, an aware datetime, RFC 3339, or a duration such as `15m` from now."""


def parse_duration(text: str) -> int:
    """Seconds of a duration such as `90s`, `15m`, `2h`, `1d`; InvalidCaveat for any other text."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise InvalidCaveat(f"{text!r:.40} is not a duration: write 90s, 15m, 2h or 1d")
    return int(match[1]) * _UNITS[match[2]]


def parse_instant(when: When, now: int) -> int:
    """The instant meant, in whole Unix seconds; InvalidCaveat when it cannot be read."""
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise InvalidCaveat("a datetime without a time zone names no instant")
        return int(when.timestamp())
    if isinstance(when, bool):
        raise InvalidCaveat(f"{when} is no time")
    if isinstance(when, int):
        return when
    if _DURATION.fullmatch(when):
        return now + parse_duration(when)
    try:
        if _INSTANT.fullmatch(when):
            return int(datetime.fromisoformat(when.upper()).timestamp())
    except ValueError:
        pass
    raise InvalidCaveat(f"{when!r:.40} is no time: write 15m, or RFC 3339 such as 2026-11-25T12:00:00Z")


def is_relative(when: When) -> bool:
    """Whether the time counts from a `now`."""
    return isinstance(when, str) and _DURATION.fullmatch(when) is not None


def shown_instant(seconds: int) -> str:
    """RFC 3339 in UTC; the number itself beyond the years a calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"


def shown_duration(seconds: int) -> str:
    """A duration in the largest unit that divides it: `15m`, `1d`."""
    unit, size = max(((unit, size) for unit, size in _UNITS.items() if seconds % size == 0), key=lambda one: one[1])
    return f"{seconds // size}{unit}"
