"""The forms of names: one pattern for each kind of name.

Laws: names are compared code point by code point, without case folding or normalisation. A text that looks different
from how it compares (controls, format characters, line separators) is not a label.
"""

import re
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Final
from unicodedata import category

from capx_caveats.errors import InvalidCaveat
from capx_caveats.levels import MANY
from capx_caveats.shown_values import shown

_AUDIENCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_ACTION = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WORD = re.compile(r"[A-Za-z0-9_.-]+")
_ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]{0,31}")

OTHERS: Final = "*"
"""The name of a rule for all arguments, or members of an object, that no other rule names."""
ACTION_LENGTH = 128
"""The longest action and pattern, in characters."""
LABEL_LENGTH = 128
"""The longest label (agent, tenant or argument name), in characters."""

# Unicode categories: controls, format characters, surrogates, line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def is_audience(text: object) -> bool:
    """Whether this is text that can name an audience."""
    return isinstance(text, str) and _AUDIENCE.fullmatch(text) is not None


def is_action(text: object) -> bool:
    """Whether this is text that can name an action: labels joined by dots, at most 128 characters."""
    return isinstance(text, str) and len(text) <= ACTION_LENGTH and _ACTION.fullmatch(text) is not None


def is_pattern(text: object) -> bool:
    """Whether this is text that is an action, or an action followed by `.*`."""
    return isinstance(text, str) and len(text) <= ACTION_LENGTH and is_action(text.removesuffix(".*"))


def is_id(text: object) -> bool:
    """Whether this is text that can be the id of a task or root."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def is_attribute(text: object) -> bool:
    """Whether this is text that can name an attribute of a call, or a unit."""
    return isinstance(text, str) and _ATTRIBUTE.fullmatch(text) is not None


def is_label(text: object) -> bool:
    """Whether this is text that can name an agent, a tenant or an argument: 1-128 characters, none of them hidden."""
    if not isinstance(text, str) or not 0 < len(text) <= LABEL_LENGTH:
        return False
    # `isprintable` is quick, and true for most names. It is false for some allowed characters too, so look closer.
    return text.isprintable() or not any(category(character) in _HIDDEN for character in text)


def demand(good: bool, what: str, text: object) -> None:
    """Raise InvalidCaveat unless `good`; `what` names the kind of text that is needed."""
    if not good:
        raise InvalidCaveat(f"{_quoted(text)} is not {what}")


def _demand(check: Callable[[object], bool], what: str) -> Callable[[str], None]:
    """Return a function that raises InvalidCaveat for a text that is not such a name."""

    # Every token has the same few names, and a lookup is faster than another match. Errors are not cached.
    @lru_cache(maxsize=4096)
    def demanded(text: str) -> None:
        demand(check(text), what, text)

    return demanded


demand_agent = _demand(is_label, "an agent's name")
demand_tenant = _demand(is_label, "a tenant")
demand_argument = _demand(is_label, "an argument name")
demand_attribute = _demand(is_attribute, "an attribute")
demand_pattern = _demand(is_pattern, "an action, or one followed by .*")


def demand_arguments(names: Collection[str]) -> None:
    """Raise InvalidCaveat unless each of these texts is an argument name."""
    # All at once: a body may have thousands of members, whose names would fill the memory of known ones.
    if len(names) > MANY and all(names) and max(map(len, names)) <= LABEL_LENGTH and "".join(names).isprintable():
        return
    for name in names:
        demand_argument(name)


def told_name(name: str) -> str:
    """Return a name for a sentence: quoted if a reader could take it for the words around it."""
    return name if _WORD.fullmatch(name) else shown(name)


def _quoted(text: object) -> str:
    return f"{text[:80]!r}" if isinstance(text, str) else f"a {type(text).__name__}"
