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
others may read a part. A field is only ever added, and only as an optional one.
"""

from typing import ClassVar

import msgspec
from msgspec import Struct

from capx.store.log import Event
from capx.store.protocols import Writing
from capx_caveats import Budget


class Fact(Struct, frozen=True):
    """The body of an event of some kind."""

    kind: ClassVar[str]

    def write(self, transaction: Writing, *, at: int) -> Event:
        """The next event of the log says this; `at` in Unix seconds."""
        return transaction.append(self.kind, msgspec.json.encode(self), at=at)


class TaskOpened(Fact, frozen=True):
    """A task was opened: its root id and the node of that, its claims, and when it expires (Unix seconds)."""

    kind = "task_opened"
    task: str
    root: str
    node: str
    tenant: str | None
    purpose: str | None
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


class RequestApproved(Fact, frozen=True):
    """A person agreed; `signature` is over what they were shown (capx.Verdict)."""

    kind = "request_approved"
    request: str
    task: str
    approver: str
    signature: str


class RequestDenied(Fact, frozen=True):
    """A person said no; `signature` is over what they were shown (capx.Verdict)."""

    kind = "request_denied"
    request: str
    task: str
    approver: str
    signature: str


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


class TaskCompleted(Fact, frozen=True):
    """A task ended, its work done."""

    kind = "task_completed"
    task: str


class TaskWithdrawn(Fact, frozen=True):
    """A task ended, no longer wanted."""

    kind = "task_withdrawn"
    task: str


class TaskExpired(Fact, frozen=True):
    """A task ended, its time run out."""

    kind = "task_expired"
    task: str


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


class Restored(Fact, frozen=True):
    """A backup took the place of the store: all issued up to a second (Unix) is dead, and an epoch began.

    `backup` is the last position that came from the backup.
    """

    kind = "restored"
    issued: int
    epoch: str
    backup: int
