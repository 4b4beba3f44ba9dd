"""Verifies an execution proof with public keys alone.

    sources and paths → one opened task → intent → chains, signatures, decisions → answers, approvals → disclosures
    → contradictions

Laws:

- A proof is broken by a wrong signature, hash, path or commitment, by a part that nothing refers to, and by a part that
  stands twice. What is whole, and cannot be true together, is a contradiction, and is named.
- Nothing here reads a store, a secret or the network.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from capx.crypto.base64url import b64u
from capx.crypto.canonical_json import canonical
from capx.crypto.ed25519 import is_signed_by, public_text
from capx.errors import BrokenLog, InvalidRequest
from capx.intents.intent import Intent, parse_intent
from capx.intents.verdict_message import verdict_message
from capx.proof.chains import ProvenChain
from capx.proof.decisions import Chains, DecisionReader, InLog, decisions_in
from capx.proof.document import AnsweredRequest, Proof, ProofBroken
from capx.proof.report import Answered, Decided, Ended, Granted, Node, Purpose, Report
from capx.proof.sources import CheckedSource, check_sources
from capx.proof.trust import Trust
from capx.store.events import (
    TASK_ENDS,
    CapabilityMinted,
    RequestAnswered,
    RequestApproved,
    RequestDenied,
    Restored,
    Revoked,
    TaskOpened,
)
from capx.store.log import Event
from capx.tokens.binding import OPEN_WINDOWS
from capx.tokens.chain import root_node
from capx.tokens.revocation_key import RevocationKey, instant_of, kid_of
from capx_caveats import InvalidCaveat, shown_instant

STALENESS: Final = 30
"""Seconds for which a resource may not have heard of the end of authority, by default."""


def verify(proof: Proof | Path | bytes, trust: Trust, *, max_staleness: int = STALENESS) -> Report:
    """Work out what a proof shows; ProofBroken if it does not hold, InvalidRequest if it is no proof.

    `max_staleness` is for how many seconds resources go on without news of the end of authority. Look at
    `contradictions` of the report: with one of them, somebody has not told the truth, or a part is missing.
    """
    if isinstance(proof, Path):
        proof = Proof.load(proof)
    elif isinstance(proof, bytes):
        proof = Proof.parse(proof)
    sources = check_sources(proof, trust)
    try:
        return _Reading(proof, sources, trust, max_staleness).report()
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
        self._signed: list[str] = []
        self._words: list[str] = []
        self._contradictions: list[str] = []

    def report(self) -> Report:
        opened_event, opened = self._opened()
        self._demand_of_the_task(opened_event)
        intent = self._intent(opened)
        chains = Chains(self._sources)
        self._contradictions += chains.problems
        granted = tuple(self._granted(opened, chains))
        claims = {"task": opened.task, "root": opened.root, "tenant": opened.tenant, "intent": opened.intent}
        reader = DecisionReader(self._proof, chains, self._trust, claims)
        grouped, unreadable = self._grouped()
        decisions = tuple([reader.read(found) for found in grouped])
        self._contradictions += reader.contradictions
        if unreadable:
            self._words.append(f"{unreadable} decisions cannot be read: a resource wrote them otherwise than capx does")
        self._contradictions += _told_differently(grouped)
        self._contradictions += _presented_twice(grouped)
        ended = tuple(self._ended(opened))
        self._contradictions += self._after_the_end(opened_event, grouped, chains)
        answers = tuple(self._answers())
        self._demand_all_used(reader)
        self._contradictions += self._missing_logs()
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
            nodes=tuple(_nodes(opened, grouped, chains)),
            decisions=decisions,
            answers=answers,
            ended=ended,
            signed=tuple(self._signed),
            words=tuple(self._words),
            contradictions=tuple(dict.fromkeys(self._contradictions)),
        )

    def _opened(self) -> tuple[Event, TaskOpened]:
        found = [event for event in self._own.events if event.kind == TaskOpened.kind]
        if len(found) != 1:
            raise ProofBroken(f"the log of the authority opens {len(found)} tasks here, and a proof is of one")
        opened = found[0].read(TaskOpened)
        if opened.task != self._proof.task:
            raise ProofBroken(f"the log of the authority opens task {opened.task}, and the proof is of another")
        if opened.node != b64u(root_node(opened.root)):
            self._contradictions.append("the task was opened with a node that is not that of its root")
        return found[0], opened

    def _demand_of_the_task(self, opened: Event) -> None:
        """ProofBroken for an event of another task, or one that has no place in an extract."""
        for source in self._sources:
            for event in source.events:
                task = event.read(_Tasked).task
                about_any = source.is_authority and event.kind in _WITHOUT_TASK and event.position > opened.position
                if task != self._proof.task and not (task is None and about_any):
                    raise ProofBroken(f"event {event.position} of {source.origin} is not of this task")

    def _intent(self, opened: TaskOpened) -> Purpose | None:
        part = self._proof.intent
        if opened.intent is None:
            if part is not None:
                raise ProofBroken("the proof has an intent, and the task was opened on none")
            self._words.append("the task was opened by hand: nobody's intent is behind it")
            return None
        if part is None:
            raise ProofBroken("the intent that the task was opened on is missing")
        if (part.signature is None) == (part.attested is None):
            raise ProofBroken("an intent has either a signature or the name of who attested it")
        try:
            intent = parse_intent(canonical(part.document))
        except (InvalidRequest, InvalidCaveat) as error:
            raise ProofBroken(f"the document of the intent is none: {error}") from None
        if intent.digest != opened.intent or intent.principal != opened.principal:
            raise ProofBroken("the document of the intent is not the one that the task was opened on")
        vouched, is_signed = self._vouched(intent, part.signature, part.attested)
        (self._signed if is_signed else self._words).append(f"the intent: {vouched}")
        return Purpose(intent.principal, intent.statement, dict(intent.parameters), vouched, is_signed)

    def _vouched(self, intent: Intent, signature: str | None, attested: str | None) -> tuple[str, bool]:
        if signature is None:
            return f"attested by {attested!a:.130}, which is the word of the authority", False
        keys = self._trust.keys_of_person(intent.principal)
        if not keys:
            raise ProofBroken(
                f"the trust file names no key of {intent.principal!a:.130}, whose intent this is: add a line "
                "`principal NAME KEY`"
            )
        if not any(is_signed_by(key, intent.message(), signature) for key in keys):
            raise ProofBroken(f"the intent is not signed with a key of {intent.principal!a:.130}")
        return f"signed by {intent.principal!a:.130}", True

    def _granted(self, opened: TaskOpened, chains: Chains) -> Iterator[Granted]:
        for event in self._own.events:
            if event.kind != CapabilityMinted.kind:
                continue
            minted = event.read(CapabilityMinted)
            chain = None if minted.digest is None else chains.chains.get(minted.digest)
            where = f"the capability that event {event.position} minted"
            if chain is None:
                self._words.append(f"{where}: an authority of an older version has written no chain for it")
            else:
                self._contradictions += [f"{where} {why}" for why in _misfits(opened, minted, chain)]
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

    def _grouped(self) -> tuple[list[list[InLog]], int]:
        """The decisions that can be read, each with all logs that have it; and how many cannot be read."""
        by_id: defaultdict[tuple[str, str], list[InLog]] = defaultdict(list)
        unreadable = 0
        for one in decisions_in(self._sources):
            if one.recorded is None:
                unreadable += 1
            else:
                by_id[one.recorded.audience, one.recorded.id].append(one)
        return list(by_id.values()), unreadable

    def _ended(self, opened: TaskOpened) -> Iterator[Ended]:
        for event in self._own.events:
            if event.kind in _ENDS:
                yield Ended(event.position, event.at, f"the task is {_ENDS[event.kind]}")
            elif event.kind == Revoked.kind:
                yield Ended(event.position, event.at, _revoked(event.read(Revoked)))
            elif event.kind == Restored.kind:
                what = f"all that was issued up to {shown_instant(event.read(Restored).issued)} is dead: a restoration"
                yield Ended(event.position, event.at, what)
        yield Ended(0, opened.expires, "the task expires at the latest")

    def _after_the_end(self, opened: Event, grouped: Sequence[Sequence[InLog]], chains: Chains) -> Iterator[str]:
        """Calls that were allowed too long after something ended that they stood on."""
        deaths = [(event.at, key) for event in self._own.events for key in _killed(event)]
        for found in grouped:
            recorded = found[0].recorded
            if recorded is None or recorded.outcome != "allowed":
                continue
            chain = chains.chains.get(recorded.digest or "")
            keys = set[RevocationKey]() if chain is None else set(chain.lineage.revocation_keys)
            keys.add(self._proof.task)
            issued = opened.at if chain is None else chain.lineage.issued
            dead = [
                at
                for at, key in deaths
                if at + self._max_staleness < recorded.at
                and (key in keys or (isinstance(key, str) and (instant_of(key) or -1) >= issued))
            ]
            if dead:
                yield (
                    f"decision {recorded.id} of {recorded.audience} was allowed {recorded.at - min(dead)} s after its "
                    "authority had ended"
                )

    def _answers(self) -> Iterator[Answered]:
        """What people answered, as the log has it, with what they signed, as far as the proof has it."""
        unused = {(one.approver, one.signature): one for one in self._proof.requests}
        if len(unused) < len(self._proof.requests):
            raise ProofBroken("one answer to a request stands in the proof twice")
        for event in self._own.events:
            if event.kind not in {RequestApproved.kind, RequestDenied.kind}:
                continue
            said = event.read(RequestAnswered)
            yes = event.kind == RequestApproved.kind
            part = unused.pop((said.approver, said.signature), None)
            if part is None:
                self._words.append(f"the answer of {said.approver!a:.130} to request {said.request}: not in the proof")
                yield Answered(said.request, said.approver, yes, event.at, False)
                continue
            self._demand_answered(part, said, yes=yes)
            self._signed.append(f"the {'yes' if yes else 'no'} of {said.approver!a:.130} to request {said.request}")
            action, audience = part.shown.get("action"), part.shown.get("audience")
            yield Answered(said.request, said.approver, yes, event.at, True, str(action), str(audience))
        if unused:
            raise ProofBroken("the proof has an answer to a request that the log does not have")

    def _demand_answered(self, part: AnsweredRequest, said: RequestAnswered, *, yes: bool) -> None:
        shown = hashlib.sha256(canonical(part.shown)).digest()
        message = verdict_message(shown, part.approver, yes=part.yes, at=part.at)
        keys = self._trust.keys_of_person(said.approver)
        if not keys:
            raise ProofBroken(
                f"the trust file names no key of {said.approver!a:.130}, who answered request {said.request}: add a "
                "line `principal NAME KEY`"
            )
        if (part.shown.get("id"), part.yes) != (said.request, yes):
            raise ProofBroken(
                f"the answer to request {said.request} is shown as one to another request, or another one"
            )
        if not any(is_signed_by(key, message, part.signature) for key in keys):
            raise ProofBroken(f"{said.approver!a:.130} has not signed this answer to what is shown of {said.request}")

    def _demand_all_used(self, reader: DecisionReader) -> None:
        if len(reader.used_documents) < len(self._proof.approvals):
            raise ProofBroken("the proof has the document of an approval that no decision is about")
        if len(reader.used_disclosures) < len(self._proof.disclosed):
            raise ProofBroken("the proof discloses arguments of a decision that it does not have")

    def _missing_logs(self) -> Iterator[str]:
        origins = [one.origin for one in self._sources]
        for key in self._trust.logs:
            if not any(origin == key.name or origin.startswith(f"{key.name}/") for origin in origins):
                yield f"the trust file names the log {key.name}, and the proof has no source of it"

    def _say(self, opened: TaskOpened, decisions: Sequence[Decided], granted: Sequence[Granted]) -> None:
        for source in self._sources:
            of = "the authority" if source.is_authority else "a resource"
            events = f"these {len(source.events)} events are all that it has about the task"
            self._signed.append(f"by {of}, {source.origin}: {events}, up to event {source.size}")
            for witness in source.witnesses:
                at = shown_instant(witness.at)
                self._signed.append(f"by the witness {witness.name!a:.130}: it had {source.size} events at {at}")
        by_agents = sum(one.agent_signed for one in decisions)
        if by_agents:
            self._signed.append(f"by the keys of agents: {by_agents} of {len(decisions)} calls, each as it was made")
        if len(decisions) > by_agents:
            unsigned = len(decisions) - by_agents
            self._words.append(f"of resources: {unsigned} decisions about calls that no agent's key has signed")
        self._words.append(f"of the authority: the {len(granted)} capabilities that it minted, and when events were")
        if opened.holder is None:
            self._words.append("of whoever held a token: who they were. The task is bound to no key")


class _Tasked(msgspec.Struct):
    task: str | None = None


_ENDS: Final = {fact.kind: state for state, fact in TASK_ENDS.items()}
_WITHOUT_TASK: Final = frozenset({Revoked.kind, Restored.kind})


def _misfits(opened: TaskOpened, minted: CapabilityMinted, chain: ProvenChain) -> Iterator[str]:
    lineage = chain.lineage
    if chain.ids != minted.ids or chain.identifier.audience != minted.audience or chain.identifier.kid != minted.kid:
        yield "has another chain than its ids, audience or root key say"
    for name in ("task", "root", "tenant", "intent"):
        if getattr(lineage, name) != getattr(opened, name):
            yield f"claims another {name} than the task was opened with"
    if lineage.expires > opened.expires:
        yield "lives longer than the task"
    holder = public_text(lineage.keys[0]) if lineage.keys else None
    # What is granted at run time names the key of the agent that asked.
    if minted.request is None and holder != opened.holder:
        yield "names another first holder than the task"
    if minted.request is not None and (holder is None) != (opened.holder is None):
        yield "was granted without the key that the task demands"


def _told_differently(grouped: Iterable[Sequence[InLog]]) -> Iterator[str]:
    grouped = list(grouped)
    reported = {one.recorded.audience for found in grouped for one in found if one.is_authority and one.recorded}
    for found in grouped:
        recorded = found[0].recorded
        if recorded is None:
            continue
        if len({one.event.body for one in found}) > 1:
            yield f"decision {recorded.id} of {recorded.audience} is told differently in its logs"
        if recorded.audience in reported and not any(one.is_authority for one in found):
            yield f"decision {recorded.id} of {recorded.audience} is in its ledger, and not in the authority's log"
        if len({one.origin for one in found}) < len(found):
            yield f"decision {recorded.id} of {recorded.audience} stands in one log twice"


def _presented_twice(grouped: Iterable[Sequence[InLog]]) -> Iterator[str]:
    """A presentation is for one call: one that was allowed at two audiences, or long apart, was used twice."""
    allowed: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for found in grouped:
        recorded = found[0].recorded
        if recorded is not None and recorded.outcome == "allowed" and recorded.presentation is not None:
            allowed[recorded.presentation].append((recorded.audience, recorded.at))
    for presentation, uses in allowed.items():
        times = [at for _, at in uses]
        if len({audience for audience, _ in uses}) > 1 or max(times) - min(times) > OPEN_WINDOWS:
            yield f"presentation {presentation} was allowed twice"


def _killed(event: Event) -> Sequence[RevocationKey]:
    if event.kind in _ENDS:
        return (str(event.facts().get("task")),)
    if event.kind == Restored.kind:
        return (f"issued:{event.read(Restored).issued}",)
    if event.kind == Revoked.kind:
        return [key for key in event.read(Revoked).revocation_keys if key is not None]
    return ()


def _revoked(revoked: Revoked) -> str:
    by = f", by the agent at node {revoked.by}" if revoked.by else ""
    key = revoked.revocation_key
    if revoked.key is not None:
        return f"the agent's key {revoked.key} is dead{by}"
    if isinstance(key, str) and (kid := kid_of(key)) is not None:
        return f"all that was minted under the root key {kid} is dead{by}"
    if isinstance(key, str):
        return f"all that was issued up to {shown_instant(instant_of(key) or 0)} is dead{by}"
    what = "the root of the task" if revoked.is_root else "the node or capability"
    more = f" and {len(revoked.others)} more" if revoked.others else ""
    return f"{what} {revoked.id}{more} is dead{by}"


def _nodes(opened: TaskOpened, grouped: Sequence[Sequence[InLog]], chains: Chains) -> Iterator[Node]:
    """The execution graph, as the chains in the proof show it."""
    root = b64u(root_node(opened.root))
    labels: dict[str, tuple[str, str | None, str | None]] = {root: ("task", None, opened.holder)}
    counts: Counter[tuple[str, str]] = Counter()
    for chain in chains.chains.values():
        keys = chain.keys
        # The keys of a chain belong to its last nodes: the grant's holder, and each hop below it.
        first = len(chain.path) - len(keys)
        for at, (node, before) in enumerate(zip(chain.path[1:], chain.path, strict=False), 1):
            named = keys[at - first] if keys and at >= first else None
            known = labels.get(node)
            if known is None or (known[2] is None and named is not None):
                labels[node] = chain.lineage.hops[at - 1], before, named
    for found in grouped:
        recorded = found[0].recorded
        chain_of = None if recorded is None else chains.chains.get(recorded.digest or "")
        if recorded is not None and chain_of is not None:
            counts[chain_of.path[-1], "allowed" if recorded.outcome == "allowed" else "denied"] += 1
    for node, (label, above, key) in labels.items():
        yield Node(node, label, above, key, counts[node, "allowed"], counts[node, "denied"])
