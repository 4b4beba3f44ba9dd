"""How names are spelled: one pattern for each kind, and nothing outside it is a name.

Laws: a name is compared code point by code point, never folded or normalised; a text that shows differently
than it compares (controls, format characters, line separators) is no label.
"""

import re
from collections.abc import Callable
from functools import lru_cache, wraps
from unicodedata import category

from capx_caveats.errors import InvalidCaveat

_AUDIENCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_ACTION = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]{0,31}")

ACTION_LENGTH = 128
"""The longest action and pattern, in characters."""
LABEL_LENGTH = 128
"""The longest label (agent, tenant or argument name), in characters."""

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def _known(check: Callable[[str], bool]) -> Callable[[object], bool]:
    """The check, remembered: the same few names stand in every token, and to look one up beats to match it again."""
    remembered = lru_cache(maxsize=4096)(check)

    @wraps(check)
    def known(text: object) -> bool:
        return isinstance(text, str) and len(text) <= LABEL_LENGTH and remembered(text)

    return known


def is_audience(text: object) -> bool:
    """Whether this is text that may name an audience."""
    return isinstance(text, str) and _AUDIENCE.fullmatch(text) is not None


def is_action(text: object) -> bool:
    """Whether this is text that may name an action: labels joined by dots, at most 128 characters."""
    return isinstance(text, str) and len(text) <= ACTION_LENGTH and _ACTION.fullmatch(text) is not None


@_known
def is_pattern(text: str) -> bool:
    """Whether this is an action, or an action followed by `.*`."""
    return len(text) <= ACTION_LENGTH and is_action(text.removesuffix(".*"))


def is_id(text: object) -> bool:
    """Whether this is text that may be a task or root id."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


@_known
def is_attribute(text: str) -> bool:
    """Whether this is text that may name an attribute of a call, or a unit."""
    return _ATTRIBUTE.fullmatch(text) is not None


@_known
def is_label(text: str) -> bool:
    """Whether this is text that may name an agent, a tenant or an argument: 1-128 characters, none of them hidden."""
    if not 0 < len(text) <= LABEL_LENGTH:
        return False
    return text.isprintable() or not any(category(character) in _HIDDEN for character in text)


def demand(good: bool, what: str, text: object) -> None:
    """Raise InvalidCaveat unless `good`; `what` names the kind of text that was wanted."""
    if not good:
        raise InvalidCaveat(f"{_quoted(text)} is not {what}")


def _quoted(text: object) -> str:
    return f"{text[:80]!r}" if isinstance(text, str) else f"a {type(text).__name__}"
