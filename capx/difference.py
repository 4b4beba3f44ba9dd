"""What one token can do and another, narrowed from it, cannot.

Law: it is worked out from what the tokens say, without a key, as `capx.effective` does; nothing here is verified.
"""

import msgspec
from msgspec import Struct

from capx.capability import Token
from capx.effective import Effective
from capx.overlap import entries_in_common, simplest
from capx_caveats import Entry


class Loss(Struct, frozen=True):
    """An entry that could be done in full, and what is left of it; nothing, if it is gone."""

    entry: Entry
    left: tuple[Entry, ...]


def descends(child: Token, parent: Token) -> bool:
    """Whether the blocks of `child` begin with all those of `parent`, minted as one: by their ids, not by a MAC."""
    return parent.id in child.ids


def losses(parent: Effective, child: Effective) -> tuple[Loss, ...]:
    """What `parent` could do and `child` cannot do in full; nothing for a parent that could do nothing."""
    if parent.why_nothing:
        return ()
    still = () if child.why_nothing else child.entries
    found = (Loss(entry, entries_in_common((entry,), still)) for entry in parent.entries)
    return tuple(loss for loss in found if not _whole(loss))


def _whole(loss: Loss) -> bool:
    whole = {_wire(entry) for entry in (loss.entry, *simplest((loss.entry,)))}
    return any(_wire(entry) in whole for entry in loss.left)


def _wire(entry: Entry) -> bytes:
    return msgspec.json.encode(entry.wire())
