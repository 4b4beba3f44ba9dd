"""The bodies, queries and answers of the requests of people. Their docstrings are part of the OpenAPI document.

Law: people get no position of the log, which would tell how much happens at the authority.
"""

from typing import Annotated, Final

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from capx.api.messages.base import Count, Id, Label, RequestBody, Text
from capx.authority.remote.messages import Digest, IntentDocument, IntentFile, Time
from capx.authority.requests.inquiry import Inquiry
from capx.store.records import RequestCounts, TaskRecord
from capx.tokens.bundle import Bundle

SHOWN: Final = 50
"""The items of a page, unless more are asked for."""
MOST: Final = 200
"""The most items of a page."""
Limit = Annotated[int, Meta(ge=1, le=MOST)]


class AuthorityNow(Struct, frozen=True):
    """The epoch of the store, by which intents name the authority, and the time here (Unix seconds)."""

    epoch: str
    now: int


class OpenOnIntent(RequestBody, frozen=True):
    """A task to open on a signed intent.

    `agent_key` is the public key of the first agent, and the key of the intent if that names one. With `seal_to`, a
    public key, the token comes sealed: only the owner of that key can read it.
    """

    intent: IntentFile
    expires: Time | None = None
    agent_key: Text | None = None
    seal_to: Text | None = None


class OpenedOnIntent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task that was opened; `expires` is in Unix seconds.

    `bundle` is for its first agent, and a secret; in its place there is a `sealed` text if it was to be sealed.
    """

    id: str
    root: str
    tenant: str | None
    purpose: str | None
    expires: int
    principal: str | None
    intent: str | None
    holder: str | None
    bundle: Bundle | UnsetType = UNSET
    sealed: str | UnsetType = UNSET


class OwnTasksQuery(RequestBody, frozen=True):
    """Selects the newest tasks of the person, also before the task `before`, or those on one intent (its digest)."""

    limit: Limit = SHOWN
    before: Id | None = None
    intent: Digest | None = None


class OwnTasks(Struct, frozen=True):
    """A page of tasks, the newest first. `next` is the `before` of the next page; null if there is none."""

    items: list[TaskRecord]
    next: str | None


class OwnDecisionsQuery(RequestBody, frozen=True):
    """Selects the newest decisions in a task, also those behind the page whose `next` is `before`."""

    limit: Limit = SHOWN
    before: Annotated[str, Meta(max_length=128)] | None = None


class OwnDecision(Struct, frozen=True):
    """A recorded decision: when it came into the log (Unix seconds), and its facts as the log has them."""

    at: int
    facts: Raw


class OwnDecisions(Struct, frozen=True):
    """A page of decisions, the newest first. `next` is the `before` of the next page; null if there is none."""

    items: list[OwnDecision]
    next: str | None


class RevokeInTask(RequestBody, frozen=True):
    """A node or a capability of the task, which is to be revoked with everything below it."""

    target: Id
    dry_run: bool = False


class WithdrawIntent(RequestBody, frozen=True):
    """The document of an intent of the person, opened or not: it opens no more tasks, and its tasks end."""

    intent: IntentDocument
    dry_run: bool = False


class InboxItem(Struct, frozen=True):
    """A request that waits: `labels` are those of the agent that asks, as others chose them; times in Unix seconds.

    `args` are the arguments that a grant would be pinned to. `mine` says that the person is asked, and `yours` that it
    is in a task on their intent. `for_call` says that the approval of one call is asked for.
    """

    id: str
    task: str
    purpose: str | None
    action: str
    audience: str
    args: str | None
    labels: tuple[str, ...]
    asked: int
    until: int
    mine: bool
    yours: bool
    for_call: bool


class Inbox(Struct, frozen=True):
    """The requests that wait for the person, or are about their work, the oldest first, at most 200.

    `more` is how many others there are.
    """

    items: list[InboxItem]
    more: int = 0


class ShownInquiry(Struct, frozen=True):
    """A request with its intent: what a person signs.

    `task` is its task. `counts` says how many requests the asker's node and the nodes above it have made.
    """

    inquiry: Inquiry
    task: TaskRecord
    counts: list[RequestCounts]


class OwnVerdict(RequestBody, frozen=True):
    """The answer of the person to a request, given `at` (Unix seconds). `capx.Verdict` makes the signature."""

    yes: bool
    at: Count
    signature: Text


class OwnPurpose(Struct, frozen=True):
    """A purpose that the person may have: for which tenants, with which parameters, and what it gives, in words."""

    name: str
    tenants: list[str] | None
    parameters: list[str]
    about: list[str]


class OwnPolicy(Struct, frozen=True):
    """What the person may sign intents for, and what the principal's name is here."""

    principal: Label
    purposes: list[OwnPurpose]
