"""Times that callers give: `now=` and `since=` are Unix seconds, `wait=` and `within=` are numbers of seconds.

Law: a time that is no number, or that no token, row or clock can hold, is refused here, before it is compared with
anything. NaN is neither before nor after any time, so a check that compares with it would say yes to everything.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

from capx.errors import CapxError, InvalidCaveat, InvalidRequest
from capx_caveats import SAFE_INTEGER, When, parse_instant

LONGEST: Final = threading.TIMEOUT_MAX
"""The most seconds for which a thread can wait."""

Problem = Callable[[str], CapxError]
"""The class of the error that is raised; it takes a sentence."""


def instant(name: str, given: object, problem: Problem = InvalidRequest) -> int:
    """Return Unix seconds that a caller gave as the argument `name`."""
    # A bool is an int in Python: without this check, True would be one second after 1970.
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= SAFE_INTEGER:
        raise problem(f"`{name}` must be whole Unix seconds, such as 1795600000, not {_shown(given)}")
    return given


def now_or(given: object) -> int:
    """Return the argument `now` of a caller; for None, what the clock says."""
    return int(time.time()) if given is None else instant("now", given)


def when(name: str, given: When, now: int) -> int:
    """Return the instant that a caller gave as the argument `name`, in any form of `When`."""
    try:
        return parse_instant(given, now)
    except InvalidCaveat as error:
        raise InvalidRequest(f"`{name}`: {error}") from None


def seconds(name: str, given: object, problem: Problem = InvalidRequest) -> float:
    """Return a length of time that a caller gave as the argument `name`."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= LONGEST:
        raise problem(f"`{name}` must be a number of seconds from 0, such as 30, not {_shown(given)}")
    return given


def ttl(name: str, given: object, problem: Problem = InvalidRequest) -> int:
    """Return a lifetime in whole seconds, at least one, that a caller gave as the argument `name`."""
    if isinstance(given, bool) or not isinstance(given, int) or not 0 < given <= SAFE_INTEGER:
        raise problem(f"`{name}` must be whole seconds from 1, such as 3600, not {_shown(given)}")
    return given


def is_whole(given: object, least: int, most: int) -> bool:
    """Whether a caller gave a whole number within these ends."""
    # A bool is an int in Python.
    return type(given) is int and least <= given <= most


def _shown(given: object) -> str:
    if isinstance(given, int):
        # Python refuses to write out a very long number.
        return str(given) if abs(given) < 10**30 else "a longer number"
    # Only the type of anything else: it may be the text of a token.
    return str(given) if isinstance(given, float) else f"a value of type {type(given).__name__}"
