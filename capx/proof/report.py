"""What a proof shows, worked out by its reader: every part says who vouches for it."""

from typing import Any, Final, Literal

from msgspec import Struct, field, to_builtins

from capx.proof.sources import CheckedSource

NOT_SHOWN: Final = (
    "that the arguments of a call were true, or that a call had the effect that it asked for",
    "that a service recorded the action and the arguments that the agent signed, where they were not compared",
    "that nothing was cut off behind the last signed hop of a chain: only who holds the audience's key can check that",
    "that limits were kept that depend on facts of a service: its attributes, its costs, the age of a presentation",
    "that a key was not revoked before the task was opened",
    "that nothing happened outside these logs",
    "times, beyond what cosignatures and the order of events show",
)
"""What no proof shows."""


class Findings(Struct):
    """What a reading has found so far, in sentences.

    `signed` is what signatures show, `words` whose word the rest is, `would_show_more` what would add a voucher, `gaps`
    what is not there and could hide something, `contradictions` what cannot be true together.
    """

    signed: list[str] = field(default_factory=list[str])
    words: list[str] = field(default_factory=list[str])
    would_show_more: list[str] = field(default_factory=list[str])
    gaps: list[str] = field(default_factory=list[str])
    contradictions: list[str] = field(default_factory=list[str])


class ProvenIntent(Struct, frozen=True):
    """Whose intent the task was opened on, what it says, and who vouches for it: a signature, or the authority's word.

    `authority` is the epoch of the authority that it is for. Times are in Unix seconds.
    """

    principal: str
    statement: str
    parameters: dict[str, Any]
    vouched: str
    is_signed: bool
    purpose: str
    tenant: str | None
    agent: str | None
    agent_key: str | None
    authority: str
    issued: int
    not_after: int


class Granted(Struct, frozen=True):
    """A capability that was minted in the task: what its chain allows, in words, and when it expires (Unix seconds).

    If an agent asked for it at run time, `asked_by` has its labels.
    """

    position: int
    at: int
    audience: str
    allow: tuple[str, ...]
    expires: int
    digest: str | None
    asked_by: tuple[str, ...] = ()
    request: str | None = None


class RefusedAsk(Struct, frozen=True):
    """An agent asked for more, and the authority refused at once; `reasons` are codes."""

    position: int
    at: int
    agents: tuple[str, ...]
    action: str
    audience: str
    reasons: tuple[str, ...]


class Answered(Struct, frozen=True):
    """The answer of a person to a request; `is_signed` if the signature over what they were shown is in the proof.

    `at` is when the log has it, `signed_at` the time that the person has signed. `agents` are the labels of who asked,
    `args` the arguments as JSON text (None: any).
    """

    request: str
    approver: str
    yes: bool
    at: int
    is_signed: bool
    signed_at: int | None = None
    action: str | None = None
    audience: str | None = None
    agents: tuple[str, ...] = ()
    args: str | None = None

    @property
    def about(self) -> str:
        """What was asked for, in words."""
        what = f"{self.action} at {self.audience}" if self.action else f"request {self.request}"
        return what if self.args is None else f"{what} with {self.args}"


class CallApproved(Struct, frozen=True):
    """An approval that came with a call: who signed it, by name if the trust file has the key.

    `of` says in words what it permits, `calls` for how many calls it is good (decimal text; None if it says no number),
    and `ends` when it expires. `is_shown`: the proof has what the signers were shown. `faults` say why it does not
    count for this call; then nobody has approved the call.
    """

    digest: str
    signers: tuple[str, ...]
    calls: str | None
    is_shown: bool
    of: tuple[str, ...]
    ends: int
    faults: tuple[str, ...] = ()


class Decided(Struct, frozen=True):
    """One decision; `logs` are those that have it.

    `agent_signed`: the holder's key has signed this presentation of this chain. `compared`: and the disclosed arguments
    and the action are those that it signed, but for the arguments `filled`, which the service has filled in. `stated`:
    the authority judged in the stead of the audience, for a statement. `node` is None if nobody proved to hold a token.
    """

    id: str
    at: int
    outcome: str
    audience: str
    action: str | None
    agents: tuple[str, ...]
    node: str | None
    key: str | None
    reasons: tuple[str, ...]
    logs: tuple[str, ...]
    position: int
    agent_signed: bool
    compared: bool = False
    stated: bool = False
    approvals: tuple[CallApproved, ...] = ()
    args: dict[str, Any] | None = None
    filled: tuple[str, ...] = ()
    shown_args: dict[str, Any] | None = None


class ProvenNode(Struct, frozen=True):
    """A node of the execution graph: the agent's label, the node above it, its key, and its decisions.

    `may` says what the chains that ended at it allowed, before they ended.
    """

    id: str
    label: str
    above: str | None
    key: str | None
    allowed: int
    denied: int
    may: tuple[str, ...] = ()


class ProvenEnd(Struct, frozen=True):
    """What ended authority: the task, or a part of it; in words."""

    position: int
    at: int
    what: str


class Report(Struct, frozen=True):
    """What a proof shows. `signed` and `words` say in sentences what signatures show, and what is somebody's word.

    `gaps` are parts that the proof lacks and behind which something could hide: with one, the proof is incomplete. It
    accuses nobody. `would_show_more` are parts that would add a voucher; without them the result is the same.
    `contradictions` are sentences, too: if there is one, somebody has not told the truth. `receipts` says of each
    receipt whether it fits. `intent_digest` is what the log has of the intent; `intent` is None if the task was opened
    by hand, or if the proof lacks the document.
    """

    task: str
    tenant: str | None
    purpose: str | None
    opened: int
    expires: int
    root: str
    holder: str | None
    policy: str | None
    intent: ProvenIntent | None
    intent_digest: str | None
    sources: tuple[CheckedSource, ...]
    granted: tuple[Granted, ...]
    refused: tuple[RefusedAsk, ...]
    nodes: tuple[ProvenNode, ...]
    decisions: tuple[Decided, ...]
    answers: tuple[Answered, ...]
    ended: tuple[ProvenEnd, ...]
    signed: tuple[str, ...]
    words: tuple[str, ...]
    would_show_more: tuple[str, ...]
    gaps: tuple[str, ...]
    receipts: tuple[str, ...]
    contradictions: tuple[str, ...]
    not_shown: tuple[str, ...] = NOT_SHOWN

    @property
    def result(self) -> Literal["consistent", "incomplete", "contradicted"]:
        """Whether all fits together and nothing could hide; a proof that was altered has no report."""
        if self.contradictions:
            return "contradicted"
        return "incomplete" if self.gaps else "consistent"

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values; sources without their events."""
        found: dict[str, Any] = to_builtins(
            {name: getattr(self, name) for name in self.__struct_fields__ if name != "sources"}
        )
        sources = [
            {
                "origin": one.origin,
                "role": "authority" if one.is_authority else "resource",
                "size": one.size,
                "at": one.at,
                "events": len(one.events),
                "signed_by": list(one.signed_by),
                "witnesses": [{"name": each.name, "at": each.at} for each in one.witnesses],
            }
            for one in self.sources
        ]
        return {"result": self.result, **found, "sources": sources}
