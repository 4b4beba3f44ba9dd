"""What a denial discloses to the bearer. The decision behind it has everything, for the service and its log.

Law: the bearer gets no value except those that it sent. So a denial tells the values of arguments only if the bearer
sent the arguments. It never tells the detail of a refusal, such as the text of a service's own caveat.

Of the budgets without room it tells only the last. A holder can append a budget and use it up. From then on its calls
cost nothing, and would show it how much others have spent from the budgets before.
"""

from collections.abc import Iterable
from typing import Final

from msgspec import UNSET
from msgspec.structs import replace

from capx_caveats import Refusal

ABOUT_ARGUMENTS: Final = frozenset({"argument_refused", "argument_not_named"})
"""The reasons that are about the arguments of a call."""
_EXHAUSTED: Final = "budget_exhausted"


def disclosed(refusals: Iterable[Refusal], *, sent: bool) -> tuple[Refusal, ...]:
    """The refusals as the bearer may see them; `sent` says that the arguments are what it sent, or defaults."""
    found = tuple(refusals)
    # They are in the order of the blocks, and in that of the caveats in a block.
    last = max((at for at, one in enumerate(found) if one.code == _EXHAUSTED), default=None)
    return tuple(
        [_disclosed(refusal, sent) for at, refusal in enumerate(found) if refusal.code != _EXHAUSTED or at == last]
    )


def _disclosed(refusal: Refusal, sent: bool) -> Refusal:
    if sent or refusal.code not in ABOUT_ARGUMENTS:
        return replace(refusal, detail="")
    return replace(refusal, sentence=refusal.general or refusal.sentence, given=UNSET, detail="")
