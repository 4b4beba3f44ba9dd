"""Verifies an execution proof with public keys alone.

    sources and paths → one opened task → intent → chains, signatures, decisions → answers, approvals → disclosures
    → contradictions

Laws:

- A proof is broken by a wrong signature, hash, path or commitment, by a part that nothing refers to, and by a part that
  stands twice. What is whole, and cannot be true together, is a contradiction, and is named.
- Nothing here reads a store, a secret or the network.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from capx.crypto.base64url import b64u
from capx.errors import BrokenLog
from capx.proof.conflicts import misdated, misfits, presented_twice, told_differently
from capx.proof.decisions import Chains, DecisionReader, InLog, decisions_in
from capx.proof.document import Proof, ProofBroken
from capx.proof.ends import allowed_after, ends_in
from capx.proof.nodes import nodes_in
from capx.proof.people import answers_in, intent_of
from capx.proof.receipts import CheckedReceipt, Receipt, check_receipt
from capx.proof.report import Decided, Findings, Granted, Report
from capx.proof.sources import CheckedSource, check_sources, two_roots
from capx.proof.trust import Trust
from capx.store.events import CapabilityMinted, Restored, Revoked, TaskOpened
from capx.store.log import Event
from capx.tokens.chain import root_node
from capx_caveats import shown_instant

STALENESS: Final = 30
"""Seconds for which a resource may not have heard of the end of authority, by default."""


def verify(
    proof: Proof | Path | bytes, trust: Trust, *, receipts: Iterable[Receipt] = (), max_staleness: int = STALENESS
) -> Report:
    """Work out what a proof shows; ProofBroken if it does not hold, InvalidRequest if it is no proof.

    Look at `contradictions` of the report: with one of them, somebody has not told the truth, or a part is missing.
    `receipts` are what others have kept of these logs: an event that the proof leaves out is a contradiction.
    `max_staleness` is for how many seconds resources go on without news of the end of authority.
    """
    if isinstance(proof, Path):
        proof = Proof.load(proof)
    elif isinstance(proof, bytes):
        proof = Proof.parse(proof)
    sources = check_sources(proof, trust)
    kept = [check_receipt(one, trust) for one in receipts]
    try:
        return _Reading(proof, sources, trust, max_staleness).report(kept)
    except BrokenLog as error:
        # The log was signed with it, so whoever signed it has written it.
        raise ProofBroken(f"an event of {sources[0].origin} cannot be read: {error}") from None


class _Reading:
    """One reading of a proof whose sources are good."""

    def __init__(self, proof: Proof, sources: Sequence[CheckedSource], trust: Trust, max_staleness: int) -> None:
        self._proof = proof
        self._sources = sources
        self._trust = trust
        self._max_staleness = max_staleness
        self._own = sources[0]
        self._findings = Findings()

    def report(self, kept: Sequence[CheckedReceipt]) -> Report:
        findings, events = self._findings, self._own.events
        opened_event, opened = self._opened()
        self._demand_of_the_task(opened_event)
        intent = intent_of(opened, self._proof.intent, self._trust, findings)
        chains = Chains(self._sources)
        findings.contradictions += chains.problems
        granted = tuple(self._granted(opened, chains))
        claims = {"task": opened.task, "root": opened.root, "tenant": opened.tenant, "intent": opened.intent}
        reader = DecisionReader(self._proof, chains, self._trust, claims)
        grouped = self._grouped()
        decisions = tuple([reader.read(found) for found in grouped])
        findings.contradictions += reader.contradictions
        if reader.unshown:
            findings.words.append(f"of whoever recorded them: what the approvers of {reader.unshown} calls were shown")
        findings.contradictions += [why for one in self._sources for why in misdated(one, self._max_staleness)]
        findings.contradictions += told_differently(grouped)
        findings.contradictions += presented_twice(grouped)
        findings.contradictions += allowed_after(events, opened_event.at, grouped, chains, self._max_staleness)
        answers = tuple(answers_in(events, self._proof.requests, self._trust, findings))
        self._demand_all_used(reader)
        findings.contradictions += self._missing_logs()
        findings.contradictions += [why for one in kept if (why := self._refuted(opened_event, one)) is not None]
        self._say(opened, decisions, granted)
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
            sources=tuple(self._sources),
            granted=granted,
            nodes=tuple(nodes_in(opened, grouped, chains)),
            decisions=tuple(sorted(decisions, key=lambda one: one.at)),
            answers=answers,
            ended=tuple(ends_in(events, opened)),
            signed=tuple(findings.signed),
            words=tuple(findings.words),
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

    def _demand_of_the_task(self, opened: Event) -> None:
        """ProofBroken for an event of another task, or one that has no place in an extract."""
        for source in self._sources:
            for event in source.events:
                if not self._belongs(source, opened, event):
                    raise ProofBroken(f"event {event.position} of {source.origin} is not of this task")

    def _belongs(self, source: CheckedSource, opened: Event, event: Event) -> bool:
        """Whether an extract of a log must have this event: it names the task, or may be about any."""
        tasked = event.read_if(_Tasked)
        task = None if tasked is None else tasked.task
        about_any = source.is_authority and event.kind in _WITHOUT_TASK and event.position > opened.position
        return task == self._proof.task or (task is None and about_any)

    def _granted(self, opened: TaskOpened, chains: Chains) -> Iterator[Granted]:
        for event in self._own.events:
            if event.kind != CapabilityMinted.kind:
                continue
            minted = event.read(CapabilityMinted)
            chain = None if minted.digest is None else chains.chains.get(minted.digest)
            where = f"the capability that event {event.position} minted"
            if chain is None:
                self._findings.words.append(f"{where}: an authority of an older version has written no chain for it")
            else:
                self._findings.contradictions += [f"{where} {why}" for why in misfits(opened, minted, chain)]
            yield Granted(
                position=event.position,
                at=event.at,
                audience=minted.audience,
                allow=minted.allow,
                expires=minted.expires,
                digest=minted.digest,
                asked_by=minted.hops,
                request=minted.request,
            )

    def _grouped(self) -> list[list[InLog]]:
        """The decisions that can be read, each with all logs that have it."""
        by_id: defaultdict[tuple[str, str], list[InLog]] = defaultdict(list)
        unreadable = 0
        for one in decisions_in(self._sources):
            if one.recorded is None:
                unreadable += 1
            else:
                by_id[one.recorded.audience, one.recorded.id].append(one)
        if unreadable:
            self._findings.words.append(
                f"{unreadable} decisions cannot be read: a resource wrote them otherwise than capx does"
            )
        return list(by_id.values())

    def _demand_all_used(self, reader: DecisionReader) -> None:
        if len(reader.used_documents) < len(self._proof.approvals):
            raise ProofBroken("the proof has the document of an approval that no decision is about")
        if len(reader.used_disclosures) < len(self._proof.disclosed):
            raise ProofBroken("the proof discloses arguments of a decision that it does not have")

    def _missing_logs(self) -> Iterator[str]:
        origins = [one.origin for one in self._sources]
        for key in self._trust.logs:
            # A restored authority has more than one log, and a proof has one of them.
            if key.name not in self._trust.authorities and not any(
                origin == key.name or origin.startswith(f"{key.name}/") for origin in origins
            ):
                yield f"the trust file names the log {key.name}, and the proof has no source of it"

    def _refuted(self, opened: Event, kept: CheckedReceipt) -> str | None:
        """Why a receipt cannot be true together with the proof; None if it can."""
        checkpoint, event = kept.note.checkpoint, kept.event
        source = next((one for one in self._sources if one.origin == checkpoint.origin), None)
        if source is None:
            return f"a receipt is of the log {checkpoint.origin}, and the proof has no source of it"
        if why := two_roots(source, checkpoint.size, checkpoint.root):
            return why
        if event.position <= source.size and self._belongs(source, opened, event):
            if all(one.hash != event.hash for one in source.events):
                return f"event {event.position} of {source.origin}, of which there is a receipt, was left out"
            return None
        self._findings.words.append(
            f"nothing of event {event.position} of {source.origin}, of which there is a receipt: it is of another "
            "task, or newer than the proof"
        )
        return None

    def _say(self, opened: TaskOpened, decisions: Sequence[Decided], granted: Sequence[Granted]) -> None:
        for source in self._sources:
            of = "the authority" if source.is_authority else "a resource"
            events = f"these {len(source.events)} events are all that it has about the task"
            self._findings.signed.append(f"by {of}, {source.origin}: {events}, up to event {source.size}")
            for witness in source.witnesses:
                at = shown_instant(witness.at)
                self._findings.signed.append(
                    f"by the witness {witness.name!a:.130}: it had {source.size} events at {at}"
                )
        by_agents = sum(one.agent_signed for one in decisions)
        if by_agents:
            self._findings.signed.append(
                f"by the keys of agents: {by_agents} of {len(decisions)} calls, each as it was made"
            )
        if len(decisions) > by_agents:
            unsigned = len(decisions) - by_agents
            self._findings.words.append(
                f"of resources: {unsigned} decisions about calls that no agent's key has signed"
            )
        self._findings.words.append(
            f"of the authority: the {len(granted)} capabilities that it minted, and when events were"
        )
        if opened.holder is None:
            self._findings.words.append("of whoever held a token: who they were. The task is bound to no key")


class _Tasked(msgspec.Struct):
    task: str | None = None


_WITHOUT_TASK: Final = frozenset({Revoked.kind, Restored.kind})
