"""Converting the grants, caveats and times of operators to their form on the wire, and back."""

from collections.abc import Iterable

import msgspec
from msgspec import Raw

from capx.api.messages.base import decode
from capx.authority.remote.messages import AllowedAction
from capx.errors import InvalidRequest
from capx.tokens.grants import Grant
from capx_caveats import (
    DEFAULT,
    Appendable,
    Caveat,
    Entry,
    InvalidCaveat,
    NotUnderstood,
    When,
    as_entry,
    encode_block,
    parse_instant,
    resolved,
)


def encode_grants(allow: Iterable[Grant]) -> list[str | AllowedAction]:
    """Grants in their form on the wire."""
    # A str is also an iterable of str: each of its characters would go over as an action.
    if isinstance(allow, str):
        raise InvalidRequest(f"allow is a list of actions: write [{allow!r:.80}]")
    return [_encode_grant(one) for one in allow]


def _encode_grant(one: Grant) -> str | AllowedAction:
    if isinstance(one, str):
        return one
    what, audience = one if isinstance(one, tuple) else (one, None)
    try:
        return AllowedAction(entry=Raw(msgspec.json.encode(as_entry(what).wire())), audience=audience)
    except InvalidCaveat as error:
        raise InvalidRequest(str(error)) from error


def decode_grants(allow: Iterable[str | AllowedAction]) -> list[Grant]:
    """Grants as an authority takes them."""
    return [one if isinstance(one, str) else _decode_grant(one) for one in allow]


def _decode_grant(one: AllowedAction) -> Grant:
    entry = decode(bytes(one.entry), Entry)
    return entry if one.audience is None else (entry, one.audience)


def encode_caveats(caveats: Iterable[Appendable], now: int) -> list[Raw]:
    """Caveats as tokens hold them. A duration counts from `now` (Unix seconds)."""
    found = resolved(caveats, now)
    # encode_block raises if a token could not hold the caveat. Whether it is understood is for the authority to check.
    return [Raw(msgspec.json.encode(one.wire())) for one in found if encode_block((one,))]


def decode_caveats(caveats: Iterable[Raw]) -> tuple[Caveat, ...]:
    """Caveats from their form on the wire; InvalidRequest for one that is not understood here."""
    found = tuple([caveat for one in caveats for caveat in DEFAULT.decode(b"[" + bytes(one) + b"]")])
    for one in found:
        if isinstance(one, NotUnderstood):
            raise InvalidRequest(
                f"the authority does not understand a caveat ({one.why}): {one.what:.80}; leave it out"
            )
    return found


def time_of(when: When) -> int | str:
    """A time in its form on the wire."""
    # A duration goes over as it is. It then counts from the clock of the authority.
    return when if isinstance(when, int | str) else parse_instant(when, 0)
