"""The bodies, queries and answers of the operators' operations. Their docstrings are part of the OpenAPI document."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, structs

from capx.api.messages.base import Count, Id, Label, RequestBody, Text
from capx.authority.history import MOST_TREES
from capx.crypto.base64url import b64u, unb64u
from capx.intents.intent import Intent, SignedIntent
from capx.store.call_page import SHOWN, CallPage
from capx.store.decision_groups import Group
from capx.store.decision_query import Query
from capx.store.log import Event, Place
from capx.tokens.bundle import Bundle
from capx.tokens.wire import MAX_TEXT
from capx_caveats import SAFE_INTEGER
from capx_caveats import Literal as Scalars

PAGE = 1_000
"""The most events in one answer."""

Limit = Annotated[int, Meta(ge=1, le=PAGE)]
Digest = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{43}$(?!\n)")]
Time = Annotated[int, Meta(ge=0, le=SAFE_INTEGER)] | Annotated[str, Meta(max_length=40)]
"""Unix seconds, RFC 3339, or a duration such as `15m` from now."""


class AllowedAction(RequestBody, frozen=True):
    """An entry in its form in tokens. `audience` is needed only if it is not the first label of the action."""

    entry: Raw
    audience: str | None = None


class IntentDocument(Intent, frozen=True):
    """An intent. Without `parameters`, it has none."""

    # `Intent` has a default that a JSON Schema cannot express.
    parameters: Mapping[str, Scalars] = {}

    @classmethod
    def of(cls, intent: Intent) -> "IntentDocument":
        """An intent in its form on the wire."""
        return cls(**structs.asdict(intent))

    def meant(self) -> Intent:
        """The intent itself."""
        return Intent(**structs.asdict(self))


class IntentFile(RequestBody, frozen=True):
    """An intent as in its file: signed, or without a signature if somebody attests the login of its principal."""

    intent: IntentDocument
    signature: str | UnsetType = UNSET

    @classmethod
    def of(cls, intent: Intent | SignedIntent) -> "IntentFile":
        """An intent in its form on the wire."""
        meant, signature = (intent.intent, intent.signature) if isinstance(intent, SignedIntent) else (intent, UNSET)
        return cls(intent=IntentDocument.of(meant), signature=signature)

    def meant(self) -> Intent | SignedIntent:
        """The intent itself."""
        intent = self.intent.meant()
        return intent if self.signature is UNSET else SignedIntent(intent, self.signature)


class OpenTask(RequestBody, frozen=True):
    """A task to open: on an intent, or by hand with a list of `ACTION[@AUDIENCE]` or entries.

    An intent without a signature needs `attested`: the name of who checked the login of the principal. `agent_key` is
    the public key of the first agent, and the key of the intent if that names one. Caveats have their form in tokens.
    """

    intent: IntentFile | None = None
    attested: str | None = None
    allow: list[str | AllowedAction] = []  # noqa: RUF012 # msgspec gives each its own
    tenant: str | None = None
    expires: Time | None = None
    purpose: str | None = None
    caveats: list[Raw] = []  # noqa: RUF012 # msgspec gives each its own
    agent_key: Text | None = None


class MintMore(RequestBody, frozen=True):
    """More capabilities for a task: a list of `ACTION[@AUDIENCE]` or entries."""

    allow: list[str | AllowedAction]
    expires: Time | None = None
    caveats: list[Raw] = []  # noqa: RUF012 # msgspec gives each its own


class EndTask(RequestBody, frozen=True):
    """How to end a task, or an intent with its tasks. A dry run only says what is known to die."""

    dry_run: bool = False


class Revoke(RequestBody, frozen=True):
    """One thing to revoke: give exactly one field besides `dry_run`.

    `target` is the id of a node, capability, root or task. `key` is the public key of an agent. `issued` may also be
    `now`. `force` allows an `issued` that has not come yet: a clock was ahead, and the log has tokens up to then.
    """

    target: str | None = None
    kid: str | None = None
    issued: Time | None = None
    where: dict[str, str] | None = None
    key: Text | None = None
    dry_run: bool = False
    force: bool = False


class LogQuery(RequestBody, frozen=True):
    """Selects events: those after `since`, or with `newest` the last ones, or those before `before`."""

    since: Count = 0
    limit: Limit = PAGE
    newest: bool = False
    before: Count | None = None


class FindQuery(RequestBody, Query, frozen=True, kw_only=True):
    """Selects decisions: with `after`, those after that position in order; otherwise the `limit` newest."""

    since: Count = 0
    limit: Limit = PAGE
    after: Count | None = None


class CallsQuery(RequestBody, Query, frozen=True, kw_only=True):
    """Selects the newest calls by their last decision, before the position `before`; with `each`, single decisions."""

    since: Count = 0
    limit: Limit = SHOWN
    before: Count | None = None
    each: bool = False


class TasksQuery(RequestBody, frozen=True):
    """Selects tasks: all, or those of which an event of the log names a node or capability."""

    naming: Id | None = None


class TaskPageQuery(RequestBody, frozen=True):
    """Selects the newest tasks, also before the task `before`, or the first ones after `after`.

    With `intent`, a digest, only those on that intent.
    """

    limit: Limit = SHOWN
    before: Id | None = None
    after: Id | None = None
    active: bool = False
    intent: Digest | None = None


class GraphQuery(RequestBody, frozen=True):
    """Selects the graph of one task, or of the newest `limit` tasks."""

    task: Id | None = None
    limit: Limit = MOST_TREES


class CountersQuery(RequestBody, frozen=True):
    """Selects counters: those with these ids, or all."""

    id: tuple[Id, ...] = ()


class RequestsQuery(RequestBody, frozen=True):
    """Selects requests: of one task or of all; with `pending`, only those that wait for a person."""

    task: Id | None = None
    pending: bool = False


class GiveVerdict(RequestBody, frozen=True):
    """The answer of a person to a request, given `at` (Unix seconds). `capx.Verdict` makes the signature."""

    yes: bool
    approver: Label
    at: Count
    signature: Text


class GiveApproval(RequestBody, frozen=True):
    """The approval of a call, as text: `capx.PrincipalKey.approve` makes it."""

    discharge: Annotated[str, Meta(max_length=MAX_TEXT)]


class UnawareQuery(RequestBody, frozen=True):
    """Selects followers: those that reported in the last `within` seconds."""

    within: Count = 30


class Happened(Struct, frozen=True):
    """One event of the log; `at` is in Unix seconds, `hash` is base64url, `facts` is the JSON that the hash covers."""

    position: int
    at: int
    kind: str
    hash: str
    facts: Raw

    @classmethod
    def of(cls, event: Event) -> "Happened":
        """An event in its form on the wire."""
        return cls(event.position, event.at, event.kind, b64u(event.hash), Raw(event.body))

    def event(self) -> Event:
        """The event itself."""
        return Event(self.position, self.at, self.kind, bytes(self.facts), unb64u(self.hash))


class Events(Struct, frozen=True):
    """A page of events.

    `reached` is how far the search got (backwards with `newest`), `end` is the last position of the log.
    """

    events: list[Happened]
    reached: int
    end: int


class Calls(Struct, frozen=True):
    """A page of calls, the newest first, each with the decisions about it in order.

    `reached` is the `before` of the next page; at 0 nothing is left.
    """

    calls: list[list[Happened]]
    reached: int

    @classmethod
    def of(cls, page: CallPage) -> "Calls":
        """A page in its form on the wire."""
        return cls([list(map(Happened.of, group.events)) for group in page.groups], page.reached)

    def page(self) -> CallPage:
        """The page itself."""
        return CallPage(tuple([Group(tuple([one.event() for one in call])) for call in self.calls]), self.reached)


class Reached(Struct, frozen=True):
    """The end of the log: its last position, and the hash there."""

    position: int
    hash: str

    @classmethod
    def of(cls, place: Place) -> "Reached":
        """The wire form of a position and hash."""
        return cls(place.position, b64u(place.hash))

    def place(self) -> Place:
        """The position and hash."""
        return Place(self.position, unb64u(self.hash))


class Epoch(Struct, frozen=True):
    """The epoch of the store. Intents name their authority by it."""

    epoch: str


class Minted(Struct, frozen=True):
    """A bundle: a secret."""

    bundle: Bundle
