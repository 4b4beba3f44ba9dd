"""The rows that a store takes and returns, and the errors that distinguish a damaged store from a missing one."""

from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from capx.crypto.base64url import b64u
from capx.crypto.hashing import digest
from capx.errors import StoreProblem
from capx.store.lifecycle import FIRST, Lapse, State
from capx.store.log import Event, Place
from capx.tokens.approval_caveat import ApprovalTerms
from capx.tokens.revocation_key import RevocationKey
from capx.verify.evidence import ApprovalText

T = TypeVar("T")

KEPT_BEYOND_TTL = 3_600
"""Seconds for which a death is kept after everything that it covers has expired."""


class Death(Struct, frozen=True, gc=False):
    """One entry in the list of revocations: the key that is dead, and why.

    `seq` counts deaths from 1, `at` is in Unix seconds, and `position` is that of the event that caused it.
    """

    seq: int
    key: RevocationKey
    reason: str
    at: int
    position: int


REPLACED = ".replaced"
"""The suffix of the epoch of a store that another one has replaced: nobody may use the old one any more."""


class Unwritable(StoreProblem):
    """The store can never hold this value: it is too big, or has a wrong form. To try again does not help."""


class Busy(StoreProblem):
    """Another transaction held the store for longer than this one could wait."""


class NoStore(StoreProblem):
    """There is nothing at this place, or what is there is not a capx store."""


class Damaged(StoreProblem):
    """This is a store, but its content is not what capx writes."""


class Head(Struct, frozen=True):
    """The state of a store in one row: its epoch, its last event, how many deaths it had, and how many it forgot.

    An epoch is `AUTHORITY.SECONDS`. The id of the authority is chosen at random when the store is created. The seconds
    (Unix) say when this epoch began.
    """

    epoch: str
    position: int
    hash: bytes
    deaths: int
    forgotten: int = 0

    @property
    def place(self) -> Place:
        """The place of the last event in the log."""
        return Place(self.position, self.hash)


class TaskRecord(Struct, frozen=True):
    """A task as it was opened, and the time and position of its end, once it has ended. Times are in Unix seconds.

    `principal` is the person who wanted it, and `intent` the digest of their intent. Both are None if the task was
    opened by hand. `holder` is the public key of its first agent (`ed25519:` and 43 characters), if it names one.
    """

    id: str
    root: str
    opened: int
    expires: int
    tenant: str | None = None
    purpose: str | None = None
    state: State = FIRST
    ended: int | None = None
    position: int | None = None
    principal: str | None = None
    intent: str | None = None
    holder: str | None = None


ATTESTED: Final = "attested: "
"""The prefix of the proof of an attested intent; the attester's name follows. Other intents have a signature."""


class IntentRecord(Struct, frozen=True):
    """An intent, by its digest: how many tasks were opened on it, and when it was withdrawn, if it was (Unix seconds).

    `document` is its canonical JSON, `proof` the signature, or ATTESTED and a name. These two and `principal` are None
    if the intent was withdrawn before anybody opened it.
    """

    digest: str
    principal: str | None = None
    document: str | None = None
    proof: str | None = None
    opened: int = 0
    withdrawn: int | None = None


RequestState = Literal["pending", "approved", "granted", "denied", "expired", "ended"]
"""The state of a request; an `approved` one becomes `granted` when its agent asks again. No store keeps `ended`."""


