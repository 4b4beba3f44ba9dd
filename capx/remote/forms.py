"""What goes over the wire between `capx serve` and its clients, as JSON.

Laws: what is asked is read strictly: an unknown field, a missing one, another type, a name that stands twice is
refused. Bytes are base64url
without padding, a bundle is its text, an amount is decimal text. The facts of an event are the very JSON that its hash
covers.
"""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, structs

from capx import asking, strict
from capx.bundle import Bundle
from capx.capability import Capability
from capx.chain import b64u, unb64u
from capx.decision import sentence, whose
from capx.errors import InvalidRequest
from capx.intent import Intent, SignedIntent
from capx.log import Event, Place
from capx.spending import Spent
from capx.wire import MAX_BLOCKS
from capx_caveats import SAFE_INTEGER, Refusal, is_action, is_label
from capx_caveats import Literal as Scalars

T = TypeVar("T")

PAGE = 1_000
"""Events in one answer."""

MOST_DECISIONS = 1_000
"""Decisions in one report."""

# The last condition is that no line ends there, which `$` alone lets pass.
Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)")]
Nonce = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]$", min_length=11, max_length=11)]
"""The nonce of a hop: 8 bytes in base64url."""
Count = Annotated[int, Meta(ge=0, le=SAFE_INTEGER)]
Limit = Annotated[int, Meta(ge=1, le=PAGE)]
Time = Annotated[int, Meta(ge=0, le=SAFE_INTEGER)] | Annotated[str, Meta(max_length=40)]
"""Unix seconds, RFC 3339, or a duration such as `15m` from now."""
_Label = Annotated[str, Meta(min_length=1, max_length=128)]
_Text = Annotated[str, Meta(max_length=128)]


