"""A query selects recorded decisions from the log.

Laws: only the fields that the query uses are decoded. Values are compared exactly: a label is a claim of the
delegator, so a label that only looks alike is another label.
"""

from contextlib import suppress
from typing import Annotated, Any, Final, Literal, TypedDict

import msgspec
from msgspec import Meta, Struct

from capx.crypto.base64url import b64u
from capx.crypto.canonical_json import canonical
from capx.crypto.instants import instant
from capx.errors import InvalidRequest
from capx.store.log import Event
from capx.tokens import chain
from capx_caveats import Entry, InvalidCaveat, is_id, is_label, is_pattern

Scalar = str | int | float | bool | None
"""The value of an argument that a decision shows in the clear."""
DEEPEST: Final = 256
"""The most nodes on a path. No token can hold more, so a longer path in a decision was made up."""


Nonce = Annotated[str, Meta(min_length=11, max_length=11)]
"""The nonce of a hop: 8 bytes in base64url."""
Nonces = Annotated[tuple[Nonce, ...], Meta(max_length=DEEPEST - 1)]
"""The nonces of a path. More of them, or longer ones, would let a resource make each reader compute for long."""


class Recorded(Struct, frozen=True, kw_only=True, gc=False):
    """The fields of a recorded decision that a query compares; a reader that needs more adds fields in a subclass.

    A resource wrote the decision, and may have written anything: read it with `Event.read_if`. One that is not of capx
    may write a path and no nonces.
    """

    outcome: str
    action: str | None = None
    task: str | None = None
    tenant: str | None = None
    hops: tuple[str, ...] = ()
    root: str | None = None
    path: tuple[str, ...] = ()
    nonces: Nonces | None = None
    presentation: str | None = None

    @property
    def is_claim(self) -> bool:
        """Whether nobody can check the path: the resource reported it without the nonces of its hops."""
        return self.nonces is None and bool(self.path)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes from the root to the agent that acted, base64url: computed, unless the path is a claim."""
        if self.is_claim or self.root is None:
            return self.path
        return tuple(map(b64u, chain.nodes(self.root, self.nonces or ())))


_NOTHING: Final = (None,) * 6


class Allowed(Struct, frozen=True):
    """What a decision says that allowed its call; it may be nonsense otherwise."""

    outcome: Literal["allowed"]


class WholeRecorded(Recorded, frozen=True, kw_only=True):
    """All fields that a query can compare."""

    reasons: tuple[dict[str, Any], ...] = ()
    shown_args: dict[str, Scalar] = {}

    @property
    def args(self) -> set[str]:
        """The arguments that it shows in the clear, as a query names them; without those that no query can name."""
        found = set[str]()
        for name, value in self.shown_args.items():
            # A resource may write a number beyond what JSON between systems can hold.
            with suppress(InvalidCaveat):
                found.add(f"{name}={canonical(value).decode()}")
        return found


class QueryFields(TypedDict, total=False):
    """The fields of a `Query`, as keyword arguments."""

    agent: str | None
    tenant: str | None
    action: str | None
    task: str | None
    node: str | None
    presentation: str | None
    denied: bool
    reasons: tuple[str, ...]
    args: tuple[str, ...]
    since: int


class Query(Struct, frozen=True, kw_only=True):
    """The conditions that a decision must meet, all of them; InvalidRequest for a value that no decision can have.

    `agent` is a label anywhere on the path to the agent that acted. `action` is an action, or a pattern such as
    `crm.*`. `since` is in Unix seconds. `node` is the id of the node that acted, or of one above it. `presentation` is
    the id of the presentation. `denied` leaves out the allowed decisions. `reasons` are codes: a denial matches if one
    of its reasons has one of them. `args` are arguments that it shows in the clear (`Verifier(record=…)`), each as the
    name, `=` and the canonical JSON of the value: `ticket="T-1"`.
    """

    agent: str | None = None
    tenant: str | None = None
    action: str | None = None
    task: str | None = None
    node: str | None = None
    presentation: str | None = None
    denied: bool = False
    reasons: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    since: int = 0

    def __post_init__(self) -> None:
        instant("since", self.since)
        for what, text, fits in (
            ("an agent's name", self.agent, is_label),
            ("a tenant", self.tenant, is_label),
            ("an action, or one followed by .*", self.action, is_pattern),
            ("a task id", self.task, is_id),
            ("the id of a node", self.node, is_id),
            ("the id of a presentation", self.presentation, is_id),
            *(("the code of a reason", code, is_label) for code in self.reasons),
            *(("an argument and its value", text, _is_argument) for text in self.args),
        ):
            if text is not None and not fits(text):
                raise InvalidRequest(f"{text!r:.80} is not {what}: no decision can match it")

    @property
    def wants_denials(self) -> bool:
        """Whether only decisions match whose outcome is not `allowed`."""
        return self.denied or bool(self.reasons)

    @property
    def is_any(self) -> bool:
        """Whether all decisions match, as far as their time allows: then none has to be read."""
        narrowed = (self.agent, self.tenant, self.action, self.task, self.node, self.presentation)
        return narrowed == _NOTHING and not (self.denied or self.reasons or self.args)

    def matches(self, event: Event) -> bool:
        """Whether the event recorded such a decision, or a decision that cannot be read."""
        if event.kind != "decision" or event.at < self.since:
            return False
        if self.is_any:
            return True
        # First, because most of a log is what was allowed.
        if self.wants_denials and event.read_if(Allowed) is not None:
            return False
        recorded = event.read_if(WholeRecorded if self.reasons or self.args else Recorded)
        # A decision that cannot be read matches every query: otherwise a resource could hide it by writing nonsense.
        return recorded is None or self._fits(recorded)

    def _fits(self, recorded: Recorded) -> bool:
        return (
            self.tenant in {None, recorded.tenant}
            and self.task in {None, recorded.task}
            and self.presentation in {None, recorded.presentation}
            and (self.node is None or self.node in recorded.nodes)
            and (self.agent is None or self.agent in recorded.hops)
            and (self.action is None or (recorded.action is not None and Entry(self.action).matches(recorded.action)))
            and (not isinstance(recorded, WholeRecorded) or self._fits_wholly(recorded))
        )

    def _fits_wholly(self, recorded: WholeRecorded) -> bool:
        has_reason = not self.reasons or any(reason.get("code") in self.reasons for reason in recorded.reasons)
        return has_reason and (not self.args or recorded.args.issuperset(self.args))


def _is_argument(text: str) -> bool:
    name, sign, value = text.partition("=")
    try:
        read = msgspec.json.decode(value, type=Scalar)
        return bool(sign) and is_label(name) and canonical(read).decode() == value
    except (msgspec.MsgspecError, UnicodeEncodeError, InvalidCaveat):
        return False


ANY_DECISION: Final = Query()
"""All recorded decisions."""
