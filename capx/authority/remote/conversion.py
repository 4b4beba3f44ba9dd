"""What operators ask for, between the values of this process and the forms that go over the wire."""

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
    """What is to be allowed, as it goes over the wire."""
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
    """What is to be allowed, as an authority takes it."""
    return [one if isinstance(one, str) else _decode_grant(one) for one in allow]


def _decode_grant(one: AllowedAction) -> Grant:
    entry = decode(bytes(one.entry), Entry)
    return entry if one.audience is None else (entry, one.audience)


def encode_caveats(caveats: Iterable[Appendable], now: int) -> list[Raw]:
    """Caveats as they stand in tokens, those about a time counted from `now` (Unix seconds)."""
    found = resolved(caveats, now)
    # A block that can be read back; a service's own caveat is for the authority to understand, or not.
    return [Raw(msgspec.json.encode(one.wire())) for one in found if encode_block((one,))]


def decode_caveats(caveats: Iterable[Raw]) -> tuple[Caveat, ...]:
    """The caveats; InvalidRequest for one that is not understood here."""
    found = tuple([caveat for one in caveats for caveat in DEFAULT.decode(b"[" + bytes(one) + b"]")])
    for one in found:
        if isinstance(one, NotUnderstood):
            raise InvalidRequest(f"a caveat is not understood here ({one.why}): {one.what:.80}")
    return found


def time_of(when: When) -> int | str:
    """A time as it goes over the wire."""
    return when if isinstance(when, int | str) else parse_instant(when, 0)
