"""What a denial discloses to the bearer. The decision behind it has everything, for the service and its log.

Law: the bearer gets no value except those that it sent. So a denial tells the values of arguments only if the bearer
sent the arguments. It never tells the detail of a refusal, such as the text of a service's own caveat.

Of the budgets without room it tells only those of the last block that has one. A holder can append a budget and use it
up. From then on its calls cost nothing, and would show it how much others have spent from the budgets above.
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
    # The last block that has an exhausted budget. Hop and name together tell blocks apart: the first holder's blocks
    # have hop 0, as the authority's block has.
    holder = next(((one.hop, one.hop_name) for one in reversed(found) if one.code == _EXHAUSTED), None)
    return tuple(
        [
            _disclosed(refusal, sent)
            for refusal in found
            if refusal.code != _EXHAUSTED or (refusal.hop, refusal.hop_name) == holder
        ]
    )


def _disclosed(refusal: Refusal, sent: bool) -> Refusal:
    if sent or refusal.code not in ABOUT_ARGUMENTS:
        return replace(refusal, detail="")
    return replace(refusal, sentence=refusal.general or refusal.sentence, given=UNSET, detail="")
