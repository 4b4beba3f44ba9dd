"""The events of the log and their fields, except decisions, which resources write (capx.verify.decision).

    task_opened          a task was opened, with these claims
    capability_minted    a capability of it was minted: its ids, never the token
    request_made         an agent asked for more, and a person has to answer
    request_approved, request_denied, request_expired
    ask_refused          an agent asked for more, and the ask was refused at once
    given_back           a call that was allowed had no effect, and gave back what it had spent
    intent_withdrawn     an intent can open no task any more
    task_completed, task_withdrawn, task_expired
    revoked              a revocation: of a node, a capability, an agent's key, a root key, or all up to an instant
    restored             a backup replaced the store
    log_archived         decisions left the store for a file of an archive

Laws:

- An event holds ids and facts, never a secret.
- Only the authority writes these events, and it reads all their fields. Other readers may read some of the fields. The
  store itself writes `given_back`, in the transaction that changes the counters; two of its fields are a resource's.
- If a person asked for an event over the network, it says who: `by`, or `person` in `revoked`, whose `by` is a node. No
  other event has this member, not even as null.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import ClassVar, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from capx.crypto.base64url import b64u, unb64u
from capx.errors import KeyProblem, MalformedToken
from capx.store.lifecycle import Lapse
from capx.store.log import Event
from capx.store.protocols import Reading, Writing
from capx.tokens.capability import Capability
from capx.tokens.chain_text import ChainText
from capx.tokens.revocation_key import RevocationKey, of_instant, of_kid, of_public
from capx.verify.evidence import AskEvidence
from capx.verify.meter import Paid
from capx_caveats import Budget


class Fact(Struct, frozen=True):
    """The body of an event; each subclass is one kind."""

    kind: ClassVar[str]

    def write(self, transaction: Writing, *, at: int) -> Event:
        """Write this as the next event of the log; `at` is in Unix seconds."""
        return transaction.append(self.kind, msgspec.json.encode(self), at=at)


class By(Struct, frozen=True):
    """The person who asked for something: the principal, and the public key that proved it (`ed25519:` and more)."""

    principal: str
    key: str


class TaskOpened(Fact, frozen=True, kw_only=True):
    """A task was opened: its root id, the node of its root, its claims, and when it expires (Unix seconds).

    `holder` is the public key of its first holder (`ed25519:` and 43 characters), if it has one. `attested` is the name
    of who attested the intent, if the principal has not signed it.
    """

    kind = "task_opened"
    task: str
    root: str
    node: str | None = None
    tenant: str | None = None
    purpose: str | None = None
    expires: int
    principal: str | None = None
    intent: str | None = None
    agent: str | None = None
    policy: str | None = None
    holder: str | None = None
    attested: str | None = None
    # Not None: this event writes each None as null.
    by: By | UnsetType = UNSET


class BudgetLimit(Struct, frozen=True):
    """A budget of a minted capability: its counter must stay within the limit (decimal text)."""

    counter: str
    unit: str
    limit: str

    @classmethod
    def of(cls, budget: Budget) -> "BudgetLimit":
        """The limit of a budget caveat, which names its counter."""
        return cls(str(budget.counter), budget.unit, budget.limit)


class CapabilityMinted(Fact, frozen=True, omit_defaults=True):
    """A capability was minted: its kid, its ids, what it allows in words, its expiry (Unix seconds) and its budgets.

    If it was granted on a request, the event also names the request and its round, the digest of the policy, the path
    of nodes to the agent that holds it, their labels (`hops`), and the ids of the token that asked (`asker`). `ask` is
    the evidence of who asked, and `consent` says that people had to agree. `digest` is d of its last block (32 bytes),
    and `chain` its public bytes, from which all ids follow.
    """

    kind = "capability_minted"
    task: str
    audience: str
    kid: str
    ids: tuple[str, ...]
    allow: tuple[str, ...]
    expires: int
    budgets: tuple[BudgetLimit, ...] = ()
    request: str | None = None
    round: int | None = None
    policy: str | None = None
    path: tuple[str, ...] = ()
    hops: tuple[str, ...] = ()
    asker: tuple[str, ...] = ()
    digest: str | None = None
    chain: ChainText | None = None
    ask: AskEvidence | None = None
    consent: bool = False

    @classmethod
    def of(cls, task: str, capability: Capability, *, allow: tuple[str, ...], expires: int) -> "CapabilityMinted":
        """The event for a capability that was minted with its task, not on a request."""
        # The authority wrote the first block. Later blocks may come from anybody, and can only add limits.
        first = capability.caveats[0]
        return cls(
            task=task,
            audience=capability.audience,
            kid=capability.kid,
            ids=tuple(map(b64u, capability.ids)),
            allow=allow,
            expires=expires,
            budgets=tuple(BudgetLimit.of(caveat) for caveat in first if isinstance(caveat, Budget)),
            digest=b64u(capability.digest),
            chain=capability.chain_text,
        )


class RequestMade(Fact, frozen=True, omit_defaults=True):
    """An agent asked for more, and a person has to answer by `until` (Unix seconds); `round` is that of the request.

    With `call`, it asked people to approve one call. `pinned` says that the request is for certain arguments. The
    arguments themselves are kept with the request and not in the log, because they belong to the task. `ask` is the
    evidence of who asked.
    """

    kind = "request_made"
    request: str
    task: str
    path: tuple[str, ...]
    hops: tuple[str, ...]
    audience: str
    action: str
    until: int
    approvers: tuple[str, ...]
    round: int
    pinned: bool = False
    policy: str | None = None
    call: bool = False
    ask: AskEvidence | None = None


class RequestAnswered(Fact, frozen=True):
    """A person answered; `signature` covers what they saw (capx.Verdict)."""

    request: str
    task: str
    approver: str
    signature: str


class RequestApproved(RequestAnswered, frozen=True):
    """A person approved the request."""

    kind = "request_approved"


class RequestDenied(RequestAnswered, frozen=True):
    """A person denied the request."""

    kind = "request_denied"


class ApprovalSignature(Fact, frozen=True):
    """A person signed the approval of a call.

    `approval` is its id, by which it can be revoked, and `digest` is dd of the last block (32 bytes in base64url).
    """

    request: str
    task: str
    approver: str
    approval: str
    digest: str


class ApprovalSigned(ApprovalSignature, frozen=True):
    """A person signed, and others must sign the same approval."""

    kind = "approval_signed"


class ApprovalMade(ApprovalSignature, frozen=True):
    """The last person signed: the approval is complete."""

    kind = "approval_made"


class RequestExpired(Fact, frozen=True):
    """Nobody can answer a request any more; `because` says why."""

    kind = "request_expired"
    request: str
    task: str
    because: Lapse


class AskRefused(Fact, frozen=True):
    """An agent asked for more, and the ask was refused at once; `reasons` are codes of capx.verify.ask."""

    kind = "ask_refused"
    task: str
    path: tuple[str, ...]
    hops: tuple[str, ...]
    audience: str
    action: str
    reasons: tuple[str, ...]


class GivenBack(Fact, frozen=True):
    """A call that was allowed had no effect, and its audience gave back what its presentation had spent.

    `decision` and `reason` are claims of the resource. `presentation` is the id under which it had paid. `task` is None
    if the capability was not minted here.
    """

    kind = "given_back"
    task: str | None
    audience: str
    decision: str
    presentation: str
    given: tuple[Paid, ...]
    reason: str

    def is_of(self, audience: str, decision: str, presentation: str | None) -> bool:
        """Whether this is about a decision: several decisions may be about one presentation."""
        return self.audience == audience and (decision == self.decision or presentation == self.presentation)


class IntentWithdrawn(Fact, frozen=True, omit_defaults=True):
    """An intent was withdrawn: it can open no task any more."""

    kind = "intent_withdrawn"
    intent: str
    by: By | None = None


class TaskEnded(Fact, frozen=True):
    """A task ended."""

    task: str


class TaskCompleted(TaskEnded, frozen=True):
    """A task ended because its work is done."""

    kind = "task_completed"


class TaskWithdrawn(TaskEnded, frozen=True, omit_defaults=True):
    """A task ended because it is no longer wanted."""

    kind = "task_withdrawn"
    by: By | None = None


class TaskExpired(TaskEnded, frozen=True):
    """A task ended because its time ran out."""

    kind = "task_expired"


TASK_ENDS: Final[dict[str, type[TaskEnded]]] = {
    "completed": TaskCompleted,
    "withdrawn": TaskWithdrawn,
    "expired": TaskExpired,
}
"""The event for each final state of a task."""

REQUEST_STATES: Final[dict[str, str]] = {
    RequestMade.kind: "pending",
    RequestApproved.kind: "approved",
    RequestDenied.kind: "denied",
    RequestExpired.kind: "expired",
    ApprovalSigned.kind: "pending",
    ApprovalMade.kind: "granted",
    CapabilityMinted.kind: "granted",
}
"""The state in which the newest event about a request leaves it, by the kind of this event."""


class Revoked(Fact, frozen=True, omit_defaults=True, gc=False):
    """A revocation.

    It revokes an `id` (`is_root`: the root of a task) and `others` of the same task, everything of an agent's `key`
    (`ed25519:` and 43 characters), everything of a root key (`kid`), or everything issued up to a second (`issued`,
    Unix). `task` is the task of the ids, if it is known. `by` is the node whose agent asked for it, `person` the person
    who did. If `again`, the id of the `key` was dead before: this event causes no death, and says that it is that of a
    key.
    """

    kind = "revoked"
    id: str | None = None
    is_root: bool = False
    kid: str | None = None
    issued: int | None = None
    task: str | None = None
    by: str | None = None
    key: str | None = None
    again: bool = False
    others: tuple[str, ...] = ()
    person: By | None = None

    @property
    def revocation_key(self) -> RevocationKey | None:
        """The key of the first death that this event caused; None if the event holds no valid key."""
        if self.id is not None:
            return _id(self.id)
        if self.key is not None:
            with suppress(KeyProblem):
                return of_public(self.key)
            return None
        if self.kid is not None:
            return of_kid(self.kid)
        return None if self.issued is None else of_instant(self.issued)

    @property
    def revocation_keys(self) -> tuple[RevocationKey | None, ...]:
        """The keys of all deaths that this event caused, in their order; None for each that is not valid."""
        return (self.revocation_key, *map(_id, self.others))


def _id(text: str) -> bytes | None:
    # None and not an error: `check_store` reports the position of this event.
    with suppress(MalformedToken):
        return unb64u(text)
    return None


class Restored(Fact, frozen=True):
    """A backup replaced the store: everything issued up to a second (Unix) is dead, and a new epoch began.

    `backup` is the last position that came from the backup.
    """

    kind = "restored"
    issued: int
    epoch: str
    backup: int


class LogArchived(Fact, frozen=True, kw_only=True):
    """The events from `first` to `until` are in a file of the archive; the bodies of the decisions leave the store."""

    kind = "log_archived"
    first: int
    until: int
    file: str


FACTS: Final[tuple[type[Fact], ...]] = (
    *(TaskOpened, TaskCompleted, TaskWithdrawn, TaskExpired, IntentWithdrawn, CapabilityMinted),
    *(RequestMade, RequestApproved, RequestDenied, ApprovalSigned, ApprovalMade, RequestExpired, AskRefused),
    *(Revoked, GivenBack, Restored, LogArchived),
)
"""All events but decisions."""


def archived_until(reading: Reading) -> int:
    """The position up to which decisions are in an archive; 0 if there is none."""
    return max((event.read(LogArchived).until for event in reading.events(kind=LogArchived.kind)), default=0)


def revoked_agent_keys(reading: Reading) -> Iterator[str]:
    """The keys of agents that were revoked, in the order of the log: a death has only the id of a key."""
    for event in reading.events(kind=Revoked.kind):
        # To decode each revocation of a long log would take long, and few are of keys.
        if b"ed25519:" not in event.body:
            continue
        revoked = event.read_if(Revoked)
        if revoked is not None and revoked.key is not None and revoked.revocation_key is not None:
            yield revoked.key
