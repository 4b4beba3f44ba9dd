"""The bodies, queries and answers of the operators' operations. Their docstrings are part of the OpenAPI document."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, structs

from capx.api.messages.base import Count, Id, Label, RequestBody, Text
from capx.crypto.base64url import b64u, unb64u
from capx.intents.intent import Intent, SignedIntent
from capx.store.decision_query import Query
from capx.store.log import Event, Place
from capx.tokens.bundle import Bundle
from capx_caveats import SAFE_INTEGER
from capx_caveats import Literal as Scalars

PAGE = 1_000
"""Events in one answer."""

Limit = Annotated[int, Meta(ge=1, le=PAGE)]
Time = Annotated[int, Meta(ge=0, le=SAFE_INTEGER)] | Annotated[str, Meta(max_length=40)]
"""Unix seconds, RFC 3339, or a duration such as `15m` from now."""


class AllowedAction(RequestBody, frozen=True):
    """An entry in the form that it has in tokens, and the audience, if that is not the action's first label."""

    entry: Raw
    audience: str | None = None


class IntentDocument(Intent, frozen=True):
    """An intent, whose parameters are none unless it says so."""

    # `Intent` has a default that a JSON Schema cannot express.
    parameters: Mapping[str, Scalars] = {}


class IntentFile(RequestBody, frozen=True):
    """An intent as its file holds it: signed, or without a signature where a login speaks for its principal."""

    intent: IntentDocument
    signature: str | UnsetType = UNSET

    @classmethod
    def of(cls, intent: Intent | SignedIntent) -> "IntentFile":
        """An intent in its form on the wire."""
        meant, signature = (intent.intent, intent.signature) if isinstance(intent, SignedIntent) else (intent, UNSET)
        return cls(intent=IntentDocument(**structs.asdict(meant)), signature=signature)

    def meant(self) -> Intent | SignedIntent:
        """The intent itself."""
        intent = Intent(**structs.asdict(self.intent))
        return intent if self.signature is UNSET else SignedIntent(intent, self.signature)


class OpenTask(RequestBody, frozen=True):
    """On which intent a task is opened, or what it is to be allowed by hand: each `ACTION[@AUDIENCE]`, or an entry.

    `attested` says who checked the login that speaks for the principal of an intent without a signature; caveats are
    as they stand in tokens.
    """

    intent: IntentFile | None = None
    attested: str | None = None
    allow: list[str | AllowedAction] = []  # noqa: RUF012 # msgspec gives each its own
    tenant: str | None = None
    expires: Time | None = None
    purpose: str | None = None
    caveats: list[Raw] = []  # noqa: RUF012 # msgspec gives each its own


class MintMore(RequestBody, frozen=True):
    """What a task is to be allowed besides."""

    allow: list[str | AllowedAction]
    expires: Time | None = None
    caveats: list[Raw] = []  # noqa: RUF012 # msgspec gives each its own


class EndTask(RequestBody, frozen=True):
    """How to end a task, or an intent with its tasks; a dry run only says what is known to die."""

    dry_run: bool = False


class Revoke(RequestBody, frozen=True):
    """What is to die, one thing of the four; `target` is the id of a node, capability, root or task."""

    target: str | None = None
    kid: str | None = None
    issued: Time | None = None
    where: dict[str, str] | None = None
    dry_run: bool = False


class LogQuery(RequestBody, frozen=True):
    """Which events: those after `since`; or, newest first, those before `before`, or the last ones."""

    since: Count = 0
    limit: Limit = PAGE
    newest: bool = False
    before: Count | None = None


class FindQuery(RequestBody, Query, frozen=True, kw_only=True):
    """Which decisions; with `after`, those after that position in order, else the `limit` newest."""

    since: Count = 0
    limit: Limit = PAGE
    after: Count | None = None


class GraphQuery(RequestBody, frozen=True):
    """Whose graph: one task's, or that of all."""

    task: Id | None = None


class CountersQuery(RequestBody, frozen=True):
    """Which counters: those of the ids that are named, or all."""

    id: tuple[Id, ...] = ()


class RequestsQuery(RequestBody, frozen=True):
    """Which requests: of one task or of all; with `pending`, those that wait for a person."""

    task: Id | None = None
    pending: bool = False


class GiveVerdict(RequestBody, frozen=True):
    """What a person answers to a request; `at` when they did, `signature` as capx.Verdict makes it."""

    yes: bool
    approver: Label
    at: Count
    signature: Text


class UnawareQuery(RequestBody, frozen=True):
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
        """An event in its form on the wire."""
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
        """A place in its form on the wire."""
        return cls(place.position, b64u(place.hash))

    def place(self) -> Place:
        """The place itself."""
        return Place(self.position, unb64u(self.hash))


class Epoch(Struct, frozen=True):
    """By what intents name an authority: the epoch of its store."""

    epoch: str


class Minted(Struct, frozen=True):
    """A bundle: a secret."""

    bundle: Bundle
