"""Say in words what the holder of a token may ask for: `may ask for billing.* at billing`.

Law: an entry gets words here only if it has a form that a task or `delegate --may-ask` gives, or an intersection of
these. For any other form the words would say more or less than the entry, or show a name that its author made up.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any, Final

from msgspec import UNSET

from capx.tokens.effective.intersection import entry_in_common, pattern_in_common
from capx.tokens.grants import ASK, OWN_ENTRIES
from capx_caveats import (
    OTHERS,
    AllOf,
    AnyConstraint,
    AnyOf,
    Entry,
    Eq,
    Fields,
    Prefix,
    is_action,
    is_audience,
)

ANYTHING: Final = "may ask for anything that its policy offers"


def sentence(entry: Entry) -> str | None:
    """What may be asked for; None for an entry that allows no ask, or has another form."""
    if entry == OWN_ENTRIES[-1]:
        return ANYTHING
    named: dict[str, Any] = {} if entry.args is UNSET else {pair.name: pair.constraint for pair in entry.args}
    if entry.pattern != ASK or set(named) != {"audience", "action", "args"}:
        return None
    audience = named["audience"]
    actions, limits = _actions(named["action"]), _limits(named["args"])
    if not isinstance(audience, Eq) or not is_audience(audience.literal) or not actions or limits is None:
        return None
    return f"may ask for {' and '.join(actions)} at {audience.literal}{limits}"


def _actions(constraint: AnyConstraint) -> list[str] | None:
    """The actions and patterns that a constraint accepts; None if it has another form."""
    if isinstance(constraint, Eq):
        return [constraint.literal] if isinstance(constraint.literal, str) and is_action(constraint.literal) else None
    if isinstance(constraint, Prefix):
        named, dot, rest = constraint.text.rpartition(".")
        return [f"{constraint.text}*"] if dot and not rest and is_action(named) else None
    if not isinstance(constraint, AllOf | AnyOf):
        return None
    found = [each for each in map(_actions, constraint.constraints) if each is not None]
    if len(found) < len(constraint.constraints):
        return None
    if isinstance(constraint, AnyOf):
        return list(dict.fromkeys(action for each in found for action in each))
    return reduce(_in_common, found)


def _in_common(some: list[str], others: list[str]) -> list[str]:
    met = [pattern_in_common(one, other) for one in some for other in others]
    return list(dict.fromkeys(pattern for pattern in met if pattern is not None))


def _limits(constraint: AnyConstraint) -> str | None:
    """The limits of the arguments, empty for any arguments; None if they have another form."""
    own = OWN_ENTRIES[-1].args or ()
    whatever = own[-1].constraint if own else None
    every = constraint.constraints if isinstance(constraint, AllOf) else (constraint,)
    fields = [one for one in every if isinstance(one, Fields)]
    if any(one != whatever and one not in fields for one in every):
        return None
    return _judged(fields) if fields else ""


def _judged(fields: Sequence[Fields]) -> str | None:
    entry: Entry | None = Entry(ASK, fields[0].pairs)
    for one in fields[1:]:
        entry = entry and entry_in_common(entry, Entry(ASK, one.pairs))
    if entry is None:
        return None
    said = entry.sentence().removeprefix(ASK)
    others_allowed = not entry.args or any(pair.name == OTHERS for pair in entry.args)
    return f",{said}" if others_allowed else f",{said} and no other argument"
