"""The name of an epoch of a store: which store it is, and when its epoch began.

    AUTHORITY.SECONDS

AUTHORITY is the id of the authority (16 random bytes in base64url): its store gets it when it is created, and keeps it
for ever. The keys of the authority name it too. A store begins an epoch when it is created, and a later one whenever it
is restored from a backup.

Laws: two authorities never have the same id. A store never has two epochs of the same name. So the name of an epoch
means one store, before or after a restoration, and never a copy of it that was restored elsewhere.
"""

import re
from typing import Final

FORM: Final = r"[A-Za-z0-9_-]{1,64}\.(?:0|[1-9][0-9]{0,15})"
"""The form of an epoch, as a regular expression for the whole text."""
_EPOCH = re.compile(FORM)


def is_epoch(epoch: object) -> bool:
    """Whether this is text with the form of an epoch."""
    return isinstance(epoch, str) and _EPOCH.fullmatch(epoch) is not None


def new_epoch(authority: str, now: int) -> str:
    """Return the name of an epoch that begins at `now` (Unix seconds), for the store of this authority."""
    return f"{authority}.{now}"


def authority_of(epoch: str) -> str:
    """Return the id of the authority: the one that its store got when it was created."""
    return epoch.partition(".")[0]


def began(epoch: str) -> int:
    """Return the time when an epoch began, in Unix seconds."""
    return int(epoch.partition(".")[2])