class RequestRecord(Struct, frozen=True, kw_only=True):
    """A request of an agent at run time, and its outcome; times in Unix seconds, ids in base64url.

    `principal` is the person on whose intent its task runs. `ids`, `kid` and `issued` are those of the token that
    asked, `path` and `labels` its nodes and their labels. `keys`
    are the public keys of its holders, from first to last; empty for a bearer token. `args`
    are the arguments that the grant is pinned to, as canonical JSON, or None if it is pinned to none. `all_args` are
    all arguments of the ask, if the policy lists those to pin. `asked` is the time of the last ask, and somebody has to
    answer before `until`. `block` is the JSON of the first block that the grant has, or would have. `excluded` are the
    approvers who could not consent when it was asked. `answered` is the time of the answer, and `signed` the time that
    its `signature` covers.

    Once it was granted, `minted_under`, `nonce` and `minted` are the kid, nonce and time of the grant's identifier, so
    that the grant can be minted again. `capability` is the first id of the grant. `earlier` are its other ids, by which
    it can be revoked too, and the ids of earlier grants. `round` counts the grants. When the uses of one are used
    up and its agent asks again, the next round begins.

    `approval` says whose approval each call of the grant needs, if the policy demands one, and `demand` is the cid of
    that demand, once it was granted. `carried` are the cids of the demands that the grant gets from its asker.

    A request for the approval of one call has the document that people are shown, as canonical JSON, as `to_approve`,
    and as `discharge` what they have signed so far. Its `block` is what its asker's token says, and nothing is minted.

    `ended` is since when it is `expired`, or, as it is shown, `ended`. `lapse` says why it is `expired`.
    """

    id: str
    task: str
    audience: str
    action: str
    args: str | None
    ids: tuple[str, ...]
    kid: str
    issued: int
    path: Annotated[tuple[str, ...], Meta(min_length=1)]
    labels: tuple[str, ...]
    # The first block that the granted capability has, or would have.
    block: str
    principal: str
    # When the agent last asked, and until when a person may answer.
    asked: int
    until: int
    state: RequestState = "pending"
    approvers: tuple[str, ...] = ()
    # Approvers who could not consent when the agent asked.
    excluded: tuple[str, ...] = ()
    approver: str | None = None
    answered: int | None = None
    signed: int | None = None
    signature: str | None = None
    # The identifier of the granted capability. If the answer got lost, the authority makes the same capability again.
    minted_under: str | None = None
    nonce: str | None = None
    minted: int | None = None
    # All ids by which the grant can be revoked: those of this capability, and of what was granted before.
    capability: str | None = None
    earlier: tuple[str, ...] = ()
    round: Annotated[int, Meta(ge=1, lt=2**31)] = 1
    all_args: str | None = None
    # The public keys of the holders of the token that asked: `ed25519:` and 43 characters each.
    keys: tuple[str, ...] = ()
    approval: ApprovalTerms | None = None
    demand: str | None = None
    carried: tuple[str, ...] = ()
    to_approve: str | None = None
    discharge: str | None = None
    ended: int | None = None
    lapse: Lapse | None = None

    @property
    def cid(self) -> str | None:
        """The demand that is to be discharged; None for a request for a grant."""
        return None if self.to_approve is None else msgspec.json.decode(self.to_approve, type=_Document).cid

    @property
    def node(self) -> str:
        """The node that asked."""
        return self.path[-1]

    @property
    def call(self) -> str:
        """Which calls it is for: the requests that may be for the same as an ask are found by this."""
        some, for_approval = self.all_args is not None, self.to_approve is not None
        return call_of(self.audience, self.action, self.args, pins_some=some, for_approval=for_approval)

    @property
    def asks(self) -> str:
        """Whom it asks, as 16 bytes in base64url: the same for all requests that have the same approvers."""
        return b64u(digest(b"capx/1/asks", *map(str.encode, self.approvers))[:16])

    @property
    def granted(self) -> tuple[str, ...]:
        """The ids of everything granted on this request; if one of them is dead, the grant was revoked."""
        return self.earlier if self.capability is None else (*self.earlier, self.capability)

    @classmethod
    def parse(cls, text: str) -> "RequestRecord":
        """Read a request from the text that the store kept; Damaged for any other text."""
        return _parsed(text, cls, "a request")

    def text(self) -> str:
        """The request as the store keeps it: JSON."""
        return msgspec.json.encode(self).decode()


class SignedAnswer(Struct, frozen=True, kw_only=True):
    """An answer that a person has signed, and what they were shown: a row that is never changed, and never forgotten.

    `position` is that of its event in the log, and `at` the time of that event. `signed` is the time that a verdict
    covers, or when the approval was asked for (Unix seconds). `round` is the round of the request, `node` and `labels`
    the agent that asked. `shown` is the canonical JSON of what the person was shown: of an inquiry all that its digest
    covers, or the document of the request for an approval.

    A verdict has a `signature`. A signature below an approval has `approval`, the id of the approval, and
    `approval_text`, its blocks up to this signature. Its MAC is left out, so nobody can present it.
    """

    position: int
    task: str
    request: str
    round: int
    node: str
    labels: tuple[str, ...]
    approver: str
    yes: bool
    at: int
    signed: int
    shown: str
    signature: str | None = None
    approval: str | None = None
    approval_text: ApprovalText | None = None

    @classmethod
    def of(cls, request: RequestRecord, event: Event, approver: str, shown: str, *, yes: bool) -> "SignedAnswer":
        """The answer in this event to a request, without what was signed."""
        return cls(
            position=event.position,
            task=request.task,
            request=request.id,
            round=request.round,
            node=request.node,
            labels=request.labels,
            approver=approver,
            yes=yes,
            at=event.at,
            signed=event.at,
            shown=shown,
        )

    @classmethod
    def parse(cls, text: str) -> "SignedAnswer":
        """Read an answer from the text that the store kept; Damaged for any other text."""
        return _parsed(text, cls, "an answer")

    def text(self) -> str:
        """The answer as the store keeps it: JSON."""
        return msgspec.json.encode(self).decode()


class AskedArguments(Struct, frozen=True):
    """The arguments of the call that asked, as canonical JSON, and the salt of the commitment to them (32 bytes).

    `position` is that of the event to which the ask led, whose evidence has the commitment.
    """

    position: int
    task: str
    salt: bytes
    args: str


