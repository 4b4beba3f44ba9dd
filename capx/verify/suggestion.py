"""What a denial says to ask for.

Laws: it is said only where a grant at run time could cure all that refuses, and never at the authority itself. Of the
arguments it names those that the bearer sent and the action's own defaults, and only if a grant can be pinned to them.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import UNSET

from capx.crypto.canonical_json import canonical
from capx.tokens.lineage import AUTHORITY
from capx.verify.ask import Ask
from capx_caveats import JSON, InvalidCaveat, Refusal, as_constraint, is_action

MAX_PINNED: Final = 2048
"""Bytes, as canonical JSON, of the arguments that a denial names."""
OF_ARGUMENTS: Final = frozenset({"argument_refused", "argument_not_named"})
"""The reasons that are about the arguments of a call."""
_REQUESTABLE: Final = frozenset({"action_not_allowed", "budget_exhausted", *OF_ARGUMENTS})


def suggested_ask(
    refusals: Iterable[Refusal], *, audience: str, action: str, args: Mapping[str, JSON] | None = None
) -> Ask | None:
    """What to ask for, to be allowed what was refused; None if no grant could cure it.

    `args` are the bearer's own, None where they are not known, or the service's.
    """
    if audience == AUTHORITY or not is_action(action) or not all(map(_is_requestable, refusals)):
        return None
    return Ask(audience=audience, action=action, args=args if args is not None and is_pinnable(args) else None)


def _is_requestable(refusal: Refusal) -> bool:
    if refusal.code == "argument_refused":
        # What refuses without saying what was given is about the service's own data, or about nothing at all.
        return refusal.given is not UNSET
    return refusal.code in _REQUESTABLE


def is_pinnable(args: Mapping[str, JSON]) -> bool:
    """Whether a grant can hold each argument to its value, in no more than MAX_PINNED bytes."""
    try:
        for value in args.values():
            as_constraint(value)
        return len(canonical(dict(args))) <= MAX_PINNED
    except InvalidCaveat:
        return False
