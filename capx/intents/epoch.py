"""The name of an epoch of a store: which store it is, and since when it goes on as it does.

    ORIGIN.SECONDS

Laws: two stores never have one origin, and no store has two epochs of one name: a restoration begins a later one, so
what names an epoch means one store, before or after, and no copy of it that was brought back elsewhere.
"""

import re
from typing import Final

FORM: Final = r"[A-Za-z0-9_-]{1,64}\.(?:0|[1-9][0-9]{0,15})"
"""What an epoch looks like, as a regular expression for the whole of it."""
_EPOCH = re.compile(FORM)


def is_epoch(epoch: object) -> bool:
    """Whether this is text that names an epoch."""
    return isinstance(epoch, str) and _EPOCH.fullmatch(epoch) is not None


def new_epoch(origin: str, now: int) -> str:
    """The name of an epoch of the store that began as `origin`."""
    return f"{origin}.{now}"


def origin_of(epoch: str) -> str:
    """What the store was when it was created."""
    return epoch.partition(".")[0]


def began(epoch: str) -> int:
    """The second in which an epoch began (Unix)."""
    return int(epoch.partition(".")[2])
