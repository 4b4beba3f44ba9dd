"""Revocation keys: names for the things that can be revoked.

Store and feed call a revocation a "death": a revocation key and the reason. The end of a task is a death, too.

    16 bytes          a node of the execution graph, a capability, or an agent's key, and everything below it
    TASK              a task, by its id
    kid:KID           everything minted under one root key
    issued:SECONDS    everything issued in or before that second

Laws:

- A key has exactly one meaning: no task id contains a colon.
- A death is kept as long as a token that it ends may not have expired: `max_ttl` and an hour after the death, or after
  the second that it names, if that is later.
- The death of a root key is kept for ever: with a leaked key, an attacker can mint tokens that never expire.
"""

from collections.abc import Iterable
from functools import lru_cache

from capx.crypto.hashing import digest

RevocationKey = bytes | str
"""The name of something that is revoked: 16 bytes, a task id, or text with one of the prefixes below."""

KID, ISSUED = "kid:", "issued:"
"""The prefixes of the keys of root keys and instants."""


def of_kid(kid: str) -> str:
    """The key that revokes everything minted under this root key."""
    return KID + kid


# The same keys come again and again.
@lru_cache(maxsize=4096)
def of_key(public: bytes) -> bytes:
    """The key that revokes everything that an agent's public key (32 bytes) holds or has delegated: 16 bytes."""
    return digest(b"capx/1/key", public)[:16]


def of_public(text: str) -> bytes:
    """The same for a public key as people write it, `ed25519:` and 43 characters; KeyProblem for any other text."""
    from capx.crypto.ed25519 import parse_public  # slow to import, and only keyed tasks need it

    return of_key(parse_public(text))


def of_instant(seconds: int) -> str:
    """The key that revokes everything issued up to and in this second (Unix seconds)."""
    return f"{ISSUED}{seconds}"


def kid_of(key: RevocationKey) -> str | None:
    """The kid of the root key that this key revokes; None for a key of another kind."""
    return key[len(KID) :] if isinstance(key, str) and key.startswith(KID) else None


def instant_of(key: RevocationKey) -> int | None:
    """The last second (Unix) that this key revokes; None for a key of another kind."""
    return int(key[len(ISSUED) :]) if isinstance(key, str) and key.startswith(ISSUED) else None


def is_lasting(key: RevocationKey) -> bool:
    """Whether a death with this key is kept for ever."""
    return kid_of(key) is not None


def revoked_until(keys: Iterable[RevocationKey]) -> int:
    """Everything issued up to and in this second (Unix) is revoked; -1 when there is no such key."""
    return max((instant for key in keys if (instant := instant_of(key)) is not None), default=-1)
