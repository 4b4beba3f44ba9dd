"""What each event of the log says, but for decisions: those are what resources write (capx.verify.decision).

    task_opened          a task and its claims
    capability_minted    one capability of it: ids, never the token
    request_made         an agent asked for more, and a person has to answer
    request_approved, request_denied, request_expired
    ask_refused          an agent asked for more, and was refused at once
    intent_withdrawn     an intent opens no task any more
    task_completed, task_withdrawn, task_expired
    revoked              a node or capability, all of a root key, or all that was issued up to an instant
    restored             a backup took the place of the store

Laws: an event says ids and facts, never a secret. The authority alone writes these, and reads them as it wrote them;
others may read a part. A field is only ever added, and only as an optional one; one that has a default may be missing
in what is read.
"""

from contextlib import suppress
from typing import ClassVar

import msgspec
from msgspec import Struct

from capx.crypto.base64url import b64u, unb64u
from capx.errors import MalformedToken
from capx.store.log import Event
from capx.store.protocols import Writing
from capx.tokens.capability import Capability
from capx.tokens.revocation_key import RevocationKey, of_instant, of_kid
from capx_caveats import Budget


class Fact(Struct, frozen=True):
    """The body of an event of some kind."""

    kind: ClassVar[str]

    def write(self, transaction: Writing, *, at: int) -> Event:
        """The next event of the log says this; `at` in Unix seconds."""
        return transaction.append(self.kind, msgspec.json.encode(self), at=at)


class TaskOpened(Fact, frozen=True, kw_only=True):
    """A task was opened: its root id and the node of that, its claims, and when it expires (Unix seconds)."""

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


class BudgetLimit(Struct, frozen=True):
    """A budget that a capability was minted with: what its counter holds stays within the limit (decimal text)."""

    counter: str
    unit: str
    limit: str

    @classmethod
    def of(cls, budget: Budget) -> "BudgetLimit":
        """What a capability says of a budget, whose counter it names."""
        return cls(str(budget.counter), budget.unit, budget.limit)


class CapabilityMinted(Fact, frozen=True, omit_defaults=True):
    """A capability was minted: its key, its ids, what it allows in words, its expiry (Unix seconds) and budgets.

    One that was granted on request says which it was, the digest of the policy, the path of nodes at whose end it is
    held and their labels, and the ids of the token that asked.
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
    policy: str | None = None
    path: tuple[str, ...] = ()
    hops: tuple[str, ...] = ()
    asker: tuple[str, ...] = ()

    @classmethod
    def of(cls, task: str, capability: Capability, *, allow: tuple[str, ...], expires: int) -> "CapabilityMinted":
        """What is said of a capability that was minted for a task, and not on request."""
        first = capability.caveats[0]
        return cls(
            task=task,
            audience=capability.audience,
            kid=capability.kid,
            ids=tuple(map(b64u, capability.ids)),
            allow=allow,
            expires=expires,
            budgets=tuple(BudgetLimit.of(caveat) for caveat in first if isinstance(caveat, Budget)),
        )


class RequestMade(Fact, frozen=True, omit_defaults=True):
    """An agent asked for more, and a person has to answer by `until` (Unix seconds); `pinned`: for certain arguments.

    The arguments themselves stay with the request: they are the task's, not the log's.
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
    pinned: bool = False
    policy: str | None = None


class RequestAnswered(Fact, frozen=True):
    """A person answered; `signature` is over what they were shown (capx.Verdict)."""

    request: str
    task: str
    approver: str
    signature: str


class RequestApproved(RequestAnswered, frozen=True):
    """A person agreed."""

    kind = "request_approved"


class RequestDenied(RequestAnswered, frozen=True):
    """A person said no."""

    kind = "request_denied"


class RequestExpired(Fact, frozen=True):
    """Nobody answered in time."""

    kind = "request_expired"
    request: str
    task: str


class AskRefused(Fact, frozen=True):
    """An agent asked for more, and was refused at once; `reasons` are codes of capx.verify.ask."""

    kind = "ask_refused"
    task: str
    path: tuple[str, ...]
    hops: tuple[str, ...]
    audience: str
    action: str
    reasons: tuple[str, ...]


class IntentWithdrawn(Fact, frozen=True):
    """An intent opens no task any more."""

    kind = "intent_withdrawn"
    intent: str


class TaskEnded(Fact, frozen=True):
    """A task ended."""

    task: str


class TaskCompleted(TaskEnded, frozen=True):
    """A task ended, its work done."""

    kind = "task_completed"


class TaskWithdrawn(TaskEnded, frozen=True):
    """A task ended, no longer wanted."""

    kind = "task_withdrawn"


class TaskExpired(TaskEnded, frozen=True):
    """A task ended, its time run out."""

    kind = "task_expired"


TASK_ENDS = {"completed": TaskCompleted, "withdrawn": TaskWithdrawn, "expired": TaskExpired}
"""What says how a task ended."""


class Revoked(Fact, frozen=True, omit_defaults=True):
    """Something died: an id (`is_root`: the root of a task), all of a kid, or all issued up to a second (Unix).

    `task` is the task that it is known to be of, `by` the node whose agent asked for it.
    """

    kind = "revoked"
    id: str | None = None
    is_root: bool = False
    kid: str | None = None
    issued: int | None = None
    task: str | None = None
    by: str | None = None

    @property
    def key(self) -> RevocationKey | None:
        """The key of the death that it caused; None if it says none that can be."""
        if self.id is not None:
            with suppress(MalformedToken):
                return unb64u(self.id)
            return None
        if self.kid is not None:
            return of_kid(self.kid)
        return None if self.issued is None else of_instant(self.issued)


class Restored(Fact, frozen=True):
    """A backup took the place of the store: all issued up to a second (Unix) is dead, and an epoch began.

    `backup` is the last position that came from the backup.
    """

    kind = "restored"
    issued: int
    epoch: str
    backup: int
