"""The difference between a token and one that was narrowed from it: the entries that were lost.

Laws: there is no key here, so nothing is verified. The work is bounded.
"""

from msgspec import Struct

from capx.tokens.capability import Token
from capx.tokens.effective.effective import Effective
from capx.tokens.effective.intersection import entries_in_common, simplest, size, spelled, work
from capx_caveats import Entry

_WORK = 2**18
"""About how many bytes of entries may be written to compare two tokens."""


class Loss(Struct, frozen=True):
    """An entry that the parent allows in full, and the entries left of it in the child; empty if none are."""

    entry: Entry
    left: tuple[Entry, ...]


def descends(child: Token, parent: Token) -> bool:
    """Whether `child` was made from `parent` by adding blocks, as far as their ids say; no MAC is checked."""
    return parent.id in child.ids


def losses(parent: Effective, child: Effective) -> tuple[Loss, ...] | None:
    """The entries that `parent` allows and `child` does not allow in full; None if there are too many to compare.

    Empty for a parent that allows nothing.
    """
    if parent.why_nothing:
        return ()
    still = () if child.why_nothing else child.entries
    kept = set(map(spelled, still))
    changed = tuple(entry for entry in parent.entries if spelled(entry) not in kept)
    if work(size(changed), len(changed), still) > _WORK:
        return None
    found = (Loss(entry, entries_in_common((entry,), still)) for entry in changed)
    return tuple(loss for loss in found if not _whole(loss))


def _whole(loss: Loss) -> bool:
    whole = {spelled(entry) for entry in (loss.entry, *simplest((loss.entry,)))}
    return any(spelled(entry) in whole for entry in loss.left)
