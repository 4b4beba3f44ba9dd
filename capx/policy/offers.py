"""What a policy can be asked for: the entry of an ask, and the reasons for which one is refused."""

import json
from types import MappingProxyType
from typing import Any, Final

from capx.tokens.wire import MAX_BLOCK
from capx.verify.ask import Ask
from capx_caveats import Entry, Eq, InvalidCaveat, Pair, Refusal

REASONS: Final = MappingProxyType(
    {
        "no_intent": "the task was opened by hand, so no policy says what it may ask for",
        "intent_refused": "the policy does not take the intent of the task any more",
        "not_offered": "the policy offers this to no task of the purpose",
        "not_pinned": "the arguments are none that a grant can be pinned to",
        "not_inherited": "what restricts the asker cannot be carried on to a grant",
        "too_many": "too many requests were made, or wait, at this node or in this task",
        "request_denied": "a person has denied it",
        "asker_dead": "the asker lives no longer",
        "grant_revoked": "what was granted to this ask was revoked",
    }
)
"""Why an ask is refused, by stable codes."""
_OTHERS: Final = "*"
"""The name of a pair that stands for all arguments that have none, and so pins nothing."""


class NotOffered(Exception):
    """There is nothing for this ask, and these are the reasons."""

    def __init__(self, *refusals: Refusal) -> None:
        super().__init__(refusals[0].code)
        self.refusals = refusals


def ask_refusal(code: str, why: str = "") -> Refusal:
    """The refusal of an ask by a code of REASONS: told to the asker, and so without what others said or set up."""
    return Refusal(code, f"{REASONS[code]}: {why}" if why else REASONS[code])


def asked_entry(ask: Ask) -> Entry:
    """What was asked for, as an entry: the action, and the arguments that it is pinned to; NotOffered if none fits."""
    pinned = ask.pinned
    if pinned is None:
        return Entry(ask.action)
    if len(pinned) > MAX_BLOCK:
        raise NotOffered(ask_refusal("not_pinned", f"they are more than {MAX_BLOCK} bytes"))
    # Of the canonical text, so that the same arguments make the same block.
    args: dict[str, Any] = json.loads(pinned)
    if _OTHERS in args:
        raise NotOffered(ask_refusal("not_pinned", f"{_OTHERS} names no argument, but all that are not named"))
    try:
        return Entry(ask.action, tuple(Pair(name, Eq(value)) for name, value in args.items()))
    except InvalidCaveat as error:
        raise NotOffered(ask_refusal("not_pinned", str(error))) from None
