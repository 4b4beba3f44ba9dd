"""The ask that a denial suggests to the agent, or the call of which it says that somebody has to approve it.

Laws:

- An ask is suggested only if a grant at run time could cure every refusal, and never at the authority itself.
- An approval is suggested only if it could cure every refusal: one is missing, used up, or for another call.
- It names only arguments that the bearer sent, and defaults of the action. It must not reveal what the service knows.
- It names all arguments of the call or none, and never more than an ask can hold.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import UNSET

from capx.errors import InvalidRequest
from capx.tokens.approval import AN_APPROVAL
from capx.tokens.approval_request import CallToApprove, approvable
from capx.tokens.lineage import AUTHORITY
from capx.verify.ask import Ask
from capx.verify.disclosure import ABOUT_ARGUMENTS
from capx_caveats import JSON, Refusal, is_action

_REQUESTABLE: Final = frozenset({"action_not_allowed", "budget_exhausted", *ABOUT_ARGUMENTS})


def suggested_ask(
    refusals: Iterable[Refusal], *, audience: str, action: str, args: Mapping[str, JSON] | None = None
) -> Ask | None:
    """The ask whose grant would cure these refusals; None if no grant can.

    `args` are arguments that came from the bearer. Give None if they are not known, or hold data of the service: then
    the answer depends on the codes alone.
    """
    curable = all(_is_requestable(refusal, by_code=args is None) for refusal in refusals)
    if audience == AUTHORITY or not is_action(action) or not curable:
        return None
    try:
        return Ask(audience=audience, action=action, args=args)
    except InvalidRequest:
        return Ask(audience=audience, action=action)


def suggested_approval(
    refusals: Iterable[Refusal], *, audience: str, action: str, args: Mapping[str, JSON] | None
) -> CallToApprove | None:
    """The call whose approval would cure these refusals; None if none can, or if no approval can hold the arguments.

    `args` are arguments that came from the bearer; None if they are not known.
    """
    if args is None or not is_action(action) or not all(map(_is_approvable, refusals)):
        return None
    try:
        return CallToApprove(audience, action, approvable(action, args))
    except InvalidRequest:
        return None


def _is_approvable(refusal: Refusal) -> bool:
    return refusal.code == "needs_discharge" or (
        _is_of_approval(refusal) and refusal.code in _REQUESTABLE | {"expired"}
    )


def _is_of_approval(refusal: Refusal) -> bool:
    # A hop may be called so, too, and is never hop 0.
    return refusal.hop_name == AN_APPROVAL and refusal.hop == 0


def _is_requestable(refusal: Refusal, *, by_code: bool) -> bool:
    if _is_of_approval(refusal):
        return False
    if refusal.code == "argument_refused" and not by_code:
        # Without `given`, the refusal is about data of the service, or about a missing value.
        return refusal.given is not UNSET
    return refusal.code in _REQUESTABLE
