"""The decisions in the logs of a proof, each with all logs that have it.

Laws:

- The copy of the authority comes first, and only the first copy is read. Copies that differ contradict each other.
- A decision that a resource has reported and nobody can read contradicts that resource, and takes nothing from what
  others show. One that the owner of a log has written breaks the proof.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from capx.proof.document import ProofBroken
from capx.proof.sources import CheckedSource
from capx.store.events import FACTS
from capx.store.log import Event
from capx.tokens.chain_text import BlockText, ChainText
from capx.tokens.lineage import AUTHORITY
from capx.verify.evidence import ApprovalText

DECISION: Final = "decision"


class Recorded(Struct, frozen=True, kw_only=True):
    """A decision as a resource has recorded it."""

    id: str
    at: int
    outcome: Literal["allowed", "denied"]
    audience: str
    action: str | None = None
    task: str | None = None
    tenant: str | None = None
    intent: str | None = None
    root: str | None = None
    hops: tuple[str, ...] = ()
    nonces: tuple[str, ...] = ()
    key: str | None = None
    ids: tuple[str, ...] = ()
    presentation: str | None = None
    args: str | None = None
    shown_args: dict[str, Any] | None = None
    digest: str | None = None
    chain: ChainText | None = None
    presented: BlockText | None = None
    approvals: tuple[ApprovalText, ...] = ()
    stated: bool = False
    reasons: tuple[dict[str, Any], ...] = ()

    @property
    def is_allowed(self) -> bool:
        """Whether the call was allowed."""
        return self.outcome == "allowed"

    @property
    def name(self) -> str:
        """The decision in words."""
        return f"decision {self.id} of {self.audience}"


class InLog(Struct, frozen=True):
    """A decision in one log."""

    origin: str
    is_authority: bool
    event: Event


class LoggedDecision(Struct, frozen=True):
    """A decision, and all logs that have it."""

    recorded: Recorded
    logs: tuple[InLog, ...]


def events_schema() -> dict[str, Any]:
    """The JSON Schemas (draft 2020-12) of the bodies of events, by kind: see docs/spec/events.md."""
    of_kinds = {**{fact.kind: fact for fact in FACTS}, DECISION: Recorded}
    schemas, shared = msgspec.json.schema_components(of_kinds.values(), ref_template="#/$defs/{name}")
    kinds = dict(zip(of_kinds, schemas, strict=True))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": shared, "properties": kinds}


class _Named(Struct):
    audience: Any = None


class Unreadable(Struct, frozen=True):
    """A decision that cannot be read, in the authority's log: the audience that reported it, if it names one."""

    position: int
    audience: str | None


def decisions_in(sources: Sequence[CheckedSource]) -> tuple[list[LoggedDecision], list[Unreadable]]:
    """The decisions that can be read, in the order of their logs, and those that cannot be read.

    ProofBroken if the owner of a log has written one there that cannot be read.
    """
    logs: defaultdict[tuple[str, str], list[InLog]] = defaultdict(list)
    read: dict[tuple[str, str], Recorded] = {}
    unreadable: list[Unreadable] = []
    for source in sources:
        for event in source.events:
            if event.kind != DECISION:
                continue
            recorded = event.read_if(Recorded)
            if recorded is None:
                unreadable.append(_unreadable(event, source))
                continue
            name = recorded.audience, recorded.id
            read.setdefault(name, recorded)
            logs[name].append(InLog(source.origin, source.is_authority, event))
    return [LoggedDecision(read[name], tuple(found)) for name, found in logs.items()], unreadable


def _unreadable(event: Event, source: CheckedSource) -> Unreadable:
    named = event.read_if(_Named)
    audience = named.audience if named is not None and isinstance(named.audience, str) else None
    if not source.is_authority or audience == AUTHORITY:
        raise ProofBroken(
            f"the decision of event {event.position} of {source.origin} cannot be read: its owner wrote it"
        )
    return Unreadable(event.position, audience)
