"""The ask that a denial suggests to the agent.

Laws:

- It is suggested only if a grant at run time could cure every refusal, and never at the authority itself.
- It names only arguments that the bearer sent, and defaults of the action. It must not reveal what the service knows.
- It names all arguments of the call or none, and never more than an ask can hold.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import UNSET

from capx.errors import InvalidRequest
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


def _is_requestable(refusal: Refusal, *, by_code: bool) -> bool:
    if refusal.code == "argument_refused" and not by_code:
        # Without `given`, the refusal is about data of the service, or about a missing value.
        return refusal.given is not UNSET
    return refusal.code in _REQUESTABLE
