"""What goes over the wire between `capx serve` and its clients, as JSON.

Laws: what is read is read strictly: an unknown field, a missing one, another type is refused. Bytes are base64url
without padding, a bundle is its text, an amount is decimal text. The facts of an event are the very JSON that its hash
covers.
"""

from collections.abc import Iterable
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from capx.bundle import Bundle
from capx.chain import b64u, unb64u
from capx.errors import InvalidRequest
from capx.grant import Grant
from capx.log import Event, Place
from capx_caveats import (
    DEFAULT,
    SAFE_INTEGER,
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

T = TypeVar("T")

PAGE = 1_000
"""Events in one answer."""

Id = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
Count = Annotated[int, Meta(ge=0, le=SAFE_INTEGER)]
Limit = Annotated[int, Meta(ge=1, le=PAGE)]
Time = Annotated[int, Meta(ge=0, le=SAFE_INTEGER)] | Annotated[str, Meta(max_length=40)]
"""Unix seconds, RFC 3339, or a duration such as `15m` from now."""


class _Asked(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    pass


class Granted(_Asked, frozen=True):
    """An entry in the form that it has in tokens, and the audience, if that is not the action's first label."""

    entry: Raw
    audience: str | None = None


class OpenTask(_Asked, frozen=True):
    """What a task is to be allowed: each `ACTION[@AUDIENCE]`, or an entry; caveats as they stand in tokens."""

    allow: list[str | Granted]
    tenant: str | None = None
    expires: Time = "1h"
    purpose: str | None = None
    caveats: list[Raw] = []


class MintMore(_Asked, frozen=True):
    """What a task is to be allowed besides."""

    allow: list[str | Granted]
    expires: Time | None = None
    caveats: list[Raw] = []


class EndTask(_Asked, frozen=True):
    """How to end a task; a dry run only says what is known to die."""

    dry_run: bool = False


class Revoke(_Asked, frozen=True):
    """What is to die, one thing of the four; `target` is the id of a node, capability, root or task."""

    target: str | None = None
    kid: str | None = None
    issued: Time | None = None
    where: dict[str, str] | None = None
    dry_run: bool = False


class LogQuery(_Asked, frozen=True):
    """Which events: those after `since`; or, newest first, those before `before`, or the last ones."""

    since: Count = 0
    limit: Limit = PAGE
    newest: bool = False
    before: Count | None = None


class FindQuery(_Asked, frozen=True):
    """Which decisions; with `after`, those after that position in order, else the `limit` newest."""

    agent: str | None = None
    tenant: str | None = None
    action: str | None = None
    task: str | None = None
    denied: bool = False
    since: Count = 0
    limit: Limit = PAGE
    after: Count | None = None


class GraphQuery(_Asked, frozen=True):
    """Whose graph: one task's, or that of all."""

    task: Id | None = None


class CountersQuery(_Asked, frozen=True):
    """Which counters: those of the ids that are named, or all."""

    id: tuple[Id, ...] = ()


class UnawareQuery(_Asked, frozen=True):
    """Followers heard of in the last `within` seconds."""

    within: Count = 30


class Happened(Struct, frozen=True):
    """One event of the log; `at` in Unix seconds, `hash` in base64url, `facts` as the hash covers them."""

    position: int
    at: int
    kind: str
    hash: str
    facts: Raw

    @classmethod
    def of(cls, event: Event) -> "Happened":
        """An event as it goes over the wire."""
        return cls(event.position, event.at, event.kind, b64u(event.hash), Raw(event.body))

    def event(self) -> Event:
        """The event itself."""
        return Event(self.position, self.at, self.kind, bytes(self.facts), unb64u(self.hash))


class Events(Struct, frozen=True):
    """Events; `reached` is the position up to which was looked, back to which with `newest`, and `end` the last one."""

    events: list[Happened]
    reached: int
    end: int


class Reached(Struct, frozen=True):
    """The place that the log reaches."""

    position: int
    hash: str

    @classmethod
    def of(cls, place: Place) -> "Reached":
        """A place as it goes over the wire."""
        return cls(place.position, b64u(place.hash))

    def place(self) -> Place:
        """The place itself."""
        return Place(self.position, unb64u(self.hash))


class Minted(Struct, frozen=True):
    """A bundle: a secret."""

    bundle: Bundle


class Problem(Struct, frozen=True, omit_defaults=True):
    """Problem details (RFC 9457); `position` and `why` say where a log is broken."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    position: int | None = None
    why: str | None = None


class AgentStatus(Struct, frozen=True):
    """How the task stands whose agent asked; times in Unix seconds."""

    task: str
    state: Literal["active", "completed", "withdrawn", "expired"]
    opened: int
    expires: int
    tenant: str | None
    purpose: str | None


def encode(value: object) -> bytes:
    """A value of these forms, or one that they hold, as JSON."""
    return msgspec.json.encode(value, enc_hook=_encoded)


def decode(data: bytes, kind: type[T]) -> T:
    """A value of a form; InvalidRequest says what is wrong with other bytes."""
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=_decoded)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InvalidRequest(f"this is not the JSON that belongs here: {error}") from None


def _encoded(value: object) -> object:
    if isinstance(value, Bundle):
        return value.text
    raise TypeError(f"a {type(value).__name__} does not go over the wire")


def _decoded(kind: type, value: object) -> object:
    if kind is Bundle and isinstance(value, str):
        return Bundle.parse(value)
    raise TypeError(f"a {kind.__name__} does not come over the wire")


def granted(allow: Iterable[Grant]) -> list[str | Granted]:
    """What is to be allowed, as it goes over the wire."""
    if isinstance(allow, str):
        raise InvalidRequest(f"allow is a list of actions: write [{allow!r:.80}]")
    return [_granted(one) for one in allow]


def _granted(one: Grant) -> str | Granted:
    if isinstance(one, str):
        return one
    what, audience = one if isinstance(one, tuple) else (one, None)
    try:
        return Granted(entry=Raw(msgspec.json.encode(as_entry(what).wire())), audience=audience)
    except InvalidCaveat as error:
        raise InvalidRequest(str(error)) from error


def grants(allow: Iterable[str | Granted]) -> list[Grant]:
    """What is to be allowed, as an authority takes it."""
    return [one if isinstance(one, str) else _grant(one) for one in allow]


def _grant(one: Granted) -> Grant:
    entry = decode(bytes(one.entry), Entry)
    return entry if one.audience is None else (entry, one.audience)


def written(caveats: Iterable[Appendable], now: int) -> list[Raw]:
    """Caveats as they stand in tokens, those about a time counted from `now` (Unix seconds)."""
    found = resolved(caveats, now)
    # A block that can be read back; a service's own caveat is for the authority to understand, or not.
    return [Raw(msgspec.json.encode(one.wire())) for one in found if encode_block((one,))]


def understood(caveats: Iterable[Raw]) -> tuple[Caveat, ...]:
    """The caveats; InvalidRequest for one that is not understood here."""
    found = tuple([caveat for one in caveats for caveat in DEFAULT.decode(b"[" + bytes(one) + b"]")])
    for one in found:
        if isinstance(one, NotUnderstood):
            raise InvalidRequest(f"a caveat is not understood here ({one.why}): {one.what:.80}")
    return found


def time_of(when: When) -> int | str:
    """A time as it goes over the wire."""
    return when if isinstance(when, int | str) else parse_instant(when, 0)
