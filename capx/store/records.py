"""What a store gives and takes, row by row, and the errors that tell a damaged store from a missing one."""

from decimal import Decimal
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from capx.errors import StoreProblem
from capx.store.lifecycle import FIRST, State
from capx.store.log import Place
from capx.tokens.revocation_key import RevocationKey

KEPT_BEYOND_TTL = 3_600
"""Seconds for which a death is kept after all that it killed has expired."""


class Death(Struct, frozen=True):
    """One death; `seq` counts deaths from 1, `at` is in Unix seconds, `position` that of the event that caused it."""

    seq: int
    key: RevocationKey
    reason: str
    at: int
    position: int


REPLACED = ".replaced"
"""What stands behind the epoch of a store that nobody may go on with, for another one has its place."""


class Unwritable(StoreProblem):
    """What was to be written can never be: it is too big, or no value that the store can hold."""


class NoStore(StoreProblem):
    """There is nothing at this place, or nothing that is a store of capx."""


class Damaged(StoreProblem):
    """What is there is a store, and is not what capx writes."""


class Head(Struct, frozen=True):
    """Where a store stands: its epoch, its last event, how many deaths there were, and how many are forgotten.

    An epoch is `ORIGIN.SECONDS`: which store this was when it was created, and when this epoch of it began.
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
    """A task as it was opened and, once it has ended, when and at which position; times in Unix seconds.

    `principal` is who asked for it, `intent` the digest of what they asked for: both None of one opened by hand.
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


ATTESTED: Final = "attested: "
"""What stands before the name of who attested an intent, where another one has a signature."""


class IntentRecord(Struct, frozen=True):
    """An intent, by its digest: how many tasks were opened on it, and when it was withdrawn, if it was (Unix seconds).

    `document` is its canonical JSON, `proof` the signature, or ATTESTED and a name; they and `principal` are None of an
    intent that was withdrawn before anybody opened it.
    """

    digest: str
    principal: str | None = None
    document: str | None = None
    proof: str | None = None
    opened: int = 0
    withdrawn: int | None = None


RequestState = Literal["pending", "approved", "granted", "denied", "expired"]
"""The state of a request; one that is `approved` becomes `granted` when its asker asks again."""


class RequestRecord(Struct, frozen=True, kw_only=True):
    """What an agent asked for at run time, and what became of it; times in Unix seconds, ids in base64url.

    `ids`, `kid` and `issued` are those of the token that asked, `path` and `labels` its nodes and their labels. `args`
    is canonical JSON, None where the ask is not pinned. It was `asked` last then, and is to be answered by `until`.
    `block` is the JSON of the first block that the grant has, or would have. `excluded` are those of the approvers who
    could not consent when it was asked. `answered` is when the answer came, `signed` the time that its `signature` is
    over. `minted_under`, `nonce` and `minted` are the kid, nonce and time of its identifier, once it was granted, so
    that it can be made again; `capability` is its first id, and `earlier` are its others, by which it is revoked as
    well, and those of what was granted before.
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
    block: str
    asked: int
    until: int
    state: RequestState = "pending"
    approvers: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    approver: str | None = None
    answered: int | None = None
    signed: int | None = None
    signature: str | None = None
    minted_under: str | None = None
    nonce: str | None = None
    minted: int | None = None
    capability: str | None = None
    earlier: tuple[str, ...] = ()

    @property
    def node(self) -> str:
        """The node that asked."""
        return self.path[-1]

    @property
    def granted(self) -> tuple[str, ...]:
        """The ids of all that was granted to it: whichever of them dies, that was revoked."""
        return self.earlier if self.capability is None else (*self.earlier, self.capability)

    @classmethod
    def parse(cls, text: str) -> "RequestRecord":
        """The request that was kept as this text; Damaged for any other text."""
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, RecursionError):
            raise Damaged("a request of the store is none that capx wrote: restore it from a backup") from None

    def text(self) -> str:
        """It as it is kept: JSON."""
        return msgspec.json.encode(self).decode()


class GrantRecord(Struct, frozen=True):
    """On the strength of which token a capability was granted.

    `capability` is the first id of what was granted, `at` when; `ids`, `kid` and `issued` are those of the token that
    asked. Ids are 16 bytes, times Unix seconds.
    """

    capability: bytes
    ids: tuple[bytes, ...]
    kid: str
    issued: int
    at: int


class RequestCounts(Struct, frozen=True):
    """How many requests there are of one node, and of one task, and how many of these wait for a person."""

    of_node: int
    of_task: int
    waiting_of_node: int
    waiting_of_task: int


REVOCATIONS: Final = "-"
"""The unit, which no budget can have, in which the counter of a node counts what its agent has revoked."""


class Counter(Struct, frozen=True):
    """One counter, and when it was last spent from, in Unix seconds."""

    counter: str
    unit: str
    spent: Decimal
    last: int


class FollowerAck(Struct, frozen=True):
    """How many deaths a follower said it knows, and when it said so, in Unix seconds."""

    follower: str
    deaths: int
    at: int


class Pruned(Struct, frozen=True):
    """How much was forgotten: deaths and requests of what has expired long since, counters, and old sightings."""

    deaths: int
    counters: int
    sightings: int
    requests: int = 0


class Burn(Struct, frozen=True):
    """Whether a presentation's id was new, and whether the store still had the one it was asked about."""

    new: bool
    remembered: bool = True


class DecisionRecord(Struct, frozen=True):
    """A decision on its way into the log: its id, when it was made (Unix seconds), and its body, a JSON object."""

    id: str
    at: int
    body: bytes


class News(Struct, frozen=True):
    """What a follower had not seen: the head, and the reason of each death after the head it knew, in their order.

    `anew`: the deaths are all that there are, and replace what was known; the first `lasting` of them are those that
    are never forgotten, of before `head.forgotten`. `at` is when the authority said so, in Unix seconds by its own
    clock; None when it was read from the store itself.
    """

    head: Head
    deaths: dict[RevocationKey, str]
    anew: bool = False
    lasting: int = 0
    at: float | None = None
