"""Verifies an execution proof with public keys alone.

    sources and paths → one opened task → intent → chains → answers → asks → grants → decisions and disclosures
    → contradictions and gaps

Laws:

- A proof is broken by a wrong signature, hash, path or commitment, by a part that nothing refers to, and by a part that
  stands twice. What was not altered, and cannot be true together, is a contradiction, and is named.
- A part that is not there breaks nothing: it is a gap, if something could hide behind it.
- Nothing here reads a store, a secret or the network.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from capx.crypto.base64url import b64u
from capx.errors import BrokenLog
from capx.proof.allowed import Allowed
from capx.proof.asks import AskReader
from capx.proof.calls import overspent
from capx.proof.chains import Chains
from capx.proof.conflicts import (
    after_end,
    in_one_log,
    log_conflicts,
    mint_faults,
    minted_twice,
    misdated,
    presented_twice,
)
from capx.proof.decisions import DecisionReader
from capx.proof.document import Frame, Proof, ProofBroken, contents
from capx.proof.ends import allowed_after_end, ends_in
from capx.proof.extent import belongs
from capx.proof.nodes import nodes_in
from capx.proof.people import Answers, intent_faults, intent_of
from capx.proof.receipts import CheckedReceipt, Receipt, check_receipt, said_of
from capx.proof.recorded import LoggedDecision, Unreadable, decisions_in
from capx.proof.report import Decided, Findings, Granted, RefusedAsk, Report
from capx.proof.sources import CheckedSource, check_sources
from capx.proof.trust import Trust
from capx.store.events import FACTS, AskRefused, CapabilityMinted, Fact, TaskOpened
from capx.store.log import Event
from capx.tokens.chain import root_node
from capx_caveats import shown_instant

STALENESS: Final = 30
"""Seconds for which a resource may not have heard of the end of authority, by default."""
CLOCKS_APART: Final = 30
"""Seconds by which two clocks may differ, by default."""

_KINDS: Final[dict[str, type[Fact]]] = {fact.kind: fact for fact in FACTS}


def verify(
    proof: Proof | Path | bytes,
    trust: Trust,
    *,
    receipts: Iterable[Receipt] = (),
    max_staleness: int = STALENESS,
    clock_tolerance: int = CLOCKS_APART,
) -> Report:
    """Work out what a proof shows; ProofBroken if it was altered, InvalidRequest if it is no proof.

    Look at `result` of the report: `contradictions` say what cannot be true together, `gaps` what could hide.
    `receipts` are what others have kept of these logs: an event that the proof leaves out is a contradiction.
    `max_staleness` is for how many seconds resources go on without news of an end, and `clock_tolerance` by how many
    seconds clocks may differ.
    """
    if isinstance(proof, Proof):
        sources = check_sources(proof, trust)
    else:
        data = contents(proof) if isinstance(proof, Path) else proof
        # First what its logs have signed: whoever has no key must not cost its reader minutes.
        sources = check_sources(Frame.parse(data), trust)
        proof = Proof.parse(data)
    kept = [check_receipt(one, trust) for one in receipts]
    try:
        return _Reading(proof, sources, trust, max_staleness, clock_tolerance).report(kept)
    except BrokenLog as error:
        # The log was signed with it, so whoever signed it has written it.
        raise ProofBroken(f"an event of {sources[0].origin} cannot be read: {error}") from None


class _Reading:
    """One reading of a proof whose sources are good."""

    def __init__(
        self, proof: Proof, sources: Sequence[CheckedSource], trust: Trust, max_staleness: int, clock_tolerance: int
    ) -> None:
        self._proof = proof
        self._sources = sources
        self._trust = trust
        self._clock_tolerance = clock_tolerance
        self._late = max_staleness + clock_tolerance
        self._own = sources[0]
        self._findings = Findings()

    def report(self, kept: Sequence[CheckedReceipt]) -> Report:
        findings, events = self._findings, self._own.events
        opened_event, opened = self._opened()
        self._demand_extent(opened_event)
        self._demand_readable()
        intent = intent_of(opened, self._proof.intent, self._trust, findings)
        logged, unreadable = decisions_in(self._sources)
        chains = Chains(self._sources, logged)
        if intent is not None:
            at, origin = opened_event.at, self._own.origin
            findings.contradictions += intent_faults(
                intent, opened, at=at, origin=origin, tolerance=self._clock_tolerance
            )
        answers = Answers(opened, self._proof.requests, self._trust, findings, self._clock_tolerance)
        answered = tuple(answers.read(events))
        asks = AskReader(opened, chains, self._proof.asked, answers, self._clock_tolerance)
        asks.read(events, findings)
        findings.contradictions += asks.told_otherwise(logged)
        allowed = Allowed(chains.all())
        granted = tuple(self._granted(opened, chains, allowed, answers))
        reader = DecisionReader(self._proof, chains, self._trust, opened, self._clock_tolerance)
        decisions = tuple([reader.read(one) for one in logged])
        reader.demand_all_used()
        findings.contradictions += [
            *chains.faults,
            *reader.contradictions,
            *self._conflicts(opened_event, logged, chains),
            *_unread(unreadable),
        ]
        self._say(opened, decisions, granted, unshown=reader.unshown)
        findings.gaps += [*reader.gaps, *in_one_log(logged, self._sources)]
        said = [said_of(one, self._sources, self._proof.task, opened_event.position) for one in kept]
        findings.contradictions += [one.contradiction for one in said if one.contradiction is not None]
        return Report(
            task=opened.task,
            tenant=opened.tenant,
            purpose=opened.purpose,
            opened=opened_event.at,
            expires=opened.expires,
            root=opened.root,
            holder=opened.holder,
            policy=opened.policy,
            intent=intent,
            intent_digest=opened.intent,
            sources=tuple(self._sources),
            granted=granted,
            refused=tuple(_refused_in(events)),
            nodes=tuple(nodes_in(opened, logged, chains, allowed, self._trust)),
            decisions=tuple(sorted(decisions, key=lambda one: one.at)),
            answers=answered,
            ended=tuple(ends_in(events, opened)),
            signed=tuple(findings.signed),
            words=tuple(findings.words),
            would_show_more=tuple(findings.would_show_more),
            gaps=tuple(findings.gaps),
            receipts=tuple([one.sentence for one in said]),
            contradictions=tuple(dict.fromkeys(findings.contradictions)),
        )

    def _opened(self) -> tuple[Event, TaskOpened]:
        found = [event for event in self._own.events if event.kind == TaskOpened.kind]
        if len(found) != 1:
            raise ProofBroken(f"the log of the authority opens {len(found)} tasks here, and a proof is of one")
        opened = found[0].read(TaskOpened)
        if opened.task != self._proof.task:
            raise ProofBroken(f"the log of the authority opens task {opened.task}, and the proof is of another")
        if opened.node != b64u(root_node(opened.root)):
            self._findings.contradictions.append("the task was opened with a node that is not that of its root")
        return found[0], opened

    def _demand_extent(self, opened: Event) -> None:
        """ProofBroken for an event of another task, or one that has no place in a source."""
        for source in self._sources:
            for event in source.events:
                if not belongs(event, self._proof.task, opened.position if source.is_authority else None):
                    raise ProofBroken(f"event {event.position} of {source.origin} is not of this task")

    def _demand_readable(self) -> None:
        """BrokenLog for an event of the authority itself that cannot be read, of whatever kind."""
        for event in self._own.events:
            if (fact := _KINDS.get(event.kind)) is not None:
                event.read(fact)

    def _granted(self, opened: TaskOpened, chains: Chains, allowed: Allowed, answers: Answers) -> Iterator[Granted]:
        for event in self._own.events:
            if event.kind != CapabilityMinted.kind:
                continue
            minted = event.read(CapabilityMinted)
            chain = chains.get(minted.digest)
            where = f"the capability that event {event.position} minted"
            if chain is None:
                self._findings.contradictions.append(f"{where} has no chain in the log")
            else:
                faults = [*mint_faults(opened, minted, chain), *answers.mint_faults(event, minted, chain)]
                if abs(chain.identifier.issued_at - event.at) > self._clock_tolerance:
                    faults.append("was issued at another time than its event says")
                self._findings.contradictions += [f"{where} {why}" for why in faults]
            yield Granted(
                position=event.position,
                at=event.at,
                audience=minted.audience,
                allow=minted.allow if chain is None else allowed.actions(chain),
                expires=minted.expires if chain is None else chain.lineage.expires,
                digest=minted.digest,
                asked_by=minted.hops if chain is None else chain.lineage.hops,
                request=minted.request,
            )

    def _conflicts(self, opened: Event, logged: Sequence[LoggedDecision], chains: Chains) -> Iterator[str]:
        for source in self._sources:
            yield from misdated(source, self._clock_tolerance)
        yield from log_conflicts(logged)
        yield from presented_twice(logged, chains)
        yield from minted_twice(self._own.events)
        yield from after_end(self._own.events, chains)
        yield from overspent(logged, chains, self._own.events)
        for one in logged:
            if one.recorded.at + self._clock_tolerance < opened.at:
                yield f"{one.recorded.name} is dated {opened.at - one.recorded.at} s before the task was opened"
        within = 0
        for recorded, late in allowed_after_end(self._own.events, opened.at, logged, chains):
            if late > self._late:
                yield f"{recorded.name} was allowed {late} s after its authority had ended"
            else:
                within += 1
        if within:
            self._findings.words.append(
                f"of resources: that they had not heard yet of the end, when they allowed {within} calls up to "
                f"{self._late} s after it"
            )
        origins = [one.origin for one in self._sources]
        for key in self._trust.logs:
            # A restored authority has more than one log, and a proof has one of them.
            there = any(origin == key.name or origin.startswith(f"{key.name}/") for origin in origins)
            if key.name not in self._trust.authorities and not there:
                yield (
                    f"the trust file names the log {key.name}, and the proof has no source of it: its operator writes "
                    "one with capx proof extract, also if it has nothing about the task"
                )

    def _say(
        self,
        opened: TaskOpened,
        decisions: Sequence[Decided],
        granted: Sequence[Granted],
        *,
        unshown: int,
    ) -> None:
        signed, words, more = self._findings.signed, self._findings.words, self._findings.would_show_more
        for source in self._sources:
            of = "the authority" if source.is_authority else "a resource"
            events = f"these {len(source.events)} events are all that it has about the task"
            at = shown_instant(source.at)
            signed.append(f"by {of}, {source.origin}, at {at}: {events}, up to event {source.size}")
            for witness in source.witnesses:
                at = shown_instant(witness.at)
                signed.append(f"by the witness {witness.name!a:.130}: it had {source.size} events at {at}")
            if not source.witnesses:
                more.append(f"a cosignature below the log {source.origin}: its owner could have written it anew since")
        by_agents = [one for one in decisions if one.agent_signed]
        if by_agents:
            compared = sum(one.compared for one in by_agents)
            signed.append(
                f"by the keys of agents: a presentation for each of {len(by_agents)} of {len(decisions)} calls; of "
                f"{compared}, action and arguments were compared with what was signed"
            )
        if len(decisions) > len(by_agents):
            words.append(
                f"of resources: {len(decisions) - len(by_agents)} decisions about calls that no agent's key has signed"
            )
        if decisions:
            words.append("of resources: what they decided, and that these calls are those that agents signed")
        words.append(f"of the authority: the {len(granted)} capabilities that it minted, and when events were")
        if any(event.kind == AskRefused.kind for event in self._own.events):
            words.append("of the authority: which asks it refused at once, and who had asked")
        if opened.policy is not None:
            words.append(f"of the authority: what its policy says; the log has the digest {opened.policy}")
        if opened.holder is None:
            words.append("of whoever held a token: who they were. The task is bound to no key")
        if unshown:
            more.append(f"what the signers of {unshown} approvals were shown; the approvals themselves are here")


def _unread(unreadable: Iterable[Unreadable]) -> Iterator[str]:
    """Say of each audience how many of its decisions cannot be read: a resource may report very many."""
    found = defaultdict[str | None, list[int]](list)
    for one in unreadable:
        found[one.audience].append(one.position)
    for audience, positions in found.items():
        who = "a resource that does not name itself" if audience is None else f"the resource {audience!a:.130}"
        count = f"{len(positions)} decision{'s' * (len(positions) > 1)}"
        yield f"{who} has reported {count} that nobody can read, the first in event {positions[0]}"


def _refused_in(events: Iterable[Event]) -> Iterator[RefusedAsk]:
    for event in events:
        if event.kind == AskRefused.kind:
            asked = event.read(AskRefused)
            yield RefusedAsk(event.position, event.at, asked.hops, asked.action, asked.audience, asked.reasons)
