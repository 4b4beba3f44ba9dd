"""What one token can do and another, narrowed from it, cannot.

Laws: it is worked out from what the tokens say, without a key, as `effective` does; nothing here is verified.
The work is bounded.
"""

from msgspec import Struct

from capx.tokens.capability import Token
from capx.tokens.effective.effective import Effective
from capx.tokens.effective.intersection import entries_in_common, simplest, size, spelled, work
from capx_caveats import Entry

_WORK = 2**18
"""About how many bytes of entries are written to compare two tokens."""


class Loss(Struct, frozen=True):
    """An entry that could be done in full, and what is left of it; nothing, if it is gone."""

    entry: Entry
    left: tuple[Entry, ...]


def descends(child: Token, parent: Token) -> bool:
    """Whether the blocks of `child` begin with all those of `parent`, minted as one: by their ids, not by a MAC."""
    return parent.id in child.ids


def losses(parent: Effective, child: Effective) -> tuple[Loss, ...] | None:
    """What `parent` could do and `child` cannot do in full; None where they have too many entries to compare.

    Nothing for a parent that could do nothing.
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
