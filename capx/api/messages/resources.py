"""The reports of resources, and the answers to them."""

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from capx.api.messages.base import Count, Id, Label, Text
from capx.tokens.chain_text import BlockText, ChainText
from capx.tokens.discharge import MAX_DISCHARGES
from capx.tokens.lineage import MAX_BUDGETS
from capx.tokens.wire import MAX_BLOCKS, MAX_CREDENTIAL
from capx.verify.evidence import ApprovalText
from capx.verify.meter import Paid
from capx.verify.spending import Spent
from capx_caveats import Number, is_action, is_label

DecisionId = Annotated[str, Meta(pattern=r"^(d\.)?[A-Za-z0-9_-]{1,64}$(?!\n)")]
# 8 random bytes in base64url.
Nonce = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{11}$(?!\n)")]
PublicKey = Annotated[str, Meta(pattern=r"^ed25519:[A-Za-z0-9_-]{43}$(?!\n)")]
# 32 bytes in base64url.
Digest = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$(?!\n)")]
MOST_DECISIONS = 1_000
"""The most decisions in one report."""


class Reported(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One decision of a resource, as `Decision.body` gives it: what has no value is left out.

    A resource that is not of capx may give `path` instead of `nonces`, which nobody can check, and ids without `d.`.
    """

    id: DecisionId
    at: Count
    outcome: Literal["allowed", "denied"]
    audience: str
    action: str | None = None
    task: Id | None = None
    tenant: Label | None = None
    intent: Text | None = None
    root: Id | None = None
    path: Annotated[list[Id], Meta(max_length=256)] = []
    hops: Annotated[list[Label], Meta(max_length=255)] = []
    nonces: Annotated[list[Nonce], Meta(max_length=255)] = []
    key: PublicKey | None = None
    ids: Annotated[list[Text], Meta(max_length=MAX_BLOCKS + 1)] = []
    presentation: Text | None = None
    args_digest: Id | None = None
    shown_args: Annotated[dict[Label, str | Number | bool | None], Meta(max_length=64)] = {}
    args: Digest | None = None
    digest: Digest | None = None
    chain: ChainText | None = None
    presented: BlockText | None = None
    approvals: Annotated[list[ApprovalText], Meta(max_length=MAX_DISCHARGES)] = []
    spent: Annotated[list[Spent], Meta(max_length=64)] = []
    reasons: Annotated[list[dict[str, Any]], Meta(max_length=1_024)] = []

    def __post_init__(self) -> None:
        texts = (self.action is None or is_action(self.action), *map(is_label, self.hops))
        if not all((*texts, *map(_is_counted, self.spent), *map(_is_reason, self.reasons))):
            raise ValueError("this is not a decision of a verifier")
        if self.nonces and self.path:
            raise ValueError("its path follows from its root and its nonces: leave it out")
        if not self.path and len(self.nonces) != len(self.hops):
            raise ValueError("each of its hops needs a label and a nonce")
        if self.nonces and self.root is None:
            raise ValueError("its hops are below no root")


class Reports(Struct, frozen=True, forbid_unknown_fields=True):
    """A report: decisions of one audience."""

    decisions: Annotated[list[Reported], Meta(max_length=MOST_DECISIONS)]


class Recorded(Struct, frozen=True):
    """The number of reported decisions that are in the log, also those that were there before."""

    decisions: int


# 16 random bytes in base64url. The last condition refuses a line break at the end.
Admission = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{21}[AQgw]$(?!\n)")]


class Charge(Struct, frozen=True, forbid_unknown_fields=True):
    """What a call costs, in units of the budgets of the presentation that came with it (decimal text).

    `admission` is the id that the resource gave to this admission of the presentation: 16 random bytes.
    """

    presentation: Annotated[str, Meta(max_length=MAX_CREDENTIAL)]
    admission: Admission
    costs: Annotated[dict[Text, Text], Meta(min_length=1, max_length=MAX_BUDGETS)]


class Total(Struct, frozen=True):
    """What a counter holds now (decimal text)."""

    counter: str
    unit: str
    spent: str


class Charged(Struct, frozen=True):
    """The totals of the counters after the payment; `exhausted` has the indexes of those without room.

    If `exhausted` is not empty, nothing was spent, and the totals leave out what the presentation paid before.
    """

    totals: list[Total]
    exhausted: list[int]


class GiveBack(Struct, frozen=True, forbid_unknown_fields=True):
    """A call that was allowed had no effect. `decision` allowed it; `reason` says why it had none.

    `presentation` and `admission` are those with which it paid.
    """

    presentation: Annotated[str, Meta(max_length=MAX_CREDENTIAL)]
    admission: Admission
    decision: DecisionId
    reason: Label


class GaveBack(Struct, frozen=True):
    """What the presentation had paid into each counter, and has no more."""

    given: list[Paid]


class Sighted(Struct, frozen=True, forbid_unknown_fields=True):
    """The number of deaths that a follower knows. The follower is named `AUDIENCE` or `AUDIENCE/…`."""

    follower: Label
    deaths: Count


class Noted(Struct, frozen=True):
    """The follower whose report was kept."""

    follower: str


def _is_counted(spent: Spent) -> bool:
    # A resource may write anything here. The length is checked first, so that Decimal never reads a very long text.
    try:
        amounts = [Decimal(text) for text in (spent.cost, spent.total, spent.limit) if len(text) <= 40]
    except InvalidOperation:
        return False
    return len(amounts) == 3 and all(amount.is_finite() for amount in amounts)


def _is_reason(reason: dict[str, Any]) -> bool:
    return isinstance(reason.get("code"), str) and isinstance(reason.get("sentence"), str)
