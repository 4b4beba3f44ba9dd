"""What people signed in a task: the intent that it was opened on, and their answers to requests of its agents.

Law: what the proof carries with a signature must be signed by a key that the trust file names, or the proof is broken.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct, UnsetType

from capx.crypto.canonical_json import canonical
from capx.crypto.ed25519 import is_signed_by
from capx.errors import InvalidRequest
from capx.intents.epoch import authority_of
from capx.intents.intent import Intent, parse_intent
from capx.intents.verdict_message import verdict_message
from capx.proof.chains import ProvenChain
from capx.proof.document import AnsweredRequest, IntentPart, ProofBroken
from capx.proof.report import Answered, Findings, ProvenIntent
from capx.proof.trust import Trust
from capx.store.events import (
    CapabilityMinted,
    RequestAnswered,
    RequestApproved,
    RequestDenied,
    RequestExpired,
    RequestMade,
    TaskOpened,
)
from capx.store.log import Event
from capx.tokens.chain import ThirdParty
from capx_caveats import InvalidCaveat

_TIMELY = 300
"""Seconds for which an answer is good after it was signed."""
_ANSWERS = frozenset({RequestApproved.kind, RequestDenied.kind})


def intent_of(opened: TaskOpened, part: IntentPart | None, trust: Trust, findings: Findings) -> ProvenIntent | None:
    """Return the intent that a task was opened on.

    None if it was opened by hand, or if the proof lacks the document (a gap). ProofBroken if that is another one.
    """
    if opened.intent is None:
        if part is not None:
            raise ProofBroken("the proof has an intent, and the task was opened on none")
        findings.words.append("the task was opened by hand: nobody's intent is behind it")
        findings.would_show_more.append("an intent: an operator opened the task by hand")
        return None
    if part is None:
        findings.gaps.append("the intent that the task was opened on: another one could stand behind its digest")
        return None
    if (part.signature is None) == (part.attested is None):
        raise ProofBroken("an intent has either a signature or the name of who attested it")
    try:
        intent = parse_intent(canonical(part.document))
    except (InvalidRequest, InvalidCaveat) as error:
        raise ProofBroken(f"the document of the intent is none: {error}") from None
    if intent.digest != opened.intent:
        raise ProofBroken("the document of the intent is not the one that the task was opened on")
    if part.attested != opened.attested:
        raise ProofBroken(
            "the intent is attested in the proof, or by somebody else, and the authority's log says otherwise"
        )
    if part.signature is None:
        vouched = f"attested by {part.attested!a:.130}, which is the word of the authority"
        findings.words.append(f"the intent: {vouched}")
        findings.would_show_more.append("a signature of the principal below the intent: somebody else has attested it")
    else:
        vouched = _signed_by(intent, part.signature, trust)
        findings.signed.append(f"the intent: {vouched}")
    return ProvenIntent(
        intent.principal,
        intent.statement,
        dict(intent.parameters),
        vouched,
        is_signed=part.signature is not None,
        purpose=intent.purpose,
        tenant=_or_none(intent.tenant),
        agent=_or_none(intent.agent),
        agent_key=_or_none(intent.agent_key),
        authority=intent.authority,
        issued=intent.issued,
        not_after=intent.not_after,
    )


def intent_faults(intent: ProvenIntent, opened: TaskOpened, *, at: int, origin: str, tolerance: int) -> Iterator[str]:
    """Say what of a task that was opened at `at` (Unix seconds) is not what its intent says."""
    for name in ("principal", "tenant", "purpose", "agent"):
        if getattr(intent, name) != getattr(opened, name):
            yield f"the task was opened for another {name} than its intent says"
    if intent.agent_key is not None and intent.agent_key != opened.holder:
        yield "the task was opened for another key than its intent names"
    if opened.expires > intent.not_after:
        yield "the task lives longer than its intent"
    if not intent.issued - tolerance <= at < intent.not_after + tolerance:
        yield "the task was opened at a time at which its intent was not good"
    # The store may have been restored since, and then its log has a later epoch.
    if authority_of(intent.authority) != authority_of(origin.removeprefix("capx/")):
        yield f"the intent is for another authority, {intent.authority}, and not for the one of {origin}"


def _or_none(text: str | UnsetType) -> str | None:
    return None if isinstance(text, UnsetType) else text


def _signed_by(intent: Intent, signature: str, trust: Trust) -> str:
    keys = _keys_of(intent.principal, "whose intent this is", trust)
    if not any(is_signed_by(key, intent.message(), signature) for key in keys):
        raise ProofBroken(f"the intent is not signed with a key of {intent.principal!a:.130}")
    return f"signed by {intent.principal!a:.130}"


class Answers:
    """The answers of people in one task: as the log has them, with what they signed as far as the proof has it."""

    def __init__(
        self, opened: TaskOpened, parts: Sequence[AnsweredRequest], trust: Trust, findings: Findings, tolerance: int
    ) -> None:
        self._opened = opened
        self._tolerance = tolerance
        self._unused = {(one.approver, one.signature): one for one in parts}
        if len(self._unused) < len(parts):
            raise ProofBroken("one answer to a request stands in the proof twice")
        self._trust = trust
        self._findings = findings
        self._rounds: dict[str, list[_Round]] = {}
        self._denied: dict[str, int] = {}

    def read(self, events: Iterable[Event]) -> Iterator[Answered]:
        """Return the answers in the log; ProofBroken for one in the proof that the log does not have."""
        for event in events:
            if event.kind == RequestMade.kind:
                made = event.read(RequestMade)
                self._rounds.setdefault(made.request, []).append(_Round(event.position, event.at, made.round, made))
            if event.kind == RequestExpired.kind:
                for one in self._rounds.get(event.read(RequestExpired).request, [])[-1:]:
                    one.is_over = True
            if event.kind in _ANSWERS:
                yield self._answer(event, event.read(RequestAnswered))
        if self._unused:
            raise ProofBroken("the proof has an answer to a request that the log does not have")

    def _answer(self, event: Event, said: RequestAnswered) -> Answered:
        yes = event.kind == RequestApproved.kind
        if not yes:
            self._denied.setdefault(said.request, event.position)
        part = self._unused.pop((said.approver, said.signature), None)
        shown = None
        if said.request not in self._rounds:
            self._findings.contradictions.append(
                f"{said.approver!a:.130} has answered request {said.request}, which nobody had made"
            )
        if part is None:
            lacks = f"the proof lacks what {said.approver!a:.130} has signed about request {said.request}"
            self._findings.gaps.append(f"{lacks}: the log says only that it was a {_word(yes)}")
            answer = Answered(said.request, said.approver, yes, event.at, is_signed=False)
        else:
            shown = self._signed(part, said, yes)
            answer = Answered(
                said.request,
                said.approver,
                yes,
                event.at,
                is_signed=True,
                signed_at=part.at,
                action=shown.action,
                audience=shown.audience,
                agents=shown.labels,
                args=shown.args,
            )
            self._findings.contradictions += self._answer_faults(event, said, part.at)
            self._findings.signed.append(f"the {_word(yes)} of {said.approver!a:.130} to {answer.about}")
        if rounds := self._rounds.get(said.request):
            last = rounds[-1]
            if last.is_over or event.at >= last.made.until + self._tolerance:
                self._findings.contradictions.append(
                    f"{said.approver!a:.130} has answered request {said.request}, which was answered or over already"
                )
            if shown is not None and not shown.is_of(last.made):
                self._findings.contradictions.append(
                    f"{said.approver!a:.130} was shown another request than {said.request} in the log"
                )
            if yes and (said.approver == self._opened.principal or (shown and said.approver in shown.excluded)):
                self._findings.contradictions.append(
                    f"{said.approver!a:.130} has agreed to request {said.request}, and had requested this work"
                )
            last.is_over = True
            if yes:
                last.agreed, last.shown = event.position, shown
        return answer

    def _answer_faults(self, event: Event, said: RequestAnswered, signed: int) -> Iterator[str]:
        """Say what of the time that a person has signed is not what the log says."""
        who = f"the answer of {said.approver!a:.130} to request {said.request}"
        if signed + _TIMELY + self._tolerance < event.at:
            yield f"{who} was signed {event.at - signed} s before the log has it, and is good for {_TIMELY}"
        if signed > event.at + self._tolerance:
            yield f"{who} was signed {signed - event.at} s after the log has it"
        asked = min((one.at for one in self._rounds.get(said.request, ())), default=signed)
        if signed + self._tolerance < asked:
            yield f"{who} was signed {asked - signed} s before anybody had asked"

    def _signed(self, part: AnsweredRequest, said: RequestAnswered, yes: bool) -> "Shown":
        _demand_signed(part, said, yes, self._trust)
        try:
            shown = msgspec.convert(part.shown, Shown)
        except msgspec.ValidationError as error:
            raise ProofBroken(f"what was shown of request {said.request} cannot be read: {error}") from None
        if (shown.task, shown.intent) != (self._opened.task, self._opened.intent):
            raise ProofBroken(f"{said.approver!a:.130} has answered request {said.request} in another task")
        return shown

    def shown_of(self, made: Event) -> "Shown | None":
        """What the person who agreed to the request of this event was shown; None if nobody has, or it is not here."""
        of_request = self._rounds.get(made.read(RequestMade).request, ())
        return next((one.shown for one in of_request if one.asked == made.position), None)

    def mint_faults(self, event: Event, minted: CapabilityMinted, chain: ProvenChain) -> Iterator[str]:
        """Say why a capability that people had to agree to is not what they agreed to."""
        denied = self._denied.get(minted.request or "")
        if denied is not None and denied < event.position:
            yield f"is for request {minted.request}, which a person had denied"
        if not minted.consent:
            return
        rounds = self._rounds.get(minted.request or "", [])
        before = bisect_left(rounds, event.position, key=_asked)
        if not before:
            yield f"was given by the consent of people to request {minted.request}, and nobody was asked"
            return
        # The last time that it was asked for before this: an agent may ask again, once a consent is used up.
        last = rounds[before - 1]
        if last.agreed is None or last.agreed > event.position:
            yield f"was asked of people in request {minted.request}, and nobody had agreed"
            return
        if minted.round != last.number:
            yield f"is of another round of request {minted.request} than people had agreed to"
        demands = [one.cid.decode("latin-1") for one in chain.blocks if isinstance(one, ThirdParty)]
        if last.shown is not None and not last.shown.demands(demands):
            yield f"does not demand the approvals that were shown in request {minted.request}"
        if (shown := last.shown) is not None and (chain.blocks[0], chain.identifier.audience) != (
            shown.block.encode(),
            shown.audience,
        ):
            yield f"is not what was shown to who agreed to request {minted.request}"


class _Round(Struct):
    """One asking of people: its position, time and round, the position of the yes to it, and what was shown."""

    asked: int
    at: int
    number: int
    made: RequestMade
    is_over: bool = False
    agreed: int | None = None
    shown: "Shown | None" = None


def _asked(one: _Round) -> int:
    return one.asked


class Shown(Struct):
    """What of an inquiry a report shows; a person has signed all of it."""

    task: str
    action: str
    audience: str
    block: str
    intent: str | None = None
    args: str | None = None
    labels: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    approvers: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    until: int = 0
    approval: dict[str, Any] | None = None
    carried: tuple[str, ...] = ()

    def demands(self, cids: Sequence[str]) -> bool:
        """Whether these demands for approvals (their cids) are those that the grant would have."""
        own = cids[: len(cids) - len(self.carried)]
        return tuple(cids[len(own) :]) == self.carried and len(own) == (self.approval is not None)

    def is_of(self, made: RequestMade) -> bool:
        """Whether this is the request that an event made."""
        who = (self.path, self.labels, self.audience, self.action) == (made.path, made.hops, made.audience, made.action)
        return who and (self.approvers, self.until) == (made.approvers, made.until)


def _word(yes: bool) -> str:
    return "yes" if yes else "no"


def _demand_signed(part: AnsweredRequest, said: RequestAnswered, yes: bool, trust: Trust) -> None:
    shown = hashlib.sha256(canonical(part.shown)).digest()
    message = verdict_message(shown, part.approver, yes=part.yes, at=part.at)
    keys = _keys_of(said.approver, f"who answered request {said.request}", trust)
    if (part.shown.get("id"), part.yes) != (said.request, yes):
        raise ProofBroken(f"the answer to request {said.request} is shown as one to another request, or another one")
    if not any(is_signed_by(key, message, part.signature) for key in keys):
        raise ProofBroken(f"{said.approver!a:.130} has not signed this answer to what is shown of {said.request}")


def _keys_of(name: str, who: str, trust: Trust) -> list[bytes]:
    keys = trust.keys_of_person(name)
    if not keys:
        raise ProofBroken(f"the trust file names no key of {name!a:.130}, {who}: add a line `principal NAME KEY`")
    return keys
