"""The table of where each caveat may be in a chain of blocks.

Law: a mark may be only in its place, and only once in a block. Every other caveat may be anywhere, except a budget that
names its counter: only the authority's block may have one.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Final

from msgspec import UNSET

from capx_caveats.caveat import Caveat
from capx_caveats.caveats import Budget
from capx_caveats.chain_caveats import Approved, Holder, Hop, Intent, MaxHops, Presented, Root, Sig, Signed, Task


class Place(Enum):
    """A place in a chain for a mark."""

    AUTHORITY = "in the authority's block"
    FIRST = "first in any block but the authority's"
    LAST = "last in any block but the authority's"
    ANYWHERE = "in any block"
    ALONE = "in the presentation"
    DISCHARGE = "in a discharge, never in a token"


PLACES: Final[Mapping[type[Caveat], Place]] = {
    Task: Place.AUTHORITY,
    Intent: Place.AUTHORITY,
    Root: Place.AUTHORITY,
    Holder: Place.AUTHORITY,
    Hop: Place.FIRST,
    MaxHops: Place.ANYWHERE,
    Sig: Place.LAST,
    Presented: Place.ALONE,
    Approved: Place.DISCHARGE,
    Signed: Place.DISCHARGE,
}
"""The place of each mark; no block may have the same mark twice."""
_BESIDE_TOKENS: Final = frozenset({Place.ALONE, Place.DISCHARGE})


def misplaced(caveats: Sequence[Caveat], *, authority: bool) -> Caveat | None:
    """Return the first caveat of a block that is in a wrong place, or None; `authority` says whose block it is.

    A presentation is wrong in both kinds of blocks: it is a block of its own. So is what belongs in a discharge.
    """
    kinds = tuple(map(type, caveats))
    at = _misplaced(kinds, authority)
    if at is not None:
        return caveats[at]
    # A holder who could name a counter could use up a budget that other capabilities share.
    if Budget in kinds and not authority:
        return next((each for each in caveats if isinstance(each, Budget) and each.counter is not UNSET), None)
    return None


@lru_cache(maxsize=1024)
def _misplaced(kinds: tuple[type[Caveat], ...], authority: bool) -> int | None:
    """Return the position of the first misplaced mark. It depends only on kinds, and few blocks differ in those."""
    for at, kind in enumerate(kinds):
        place = PLACES.get(kind)
        if place is Place.AUTHORITY:
            placed = authority
        elif place is Place.FIRST:
            placed = at == 0 and not authority
        elif place is Place.LAST:
            placed = at == len(kinds) - 1 and not authority
        else:
            placed = place not in _BESIDE_TOKENS
        if not placed or (place is not None and kind in kinds[:at]):
            return at
    return None