class _Asked(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    pass


class Granted(_Asked, frozen=True):
    """An entry in the form that it has in tokens, and the audience, if that is not the action's first label."""

    entry: Raw
    audience: str | None = None


class IntentDocument(Intent, frozen=True):
    """An intent, whose parameters are none unless it says so."""

    # A default that a JSON Schema can say.
    parameters: Mapping[str, Scalars] = {}


class IntentFile(_Asked, frozen=True):
    """An intent as its file holds it: signed, or without a signature where a login speaks for its principal."""

    intent: IntentDocument
    signature: str | UnsetType = UNSET

    @classmethod
    def of(cls, intent: Intent | SignedIntent) -> "IntentFile":
        """An intent as it goes over the wire."""
        meant, signature = (intent.intent, intent.signature) if isinstance(intent, SignedIntent) else (intent, UNSET)
        return cls(intent=IntentDocument(**structs.asdict(meant)), signature=signature)

    def meant(self) -> Intent | SignedIntent:
        """The intent itself."""
        intent = Intent(**structs.asdict(self.intent))
        return intent if self.signature is UNSET else SignedIntent(intent, self.signature)


class OpenTask(_Asked, frozen=True):
    """On which intent a task is opened, or what it is to be allowed by hand: each `ACTION[@AUDIENCE]`, or an entry.

    `attested` says who checked the login that speaks for the principal of an intent without a signature; caveats are
    as they stand in tokens.
    """

    intent: IntentFile | None = None
    attested: str | None = None
    allow: list[str | Granted] = []
    tenant: str | None = None
    expires: Time | None = None
    purpose: str | None = None
    caveats: list[Raw] = []


class MintMore(_Asked, frozen=True):
    """What a task is to be allowed besides."""

    allow: list[str | Granted]
    expires: Time | None = None
    caveats: list[Raw] = []


class EndTask(_Asked, frozen=True):
    """How to end a task, or an intent with its tasks; a dry run only says what is known to die."""

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
    node: str | None = None
    presentation: str | None = None
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


class RequestsQuery(_Asked, frozen=True):
    """Which requests: of one task or of all; with `pending`, those that wait for a person."""

    task: Id | None = None
    pending: bool = False


class GiveVerdict(_Asked, frozen=True):
    """What a person answers to a request; `at` when they did, `signature` as capx.asking.verdict makes it."""

    yes: bool
    approver: _Label
    at: Count
    signature: _Text


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


class Origin(Struct, frozen=True):
    """By what intents name an authority: the origin of its store."""

    origin: str


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


class RevokeBelow(_Asked, frozen=True):
    """The nonces of the hops that lead from the agent's own node to the one that is to die."""

    hops: Annotated[list[Nonce], Meta(min_length=1, max_length=MAX_BLOCKS)]


class AgentStatus(Struct, frozen=True):
    """How the task stands whose agent asked; times in Unix seconds."""

    task: str
    state: Literal["active", "completed", "withdrawn", "expired"]
    opened: int
    expires: int
    tenant: str | None
    purpose: str | None


class AskMore(_Asked, frozen=True):
    """What an agent asks for: one action at one audience, and the arguments that it is pinned to, if it is."""

    audience: str
    action: str
    args: dict[str, Any] | UnsetType = UNSET

    @classmethod
    def of(cls, ask: asking.Ask) -> "AskMore":
        """An ask as it goes over the wire."""
        return cls(audience=ask.audience, action=ask.action, args=UNSET if ask.args is None else dict(ask.args))

    def ask(self) -> asking.Ask:
        """The ask itself; InvalidRequest for what cannot be asked for."""
        return asking.Ask(audience=self.audience, action=self.action, args=None if self.args is UNSET else self.args)


class Reason(Struct, frozen=True):
    """One reason of a refusal, as problem details hold it: the sentence says whose restriction it is."""

    code: str
    sentence: str
    wanted: str = ""
    given: Any = UNSET
    hop: int | None = None
    hop_name: str | None = None

    @classmethod
    def of(cls, refusal: Refusal) -> "Reason":
        """A refusal as it goes over the wire."""
        return cls(refusal.code, sentence(refusal), refusal.wanted, refusal.given, refusal.hop, refusal.hop_name)

    def refusal(self) -> Refusal:
        """The refusal, whose restriction it is said once."""
        whole = self.sentence if self.hop is None else self.sentence.removeprefix(f"{whose(self.hop, self.hop_name)} ")
        return Refusal(self.code, whole, self.wanted, self.given, self.hop, self.hop_name)


class AskGranted(Struct, frozen=True, tag_field="answer", tag="granted"):
    """Yes; the capability is a secret."""

    capability: Capability


class AskPending(Struct, frozen=True, tag_field="answer", tag="pending"):
    """Not yet: one of the approvers has to answer the request, by `until` (Unix seconds)."""

    request: str
    until: int
    approvers: list[str]


class AskRefused(Struct, frozen=True, tag_field="answer", tag="refused"):
    """No, with every reason."""

    reasons: list[Reason]


Answered = AskGranted | AskPending | AskRefused
"""What became of an ask."""


def answered(answer: asking.Answer) -> Answered:
    """An answer as it goes over the wire."""
    if isinstance(answer, asking.Granted):
        return AskGranted(answer.capability)
    if isinstance(answer, asking.Pending):
        return AskPending(answer.request, answer.until, list(answer.approvers))
    return AskRefused(list(map(Reason.of, answer.reasons)))


class Reported(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One decision as a resource made it; what `Decision.body` gives."""

    id: Id
    at: Count
    outcome: Literal["allowed", "denied"]
    audience: str
    action: str | None
    task: Id | None
    tenant: _Label | None
    intent: _Text | None
    root: Id | None
    path: Annotated[list[_Text], Meta(max_length=256)]
    hops: Annotated[list[_Label], Meta(max_length=256)]
    ids: Annotated[list[_Text], Meta(max_length=256)]
    presentation: _Text | None
    spent: Annotated[list[Spent], Meta(max_length=64)]
    reasons: Annotated[list[dict[str, Any]], Meta(max_length=1_024)]

    def __post_init__(self) -> None:
        texts = (self.action is None or is_action(self.action), *map(is_label, self.hops))
        if not all((*texts, *map(_is_counted, self.spent), *map(_is_reason, self.reasons))):
            raise ValueError("this is no decision of a verifier")


class Reports(Struct, frozen=True, forbid_unknown_fields=True):
    """Decisions of one audience."""

    decisions: Annotated[list[Reported], Meta(max_length=MOST_DECISIONS)]


class Recorded(Struct, frozen=True):
    """How many decisions are in the log now, or were before."""

    decisions: int


class Sighted(Struct, frozen=True, forbid_unknown_fields=True):
    """How many deaths a follower knows; its name is its audience's, or begins with that and a slash."""

    follower: _Label
    deaths: Count


class Noted(Struct, frozen=True):
    """A follower whose sighting is kept."""

    follower: str


def encode(value: object) -> bytes:
    """A value of these forms, or one that they hold, as JSON."""
    return msgspec.json.encode(value, enc_hook=_encoded)


def read_asked(data: bytes, kind: type[T]) -> T:
    """A value of a form as `decode` gives it, of bytes in which no name stands twice within one object."""
    return strict.read(data, kind, _decoded)


def decode(data: bytes, kind: type[T]) -> T:
    """A value of a form; InvalidRequest says what is wrong with other bytes."""
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=_decoded)
    except strict.UNREADABLE as error:
        raise InvalidRequest(f"this is not the JSON that belongs here: {error}") from None


def _encoded(value: object) -> object:
    if isinstance(value, Bundle | Capability):
        return value.text
    if isinstance(value, MappingProxyType):
        return dict(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    raise TypeError(f"a {type(value).__name__} does not go over the wire")


def _decoded(kind: type, value: object) -> object:
    if kind is Bundle and isinstance(value, str):
        return Bundle.parse(value)
    if kind is Capability and isinstance(value, str):
        return Capability.parse(value)
    raise TypeError(f"a {kind.__name__} does not come over the wire")


def _is_counted(spent: Spent) -> bool:
    try:
        amounts = [Decimal(text) for text in (spent.cost, spent.spent, spent.limit) if len(text) <= 40]
    except InvalidOperation:
        return False
    return len(amounts) == 3 and all(amount.is_finite() for amount in amounts)


def _is_reason(reason: dict[str, Any]) -> bool:
    return isinstance(reason.get("code"), str) and isinstance(reason.get("sentence"), str)
