"""What an agent asks for after a denial, and what came of it.

Laws: it asks at the audience that it meant to speak to, whatever it is told; for one call no more than twice, by its
action alone and then pinned to its arguments.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from capx.api.messages.agents import SuggestedAsk
from capx.errors import CapxError
from capx.verify.ask import Ask, Granted, Refused
from capx.verify.suggestion import OF_ARGUMENTS, is_pinnable


class NextAsks(Struct, frozen=True):
    """What to ask for after a refusal, in order: the next only if it may not be asked for as before."""

    asks: tuple[Ask, ...]


class AskOutcome(Struct, frozen=True):
    """What came of next asks: the ask that was answered last, and its answer."""

    ask: Ask
    answer: Granted | Refused | CapxError

    def sentence(self) -> str:
        """Why the call stays refused."""
        if isinstance(self.answer, Granted):
            return f"{self.ask.sentence()} was granted, and does not suffice"
        return f"more was asked for, and refused: {self.answer}"


def next_asks(audience: str, denials: Iterable["DenialSummary"], after: Ask | None = None) -> NextAsks | None:
    """What is needed at an audience by a call that was denied, with one capability after the other.

    Pinned to its arguments if it was these that were refused; else the action alone, so that a loop over many rows asks
    once, and pinned where the action alone may not be asked for. `after` is what the same call was granted before: if
    that was the action alone, and now it is its arguments that are refused, it needs these.
    """
    asks, of_arguments = _suggested_at(audience, denials)
    if after is not None:
        of_arguments = [ask for ask in of_arguments if after.args is None and ask.action == after.action]
        return NextAsks((of_arguments[0],)) if of_arguments else None
    if of_arguments:
        return NextAsks((of_arguments[0],))
    if not asks:
        return None
    pinned = [ask for ask in asks if ask.args is not None and ask.action == asks[0].action]
    return NextAsks((Ask(audience=audience, action=asks[0].action), *pinned[:1]))


def _suggested_at(audience: str, denials: Iterable["DenialSummary"]) -> tuple[list[Ask], list[Ask]]:
    """What denials say to ask for at an audience, and of that what is pinned to arguments that were refused."""
    told = [(one.ask, one.of_arguments) for one in denials if one.ask is not None and one.ask.audience == audience]
    return [ask for ask, _ in told], [ask for ask, of_arguments in told if of_arguments and ask.args is not None]


class DenialSummary(Struct, frozen=True):
    """What one denial says to ask for, and the codes of its reasons."""

    ask: Ask | None
    codes: tuple[str, ...]

    @property
    def of_arguments(self) -> bool:
        """Whether it was the arguments that were refused."""
        return not OF_ARGUMENTS.isdisjoint(self.codes)

    @property
    def of_action_alone(self) -> bool:
        """Whether all that it says is that the action is not allowed."""
        return all(code == "action_not_allowed" for code in self.codes)

    @classmethod
    def parse(cls, problem: bytes) -> "DenialSummary | None":
        """What problem details say, with an ask if they say one that can be made; None if they are none."""
        try:
            told = msgspec.json.decode(problem, type=_ProblemBody)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        return cls(_ask_of(told.ask), tuple(reason.code for reason in told.reasons))


def _ask_of(told: Any) -> Ask | None:
    try:
        ask = msgspec.convert(told, SuggestedAsk).ask()
    except (msgspec.MsgspecError, RecursionError, CapxError):
        return None
    return ask if ask.args is None or is_pinnable(ask.args) else None


class _ReasonBody(Struct, frozen=True):
    code: str


class _ProblemBody(Struct, frozen=True):
    reasons: tuple[_ReasonBody, ...]
    ask: Any = None
