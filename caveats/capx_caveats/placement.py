"""Where in a chain a caveat may stand, as a table.

Law: a mark stands where its place is, once in a block; every other caveat stands anywhere, but a budget that names
its counter is the authority's.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Final

from msgspec import UNSET

from capx_caveats.caveat import Caveat
from capx_caveats.caveats import Budget
from capx_caveats.chain_caveats import Holder, Hop, Intent, MaxHops, Presented, Root, Sig, Task


class Place(Enum):
    """Where a mark may stand."""

    AUTHORITY = "in the authority's block"
    FIRST = "first in any block but the authority's"
    LAST = "last in any block but the authority's"
    ANYWHERE = "in any block"
    ALONE = "in the presentation"


PLACES: Final[Mapping[type[Caveat], Place]] = {
    Task: Place.AUTHORITY,
    Intent: Place.AUTHORITY,
    Root: Place.AUTHORITY,
    Holder: Place.AUTHORITY,
    Hop: Place.FIRST,
    MaxHops: Place.ANYWHERE,
    Sig: Place.LAST,
    Presented: Place.ALONE,
}
"""Where each mark may stand; no block has one twice."""


def misplaced(caveats: Sequence[Caveat], *, authority: bool) -> Caveat | None:
    """The first caveat of a block that stands where it may not; whether the block is the authority's decides.

    A presentation stands in neither: it is a block of its own.
    """
    kinds = tuple(map(type, caveats))
    at = _misplaced(kinds, authority)
    if at is not None:
        return caveats[at]
    if Budget in kinds and not authority:
        return next((each for each in caveats if isinstance(each, Budget) and each.counter is not UNSET), None)
    return None


@lru_cache(maxsize=1024)
def _misplaced(kinds: tuple[type[Caveat], ...], authority: bool) -> int | None:
    """Where the first misplaced mark stands, which depends on kinds alone: few blocks differ in them."""
    for at, kind in enumerate(kinds):
        place = PLACES.get(kind)
        if place is Place.AUTHORITY:
            placed = authority
        elif place is Place.FIRST:
            placed = at == 0 and not authority
        elif place is Place.LAST:
            placed = at == len(kinds) - 1 and not authority
        else:
            placed = place is not Place.ALONE
        if not placed or (place is not None and kind in kinds[:at]):
            return at
    return None
