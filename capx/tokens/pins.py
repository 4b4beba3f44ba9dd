"""Pins an ask to the arguments of a call: makes the entry of an allowlist that holds each argument to its value.

    "Ben", 7, true, null, [1, 2]     eq
    "", []                           length 0, and a text or an array
    {"street": "Elm"}                fields, which pins each member

Laws:

- A pinned argument has exactly its value, of the same type. Without a list of names, the call has no other argument.
- With a list of names, these are pinned, and a name that the ask does not have stays left out. The other arguments are
  free here: what the policy offers still restricts them.
- What no entry can hold is refused, with the argument's name and what to do instead.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import msgspec

from capx.crypto.base64url import b64u
from capx.crypto.canonical_json import canonical
from capx.errors import InvalidRequest
from capx_caveats import (
    DEFAULT,
    JSON,
    OTHERS,
    Absent,
    AllOf,
    Allow,
    AnyConstraint,
    Anything,
    Each,
    Entry,
    Eq,
    Fields,
    Glob,
    InvalidCaveat,
    Length,
    Pair,
    shown,
)

REMEDY: Final = "a policy can leave it free: pinned = [ … ] lists the arguments to pin"
"""What to do about an argument that cannot be pinned, as the end of a sentence."""
_NONE: Final = Length(0, 0)
# `length` takes a text and an array. Beside it stands a constraint that only one of the two satisfies.
_EMPTY_TEXT: Final = AllOf((_NONE, Glob("**")))
_EMPTY_ARRAY: Final = AllOf((_NONE, Each(Anything(), 0)))


def pinned_entry(action: str, args: Mapping[str, JSON], names: Iterable[str] | None = None) -> Entry:
    """Return the entry for calls of this action with these arguments, or with these values of the arguments in `names`.

    InvalidRequest names the argument that cannot be pinned.
    """
    import json  # slow to import, and few need it

    wanted = args if names is None else {name: args[name] for name in names if name in args}
    # From the canonical text, so that the same arguments always make the same entry.
    read: dict[str, Any] = json.loads(canonical(dict(wanted)))
    pairs = tuple(_pair(name, value) for name, value in read.items())
    if names is None:
        return Entry(action, pairs)
    left_out = tuple(Pair(name, Absent()) for name in names if name not in args)
    return Entry(action, (*pairs, *left_out, Pair(OTHERS, Anything())))


def asked_allowlist(block: bytes) -> Allow | None:
    """The allowlist of a run-time grant that pins it to what was asked for; None if its first block has none.

    It is the second of two: the first one is what the policy offers.
    """
    if not (allows := _allows(block)):
        return None
    (asked,) = DEFAULT.decode(msgspec.json.encode(allows[1:]))
    return asked if isinstance(asked, Allow) else None


def offer_digest(allow: Any) -> str:
    """The digest by which the id of a request names what the policy offers: of the JSON values of an allowlist."""
    return b64u(hashlib.sha256(canonical(allow)).digest())


def offer_in(block: bytes) -> str | None:
    """The digest of what the policy offers in the first block of a run-time grant; None if this is no such block."""
    allows = _allows(block)
    try:
        return offer_digest(allows[0]) if allows else None
    except InvalidCaveat:
        return None


def _allows(block: bytes) -> list[list[Any]]:
    """The two allowlists of a run-time grant as JSON values: what is offered may not be understood here. Else none."""
    try:
        found = [one for one in msgspec.json.decode(block, type=list[list[Any]]) if one[:1] == ["allow"]]
    except (msgspec.MsgspecError, RecursionError):
        return []
    return found if len(found) == 2 else []


def _pair(name: str, value: JSON) -> Pair:
    if name == OTHERS:
        raise InvalidRequest(f"no argument can be called {OTHERS}: in an entry it means all that are not named")
    try:
        return Pair(name, _pin(value))
    except InvalidCaveat as error:
        raise InvalidRequest(f"the argument {shown(name)} cannot be pinned: {error}; {REMEDY}") from None


def _pin(value: JSON) -> AnyConstraint:
    """Return the constraint that only this value satisfies; InvalidCaveat if there is none."""
    if isinstance(value, Mapping):
        if OTHERS in value:
            raise InvalidCaveat(f"it has a member {OTHERS}, which means all members that are not named")
        return Fields(tuple(Pair(name, _pin(member)) for name, member in value.items()))
    if isinstance(value, str):
        return Eq(value) if value else _EMPTY_TEXT
    if isinstance(value, list | tuple):
        elements: tuple[Any, ...] = tuple(value)
        if any(isinstance(one, list | tuple | Mapping) or one == "" for one in elements):
            raise InvalidCaveat("it is an array that holds an array, an object or an empty text")
        return Eq(elements) if elements else _EMPTY_ARRAY
    return Eq(cast("Any", value))
