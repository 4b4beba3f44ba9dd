"""What can die, and how a death is written down.

    16 bytes          a node of the execution graph, or a capability, and everything below it
    TASK              a task, by its id
    kid:KID           all that was minted under one root key
    issued:SECONDS    all that was issued in or before that second

Laws: a key means one thing, for no task id holds a colon. A death is kept while anything may live that it kills:
`max_ttl` and an hour, a kid's for ever, because who has a leaked key mints what never expires.
"""

from collections.abc import Iterable

RevocationKey = bytes | str
"""What is dead."""

KID, ISSUED = "kid:", "issued:"
"""What the keys of kids and instants begin with."""


def of_kid(kid: str) -> str:
    """The key under which all dies that was minted with this root key."""
    return KID + kid


def of_instant(seconds: int) -> str:
    """The key under which all dies that was issued up to this second (Unix seconds)."""
    return f"{ISSUED}{seconds}"


def kid_of(key: RevocationKey) -> str | None:
    """The root key whose death this is; None if it is another's."""
    return key[len(KID) :] if isinstance(key, str) and key.startswith(KID) else None


def instant_of(key: RevocationKey) -> int | None:
    """The second up to which this kills (Unix seconds); None if it is no instant's death."""
    return int(key[len(ISSUED) :]) if isinstance(key, str) and key.startswith(ISSUED) else None


def is_lasting(key: RevocationKey) -> bool:
    """Whether this death is never forgotten."""
    return kid_of(key) is not None


def revoked_until(keys: Iterable[RevocationKey]) -> int:
    """The last second up to which all that was issued is dead; -1 when there is none."""
    return max((instant for key in keys if (instant := instant_of(key)) is not None), default=-1)
