"""What a proof shows, worked out by its reader: every part says who vouches for it."""

from typing import Any, Final

from msgspec import Struct, field

from capx.proof.sources import CheckedSource

NOT_CLAIMED: Final = (
    "that the arguments of a call were true, or that a call had the effect that it asked for",
    "that nothing happened outside these logs",
    "times, beyond what cosignatures and the order of events show",
    "for tokens that are bound to no key: who held them. Their chain is the word of whoever decided",
)
"""What no proof shows."""


class Findings(Struct):
    """What a reading has found so far, in sentences: what is signed, whose word the rest is, and what does not fit."""

    signed: list[str] = field(default_factory=list[str])
    words: list[str] = field(default_factory=list[str])
    contradictions: list[str] = field(default_factory=list[str])


class ProvenIntent(Struct, frozen=True):
    """Whose intent the task was opened on, and who vouches for it: a signature, or the word of the authority."""

    principal: str
    statement: str
    parameters: dict[str, Any]
    vouched: str
    is_signed: bool


class Granted(Struct, frozen=True):
    """A capability that was minted in the task. If an agent asked for it at run time, `asked_by` has its labels."""

    position: int
    at: int
    audience: str
    allow: tuple[str, ...]
    expires: int
    digest: str | None
    asked_by: tuple[str, ...] = ()
    request: str | None = None


class Answered(Struct, frozen=True):
    """The answer of a person to a request; `is_signed` if the signature over what they were shown is in the proof."""

    request: str
    approver: str
    yes: bool
    at: int
    is_signed: bool
    action: str | None = None
    audience: str | None = None


class CallApproved(Struct, frozen=True):
    """An approval that came with a call: who signed it, by name if the trust file has the key.

    `calls` is for how many calls it is good (decimal text); None if it says no number. `is_shown`: the proof has what
    the approvers were shown.
    """

    digest: str
    signers: tuple[str, ...]
    calls: str | None
    is_shown: bool


class Decided(Struct, frozen=True):
    """One decision; `logs` are those that have it. `agent_signed`: the holder's key has signed this very call."""

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
    approvals: tuple[CallApproved, ...] = ()
    args: dict[str, Any] | None = None
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
    """What a proof shows. `signed` and `words` say in sentences what a signature shows, and what is somebody's word.

    `contradictions` are sentences, too: if there is one, somebody has not told the truth, or a part is missing.
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
    sources: tuple[CheckedSource, ...]
    granted: tuple[Granted, ...]
    nodes: tuple[ProvenNode, ...]
    decisions: tuple[Decided, ...]
    answers: tuple[Answered, ...]
    ended: tuple[ProvenEnd, ...]
    signed: tuple[str, ...]
    words: tuple[str, ...]
    contradictions: tuple[str, ...]
    not_claimed: tuple[str, ...] = NOT_CLAIMED

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values; sources without their events."""
        from msgspec import to_builtins

        found: dict[str, Any] = to_builtins(
            {name: getattr(self, name) for name in self.__struct_fields__ if name != "sources"}
        )
        sources = [
            {
                "origin": one.origin,
                "of": "authority" if one.is_authority else "resource",
                "size": one.size,
                "at": one.at,
                "events": len(one.events),
                "signed_by": list(one.signed_by),
                "witnesses": [{"name": each.name, "at": each.at} for each in one.witnesses],
            }
            for one in self.sources
        ]
        return {**found, "sources": sources, "holds": not self.contradictions}