def _parsed(text: str, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    # RecursionError: a damaged row may hold JSON that is nested too deep.
    except (msgspec.MsgspecError, RecursionError):
        raise Damaged(f"the store holds {what} that capx did not write: restore it from a backup") from None


class _Document(Struct, frozen=True):
    cid: str


def call_of(audience: str, action: str, args: str | None, *, pins_some: bool, for_approval: bool = False) -> str:
    """The calls that a request is for, as 16 bytes in base64url.

    These are the call with these arguments (canonical JSON), or calls with any arguments if there are none. Those of
    requests that pin only some of their arguments are told apart by audience and action alone. A request for an
    approval is for none of these calls, and for the same one whatever demand it is to answer.
    """
    if for_approval:
        parts = audience.encode(), action.encode(), (args or "").encode()
        return b64u(digest(b"capx/1/approved-call", *parts)[:16])
    how = b"some" if pins_some else b"any" if args is None else b"=" + args.encode()
    return b64u(digest(b"capx/1/call", audience.encode(), action.encode(), how)[:16])


class CheckpointRecord(Struct, frozen=True):
    """A checkpoint of the log: the number of its events, when it was signed (Unix seconds), and the signed note."""

    size: int
    at: int
    note: str


class GrantRecord(Struct, frozen=True):
    """A run-time grant, and the token that asked for it: if that token is revoked, so is the grant.

    `capability` is the first id of the granted capability, `at` the time of the grant. `ids`, `kid` and `issued` are
    those of the token that asked: first its own ids, then the ids of the keys that it named. Ids are 16 bytes, times
    are in Unix seconds.
    """

    capability: bytes
    ids: tuple[bytes, ...]
    kid: str
    issued: int
    at: int


class WaitingGroup(Struct, frozen=True):
    """The `count` requests of one principal that wait for the same people: `asks` is that of `RequestRecord`.

    A request that comes, waits anew or ends adds to `changes`: equal groups are made of the same requests.
    """

    principal: str
    asks: str
    approvers: tuple[str, ...]
    count: int
    changes: int


class RequestCounts(Struct, frozen=True):
    """How many requests count at one node, and how many of these are for one audience."""

    of_all: int = 0
    of_audience: int = 0


# Not a name that a caveat can hold, so no token can spend from this counter or raise it.
REVOCATIONS: Final = "-"
"""The unit in which the counter of a node counts revocations by its agent; no budget can have this unit."""
OF_ONE_TASK: Final = 22
"""Characters in the name of a counter of one task, such as a node in base64url; it is forgotten after its task."""
PAID_ELSEWHERE: Final = "this presentation was paid for before, by another process of the service"
"""Why a presentation pays nothing: another admission of it has paid."""
GIVEN_BACK: Final = "this presentation gave back what it had paid, so it is used up: make a new one"
"""Why a presentation pays nothing more."""
NOTHING_PAID: Final = "this presentation has paid nothing here that it could give back"
"""Why a presentation gives nothing back: this audience and admission have not paid with it."""


class Counter(Struct, frozen=True):
    """One counter, and when it was last spent from, in Unix seconds."""

    counter: str
    unit: str
    spent: Decimal
    last: int


class FollowerAck(Struct, frozen=True):
    """How many deaths a follower has reported that it knows, and when it reported that, in Unix seconds."""

    follower: str
    deaths: int
    at: int


class HookCursor(Struct, frozen=True):
    """Up to which event of the log a hook was told: the position of that event, in this epoch and in no other."""

    name: str
    epoch: str
    position: int


class Pruned(Struct, frozen=True):
    """How many rows were forgotten: deaths, counters and requests that no live token needs, and old sightings."""

    deaths: int
    counters: int
    sightings: int
    requests: int = 0


class Standbys(Struct, frozen=True):
    """For how many standbys each commit waits, and how many are listed for it; None if any standby counts."""

    waited_for: int
    listed: int | None

    @property
    def sentence(self) -> str:
        """What that means, for people."""
        if self.waited_for == 0:
            return "no commit waits for a standby: with its machine, the last answered acts are lost"
        if self.listed is not None and self.waited_for > self.listed:
            return f"each commit waits for {self.waited_for} standbys, and {self.listed} are listed: none can end"
        if self.waited_for == self.listed:
            return f"each commit waits for {self.waited_for} of {self.listed} standbys"
        count = "any number of" if self.listed is None else self.listed
        return (
            f"each commit waits for {self.waited_for} of {count} standbys: if the primary is cut off together with one "
            "of them, only the manager of the database can stop it"
        )


class Burn(Struct, frozen=True):
    """Whether a presentation's id was new, and whether the store still had the earlier id that the caller named."""

    new: bool
    remembered: bool = True


class DecisionRecord(Struct, frozen=True):
    """A decision to write to the log: its id, when it was made (Unix seconds), and its body, a JSON object."""

    id: str
    at: int
    body: bytes


class News(Struct, frozen=True):
    """What is new for a follower: the head, and the reason of each death since the head that it knew, in order.

    `anew`: these are all deaths that there are, and they replace what the follower knew. The first `lasting` of them
    are never forgotten, and have a number up to `head.forgotten`. `at` is when the authority wrote this, in Unix
    seconds by its own clock; None if it was read from the store itself. `confirmation_age` gives the seconds since the
    server confirmed a write of this process; None if a look at the store is its own proof.
    """

    head: Head
    deaths: dict[RevocationKey, str]
    anew: bool = False
    lasting: int = 0
    at: float | None = None
    confirmation_age: Callable[[], float] | None = None
