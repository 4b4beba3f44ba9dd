"""Decides what an agent asks for after a denial, and describes the outcome.

Laws: an agent asks only at the audience that it meant to call, whatever a response says. It asks at most twice for one
call: for the action, and then for the action pinned to the arguments.
"""

from collections.abc import Iterable

from msgspec import UNSET, Struct

from capx.errors import CapxError
from capx.tokens.capability import Capability
from capx.tokens.uses_counter import is_uses_counter
from capx.verify.ask import NOT_PINNED, Approved, Ask, Granted, Refused
from capx.verify.decision import Denied
from capx.verify.disclosure import ABOUT_ARGUMENTS
from capx_caveats import Allow, Budget, Call, Entry


class NextAsks(Struct, frozen=True):
    """The asks after a denial, in order; the agent sends the next one only if the one before needs arguments."""

    asks: tuple[Ask, ...]


class AskOutcome(Struct, frozen=True):
    """The ask that was answered last, and its answer."""

    ask: Ask
    answer: Granted | Approved | Refused | CapxError

    @property
    def needs_arguments(self) -> bool:
        """Whether an ask that names the arguments may get another answer."""
        # Denied: the bundle may not send this ask. `not_pinned`: a person consents only to a call that they see whole.
        refused = isinstance(self.answer, Refused) and any(one.code == NOT_PINNED for one in self.answer.reasons)
        return self.ask.args is None and (refused or isinstance(self.answer, Denied))

    def sentence(self) -> str:
        """Say why the call stays denied."""
        if isinstance(self.answer, Granted):
            return f"{self.ask.sentence()} was granted, but is not enough for this call"
        if isinstance(self.answer, Approved):
            return f"{self.ask.sentence()} was approved, but that is not enough for this call"
        if self.ask.demand is not None:
            return f"the agent asked for an approval and did not get it: {self.answer}"
        unnamed = " (the service did not name them: perhaps they are not valid)" if self.needs_arguments else ""
        return f"the agent asked for more and did not get it: {self.answer}{unnamed}"


def next_asks(audience: str, denials: Iterable["DenialSummary"], after: Ask | None = None) -> NextAsks | None:
    """Return the next asks for a denied call at an audience, or None if there is nothing to ask for.

    `denials` has one summary for each capability that was tried. If the arguments were denied, the ask is pinned to
    them. Otherwise it is for the action only, so that a loop over many rows asks once. The pinned ask follows, because
    the policy may demand it, or may not let the agent ask for the action only. `after` is the ask that was granted for
    this call before. If it was for the action only, and now the arguments are denied, the next ask is pinned to them.
    """
    asks, repairs = _suggested_at(audience, denials)
    if after is not None:
        repairs = [ask for ask in repairs if after.args is None and ask.action == after.action]
        return NextAsks((repairs[0],)) if repairs else None
    if repairs:
        return NextAsks((repairs[0],))
    if not asks:
        return None
    pinned = [ask for ask in asks if ask.args is not None and ask.action == asks[0].action]
    return NextAsks((Ask(audience=audience, action=asks[0].action), *pinned[:1]))


def is_limited_grant(capability: Capability, ask: Ask) -> bool:
    """Whether a capability was granted on this ask, for a number of calls: it may be used up."""
    if ask.demand is not None:
        return False
    block = capability.caveats[0] if capability.caveats else ()
    # A grant holds what the policy offers, then what was asked for. What was narrowed since is another agent's.
    asked = [entry for caveat in block if isinstance(caveat, Allow) for entry in caveat.entries][1:]
    counted = any(isinstance(one, Budget) and is_uses_counter(one.counter) for one in block)
    granted = capability.audience == ask.audience and any(_is_for(entry, ask) for entry in asked)
    # Behind the authority's block, a grant has the approvals that are demanded of its calls, and nothing else.
    return counted and granted and len(capability.blocks) == 1 + len(capability.demands)


def _is_for(entry: Entry, ask: Ask) -> bool:
    """Whether this entry of a grant is for the ask. The policy may pin fewer arguments than the ask has."""
    if ask.args is None or entry.args is UNSET:
        return ask.args is None and entry == Entry(ask.action)
    return entry.pattern == ask.action and entry.misfit(Call(ask.action, ask.args)) is None


def _suggested_at(audience: str, denials: Iterable["DenialSummary"]) -> tuple[list[Ask], list[Ask]]:
    """Return the asks that denials suggest at an audience, and of these the pinned ones whose arguments were denied."""
    # Any other audience is ignored: a hostile service must not choose where the agent gets authority.
    found = [(one.ask, one) for one in denials if one.ask is not None and one.ask.audience == audience]
    return [ask for ask, _ in found], [ask for ask, one in found if one.about_arguments and ask.args is not None]


class DenialSummary(Struct, frozen=True):
    """The ask that one denial suggests, if any, and the codes of its reasons."""

    ask: Ask | None
    codes: tuple[str, ...]

    @property
    def about_arguments(self) -> bool:
        """Whether the arguments were denied."""
        return not ABOUT_ARGUMENTS.isdisjoint(self.codes)

    @property
    def of_action_only(self) -> bool:
        """Whether the denial says only that the action is not allowed."""
        return all(code == "action_not_allowed" for code in self.codes)

    @classmethod
    def of(cls, denied: Denied) -> "DenialSummary":
        """The summary of a denial."""
        return cls(denied.ask, tuple(refusal.code for refusal in denied.refusals))
