"""What would cure a refusal: what a denial says to ask for, and what whoever is refused makes of it.

Laws: it is said only where a grant at run time could cure all that refuses, and never at the authority itself. Of the
arguments it names those that the bearer sent and the action's own defaults, and only if a grant can be pinned to them.
Whoever is refused asks at the audience that they meant to speak to, whatever they are told.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from capx.asking import Ask
from capx.canonical import canonical
from capx.errors import CapxError
from capx.lineage import AUTHORITY
from capx_caveats import JSON, InvalidCaveat, Refusal, as_constraint, is_action

MAX_PINNED: Final = 2048
"""Bytes, as canonical JSON, of the arguments that a denial names."""

_OF_ARGUMENTS: Final = frozenset({"argument_refused", "argument_not_named"})
_REQUESTABLE: Final = frozenset({"action_not_allowed", "budget_exhausted", *_OF_ARGUMENTS})


def cure(
    refusals: Iterable[Refusal], *, audience: str, action: str, args: Mapping[str, JSON] | None = None
) -> Ask | None:
    """What to ask for, to be allowed what was refused; None if no grant could cure it.

    `args` are the bearer's own, None where they are not known, or the service's.
    """
    if audience == AUTHORITY or not is_action(action) or not all(map(_is_requestable, refusals)):
        return None
    return Ask(audience=audience, action=action, args=args if args is not None and _is_pinnable(args) else None)


def _is_requestable(refusal: Refusal) -> bool:
    if refusal.code == "argument_refused":
        # What refuses without saying what was given is about the service's own data, or about nothing at all.
        return refusal.given is not UNSET
    return refusal.code in _REQUESTABLE


def _is_pinnable(args: Mapping[str, JSON]) -> bool:
    """Whether a grant can hold each argument to its value, in no more than MAX_PINNED bytes."""
    try:
        for value in args.values():
            as_constraint(value)
        return len(canonical(dict(args))) <= MAX_PINNED
    except InvalidCaveat:
        return False


class Need(Struct, frozen=True):
    """What to ask for after a refusal, in order: the next only if it may not be asked for as before."""

    asks: tuple[Ask, ...]


def need(audience: str, denials: "Iterable[Told]") -> Need | None:
    """What is needed at an audience by a call that was denied, with one capability after the other.

    Pinned to its arguments if it was these that were refused; else the action alone, so that a loop over many rows asks
    once, and pinned where the action alone may not be asked for.
    """
    told = [one for one in denials if one.ask is not None and one.ask.audience == audience]
    about_arguments = [one.ask for one in told if one.ask and one.ask.args is not None and one.of_arguments]
    if about_arguments:
        return Need((about_arguments[0],))
    asks = [one.ask for one in told if one.ask]
    if not asks:
        return None
    pinned = [ask for ask in asks if ask.args is not None and ask.action == asks[0].action]
    return Need((Ask(audience=audience, action=asks[0].action), *pinned[:1]))


class Told(Struct, frozen=True):
    """What one denial says to ask for, and whether it was the arguments that were refused."""

    ask: Ask | None
    of_arguments: bool

    @classmethod
    def of(cls, ask: Ask | None, codes: Iterable[str]) -> "Told":
        """What a denial with these reasons says."""
        return cls(ask, not _OF_ARGUMENTS.isdisjoint(codes))

    @classmethod
    def parse(cls, problem: bytes) -> "Told | None":
        """What problem details say; None if they say nothing that could be asked for."""
        try:
            told = msgspec.json.decode(problem, type=_Problem)
            args = None if told.ask.args is UNSET else told.ask.args
            ask = Ask(audience=told.ask.audience, action=told.ask.action, args=args)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, CapxError):
            return None
        if args is not None and not _is_pinnable(args):
            return None
        return cls.of(ask, [reason.code for reason in told.reasons])


class _Asked(Struct, frozen=True):
    audience: str
    action: str
    args: dict[str, Any] | UnsetType = UNSET


class _Reason(Struct, frozen=True):
    code: str


class _Problem(Struct, frozen=True):
    ask: _Asked
    reasons: tuple[_Reason, ...]
