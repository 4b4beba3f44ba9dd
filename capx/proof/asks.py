"""Who asked for what was granted at run time: the evidence in the events of asks, compared with all that it must fit.

    chain of the asker → its first holder, every hop signed → the presentation of the ask, signed with its last key
    → the call that asked → audience, action and arguments of the request, its id, and the grant

Laws:

- In a task that is bound to a key, only its agents can ask. So a request or a grant whose event does not show who asked
  leaves a gap: the authority could have made up that agent.
- Evidence that does not fit is a contradiction: nobody writes it by mistake.
- One presentation is one ask: it may lead to requests of one round, and to one grant.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from capx.crypto.base64url import unb64u
from capx.crypto.canonical_json import canonical
from capx.errors import InvalidRequest
from capx.proof.chains import BadChain, Chains, ProvenChain, ProvenPresentation
from capx.proof.document import AskedPart, ProofBroken
from capx.proof.people import Answers
from capx.proof.recorded import LoggedDecision
from capx.proof.report import Findings
from capx.store.events import CapabilityMinted, RequestMade, TaskOpened
from capx.store.log import Event
from capx.tokens.binding import WINDOW_AFTER, WINDOW_BEFORE, ToolCall
from capx.tokens.grants import ASK, ASK_APPROVAL
from capx.tokens.lineage import AUTHORITY
from capx.tokens.pins import asked_allowlist, offer_in
from capx.verify.ask import Ask
from capx.verify.evidence import AskEvidence, args_commitment
from capx_caveats import Allow, Call, Facts, InvalidCaveat, NotBefore

_Fact = RequestMade | CapabilityMinted


class _Asked(Struct):
    """An event of an ask: what it says, and the time before which nobody can have asked."""

    event: Event
    fact: _Fact
    since: int
    is_of_policy: bool = False
    """Whether it is a grant for which nobody was asked."""

    @property
    def where(self) -> str:
        what = "the request" if isinstance(self.fact, RequestMade) else "the grant"
        return f"{what} of event {self.event.position}"

    @property
    def action(self) -> str:
        """The action at the authority that made this ask."""
        return ASK_APPROVAL if isinstance(self.fact, RequestMade) and self.fact.call else ASK


class AskReader:
    """Reads the evidence of the asks in one task, and collects what does not fit and what is not there."""

    def __init__(
        self, opened: TaskOpened, chains: Chains, parts: Sequence[AskedPart], answers: Answers, tolerance: int
    ) -> None:
        self._opened = opened
        self._chains = chains
        self._answers = answers
        self._findings = Findings()
        self._tolerance = tolerance
        self._parts = {one.position: one for one in parts}
        if len(self._parts) < len(parts):
            raise ProofBroken("the proof has what an agent asked for twice")
        self._uses: dict[str, tuple[str | None, int | None]] = {}
        self._granted: set[str] = set()
        self._actions: dict[str, str] = {}
        self._signed = 0

    def told_otherwise(self, decisions: Iterable[LoggedDecision]) -> Iterator[str]:
        """Say which decisions tell of the presentation of an ask as of another call."""
        for one in decisions:
            action = self._actions.get(one.recorded.presentation or "")
            if action is not None and (one.recorded.audience, one.recorded.action) != (AUTHORITY, action):
                yield f"{one.recorded.name} tells of the presentation of an ask, and as of another call"

    def read(self, events: Iterable[Event], findings: Findings) -> None:
        """Read all events of asks; ProofBroken for arguments that are not those of an ask in the log."""
        self._findings = findings
        for asked in _asks_in(events):
            if asked.fact.ask is None:
                if self._opened.holder is not None:
                    self._findings.gaps.append(
                        f"{asked.where} does not show who asked: the authority could have made up the agent"
                    )
                continue
            faults = list(self._faults(asked, asked.fact.ask))
            self._findings.contradictions += [f"{asked.where} {why}" for why in faults]
        if self._parts:
            raise ProofBroken(f"event {next(iter(self._parts))} commits to no arguments of an ask")
        if self._signed:
            self._findings.signed.append(f"by the keys of agents: {self._signed} asks for requests and grants")
        if self._opened.holder is None:
            self._findings.words.append("of the authority: who asked for what was granted at run time")

    def _faults(self, asked: _Asked, evidence: AskEvidence) -> Iterator[str]:
        args = self._arguments(asked, evidence)
        minted = self._chains.first_blocks.get(evidence.after)
        base = None if minted is None else self._chains.get(minted.digest)
        if base is None or minted is None or minted.request is not None or base.identifier.audience != AUTHORITY:
            yield "was asked for with a chain that does not continue what the task was opened with for the authority"
            return
        try:
            chain = base.with_other(evidence.blocks)
        except BadChain as why:
            yield f"was asked for with a chain that cannot be read: {why}"
            return
        if base.digest not in chain.digests:
            yield "was asked for with a chain that leaves out what the authority demanded"
        yield from self._chain_faults(asked, chain)
        if self._opened.holder is not None:
            yield from self._presentation_faults(asked, evidence, chain, args)
        if args is not None:
            yield from self._call_faults(asked, evidence, chain, args)

    def _arguments(self, asked: _Asked, evidence: AskEvidence) -> dict[str, Any] | None:
        """The arguments of the call that asked; None if the proof does not have them."""
        part = self._parts.pop(asked.event.position, None)
        if part is None:
            self._findings.gaps.append(
                f"the arguments of the ask behind {asked.where}: it could have asked for something else"
            )
            return None
        if args_commitment(unb64u(part.salt), canonical(part.args)) != evidence.args:
            raise ProofBroken(f"what the agent asked for with {asked.where} is not what the log commits to")
        return part.args

    def _chain_faults(self, asked: _Asked, chain: ProvenChain) -> Iterator[str]:
        fact = asked.fact
        for why in chain.unsigned:
            yield f"was asked for with a chain that is not signed as it must be: {why}"
        first = chain.keys[0] if chain.keys else None
        if first != self._opened.holder or chain.lineage.task != self._opened.task:
            yield "was asked for by an agent that is not below the first holder of the task"
        if asked.event.at >= chain.lineage.expires + self._tolerance:
            yield "was asked for with a chain that had expired"
        if (chain.path, chain.lineage.hops) != (fact.path, fact.hops):
            yield "was asked for by another agent than it says"
        if isinstance(fact, CapabilityMinted):
            grant = self._chains.get(fact.digest)
            if fact.asker != chain.ids:
                yield "was asked for with another chain than it says"
            to = None if grant is None else (grant.path, grant.lineage.hops, grant.keys)
            if to is not None and to != (chain.path, chain.lineage.hops, chain.keys[-1:]):
                yield "went to another agent, or to another key, than asked for it"
            if asked.is_of_policy and fact.ask is not None and fact.ask.names is not None:
                yield "leaves arguments free, and nobody was asked"
        for refusal in chain.lineage.standing:
            yield f"was asked for with a chain that {refusal.sentence}"
        if any(isinstance(one, NotBefore) and asked.event.at < one.at for one in chain.lineage.caveats):
            yield "was asked for with a chain that was not valid yet"

    def _presentation_faults(
        self, asked: _Asked, evidence: AskEvidence, chain: ProvenChain, args: Mapping[str, Any] | None
    ) -> Iterator[str]:
        if evidence.presented is None:
            yield "was asked for without a presentation, although the task is bound to a key"
            return
        try:
            found = ProvenPresentation.read(chain, evidence.presented)
        except BadChain as why:
            yield f"was asked for with a presentation that does not count: {why}"
            return
        if not found.is_signed:
            yield "was asked for with a presentation that the key of its agent has not signed"
        early = asked.since - WINDOW_AFTER - self._tolerance
        if not early <= found.at <= asked.event.at + WINDOW_BEFORE + self._tolerance:
            yield "was asked for with a presentation that is too early or too late for its event"
        if args is not None and (found.profile, found.request) != ("tool", _digest(asked.action, args)):
            yield "was presented as another ask than the log commits to"
        self._actions[found.id] = asked.action
        if self._is_of_another(found.id, asked.fact):
            yield "was asked for with a presentation that another ask has used"
        self._signed += 1

    def _call_faults(
        self, asked: _Asked, evidence: AskEvidence, chain: ProvenChain, args: dict[str, Any]
    ) -> Iterator[str]:
        """Say what of the call that asked is not what the event, the id of its request and the grant say."""
        fact = asked.fact
        try:
            ask = Ask(**args)
            counted = ask if evidence.names is None else ask.only(evidence.names)
            pinned = Allow((ask.entry(evidence.names),)).wire()
        except (TypeError, AttributeError, InvalidRequest, InvalidCaveat):
            yield "was asked for with arguments that no ask can have"
            return
        facts = Facts(Call(asked.action, dict(args)), asked.event.at, 0.0)
        if any(isinstance(one, Allow) and one.refusal(facts) is not None for one in chain.lineage.caveats):
            yield "was asked for by an agent that may not ask for it"
        if ask.own_action != asked.action:
            yield "was asked for with a call that is no ask of this kind"
        if ask.audience != fact.audience:
            yield "is at another audience than was asked for"
        if counted.request(chain.digests[-1][:16], evidence.offer) != fact.request:
            yield "has another id than the request that this agent made with this ask"
        if isinstance(fact, RequestMade):
            if ask.action != fact.action:
                yield "is for another action than was asked for"
            text = None if counted.canonical_args is None else counted.canonical_args.decode()
            shown = self._answers.shown_of(asked.event)
            if shown is not None and (offer_in(shown.block.encode()), shown.args) != (evidence.offer, text):
                yield "was shown to people with other arguments than were asked for, or on another offer"
        elif (grant := self._chains.get(fact.digest)) and _terms_of(grant) != (evidence.offer, canonical(pinned)):
            yield "allows something else than was asked for, or is on another offer"

    def _is_of_another(self, presentation: str, fact: _Fact) -> bool:
        """Whether a presentation has led to something else before: to another request, or to a grant already."""
        use = fact.request, fact.round
        if self._uses.setdefault(presentation, use) != use or presentation in self._granted:
            return True
        if isinstance(fact, CapabilityMinted):
            self._granted.add(presentation)
        return False


def _asks_in(events: Iterable[Event]) -> Iterator[_Asked]:
    """The events of asks, in the order of the log.

    A grant that people agreed to may have been asked for when its request was made: then the agent has waited.
    """
    made: dict[tuple[str | None, int | None], int] = {}
    for event in events:
        if event.kind == RequestMade.kind:
            request = event.read(RequestMade)
            made[request.request, request.round] = event.at
            yield _Asked(event, request, event.at)
        elif event.kind == CapabilityMinted.kind:
            minted = event.read(CapabilityMinted)
            if minted.request is not None:
                since = made.get((minted.request, minted.round), event.at) if minted.consent else event.at
                yield _Asked(event, minted, since, not minted.consent)


def _terms_of(grant: ProvenChain) -> tuple[str | None, bytes | None]:
    """The digest of the offer that a grant is on, and what pins it to what was asked for, as canonical JSON."""
    first = grant.blocks[0]
    asked = asked_allowlist(first) if isinstance(first, bytes) else None
    if asked is None or not isinstance(first, bytes):
        return None, None
    return offer_in(first), canonical(asked.wire())


def _digest(action: str, args: Mapping[str, Any]) -> str | None:
    """The digest that a presentation of this call has; None if no call has these arguments."""
    try:
        return ToolCall(action, dict(args)).digest()
    except (InvalidRequest, InvalidCaveat):
        return None
