"""The evaluator: it judges an authentic token by deaths, the time, its caveats and its budgets.

Laws:

- Steps 6 and 7 report all their refusals, up to 32, and not only the first one.
- A caveat that raises an error, or returns anything but a refusal or None, refuses.
- A denial is valid even if it cannot be recorded. A call that cannot be recorded is not allowed.
"""

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from msgspec import UNSET
from msgspec.structs import replace

from capx.crypto.base64url import b64u
from capx.crypto.instants import seconds
from capx.crypto.keys import AudienceKeys
from capx.errors import ConfigurationProblem, StoreProblem, Unavailable
from capx.tokens.approval import AN_APPROVAL, Approval
from capx.tokens.grants import ASK, ASK_APPROVAL
from capx.tokens.lineage import AUTHORITY, Lineage, Section, attributed
from capx.tokens.revocation_key import RevocationKey, is_lasting, of_key
from capx.tokens.signed_blocks import Signature, refusal_of
from capx.verify.args_digest import args_digest
from capx.verify.cache import Cache
from capx.verify.decision import Decision, decision_id
from capx.verify.ended_tokens import EndedTokens
from capx.verify.evidence import EvidenceKeeper, NotedArgs, ShownToken, args_commitment, salt_of
from capx.verify.meter import Meter
from capx.verify.protocols import NO_RECORDER, Liveness, Recorder
from capx.verify.spending import Spent, exhausted
from capx_caveats import JSON, Call, Caveat, Expires, Facts, Refusal, Tenant, shown
from capx_caveats.constraint import is_own

MAX_REPORTED = 32
"""Refusals that one denial reports: a token can hold thousands of caveats."""


class Evaluator:
    """The parts that judging needs besides the token: revocations, the time, a meter, and the recorder.

    It remembers up to twice `signed_blocks` blocks up to which all keys and signatures are good.
    """

    def __init__(
        self,
        keys: AudienceKeys,
        *,
        liveness: Liveness,
        recorder: Recorder,
        meter: Meter | None,
        max_staleness: float,
        clock: Callable[[], float],
        signed_blocks: int,
        evidence: EvidenceKeeper,
    ) -> None:
        self.recorder = recorder
        self.meter = meter
        # What nobody records needs no evidence.
        self.evidence = None if recorder is NO_RECORDER else evidence
        self._keys = keys
        self._liveness = liveness
        self._max_staleness = seconds("max_staleness", max_staleness, ConfigurationProblem)
        self._clock = clock
        self._latest = 0
        self._lock = threading.Lock()
        self._ended_tokens = EndedTokens()
        # By d of a block up to which all checks are good. It covers every key, message and signature, so siblings share
        # the checks of a parent.
        self._signed: Cache[bool] = Cache(signed_blocks)

    def age(self) -> float:
        """Seconds since the last news of revocations, after looking for newer ones."""
        return self._liveness.age()

    def facts(self, call: Call) -> Facts:
        """The facts that caveats may see of this call, now."""
        return Facts(call, self.now(), self.age(), self.meter is not None)

    def refusals(self, lineage: Lineage, presentation: bytes | None, facts: Facts) -> list[Refusal]:
        """Steps 6 and 7: all refusals, deaths first, at most MAX_REPORTED."""
        found = self.chain_refusals(lineage, presentation, facts)
        # Before the caveats: nothing is judged half-way.
        if lineage.is_too_much_work(facts.call):
            # But after the tenant: whether a row of another one is too large is none of the bearer's business.
            named = tuple(caveat for caveat in lineage.sections[0].caveats if isinstance(caveat, Tenant))
            found.extend(caveat_refusals([Section(0, None, named)], facts))
            return [*found, TOO_MUCH_WORK][:MAX_REPORTED]
        found.extend(islice(caveat_refusals(lineage.judged, facts), MAX_REPORTED))
        return found[:MAX_REPORTED]

    def chain_refusals(self, lineage: Lineage, presentation: bytes | None, facts: Facts) -> list[Refusal]:
        """Step 6, and those refusals of step 7 that no single caveat makes: a missing tenant, too many hops."""
        found = self.life_refusals(lineage, presentation, facts.age)
        # Without this, a grant for no tenant would be a grant for every tenant.
        if facts.call.tenant is not None and lineage.tenant is None:
            found.append(NO_TENANT)
        found.extend(lineage.standing)
        if lineage.undischarged:
            # At the authority, an agent asks without an approval: the demand is carried on into what it gets.
            asks = self._keys.audience == AUTHORITY and facts.call.action in {ASK, ASK_APPROVAL}
            found.extend(one.refusal() for one in lineage.undischarged if not asks or one.caveat is None)
        return found

    def approval_refusals(self, lineage: Lineage, approvals: Sequence[Approval]) -> tuple[Refusal, ...]:
        """Step 6.1 for the approvals that came with a chain: those that do not fit it, or are not signed as they say.

        Approvals whose signatures are all good are remembered, by what covers the demand, its keys and all blocks.
        """
        if not approvals:
            return ()
        now = self.now()
        found: list[Refusal] = []
        for one in approvals:
            why = [*one.misfits(lineage, self._keys.audience, now)]
            if not self._signed.get(one.last):
                unsigned = [*one.bad_signatures()]
                if not unsigned:
                    self._signed.put(one.last, True)
                why += unsigned
            found += [Refusal("bad_discharge", each, _ANOTHER, hop=0, hop_name=AN_APPROVAL) for each in why]
        return tuple(found[:MAX_REPORTED])

    def signature_refusals(self, lineage: Lineage, own: Signature | Refusal | None) -> tuple[Refusal, ...]:
        """Step 6.1: the blocks and the presentation (`own`) that the key in force did not sign, with their hops.

        Good chains are remembered. The signature of a presentation is checked each time.
        """
        signed = lineage.signed
        if signed is None and own is None:
            return ()
        found: list[Refusal] = []
        whole = lineage.digest
        if signed is not None and not self._signed.get(whole):
            for one in signed.checks:
                # The last block is looked up, and remembered, with the whole chain.
                above = one.digest if isinstance(one, Signature) and one.digest != whole else None
                if above is not None and self._signed.get(above):
                    continue
                if refusal := refusal_of(one):
                    found.append(refusal)
                elif above is not None and not found:
                    self._signed.put(above, True)
            if not found:
                self._signed.put(whole, True)
        if own is not None and (refusal := refusal_of(own)):
            found.append(refusal)
        return tuple(found[:MAX_REPORTED])

    def proven(self, lineage: Lineage) -> Lineage:
        """The chain above the first block of which nobody knows that the key in force signed it, for a denial.

        It checks no signature, and goes by those that step 6.1 has found good. Without the key, anybody who has read a
        token can append hops to it: the log must not have them as agents.
        """
        for check in () if lineage.signed is None else lineage.signed.checks:
            if isinstance(check, Refusal) or (isinstance(check, Signature) and not self._signed.get(check.digest)):
                return lineage.above(check.hop or 0)
        return lineage

    def unaffordable(self, lineage: Lineage, call: Call) -> list[Refusal | None]:
        """The refusal that each allotment would make in step 8 now, in their order, or None; spends nothing."""
        if self.meter is None or not lineage.allotments:
            return []
        counters = sorted({(allotment.counter, allotment.budget.unit) for allotment in lineage.allotments})
        try:
            totals = self.meter.spent(counters)
        except StoreProblem as problem:
            return [unavailable(problem)] * len(lineage.allotments)
        held = dict(zip(counters, totals, strict=True))
        return [next(exhausted((allotment,), call, held), None) for allotment in lineage.allotments]

    def life_refusals(self, lineage: Lineage, presentation: bytes | None, age: float) -> list[Refusal]:
        """Step 6: the deaths that end this chain, and a refusal if news of them is missing or too old."""
        found = self.death_refusals(lineage, presentation)
        # Fail closed: without fresh news, this token may be revoked without this service knowing.
        if age == math.inf:
            found.append(_NO_NEWS)
        elif self._keys.authority is not None and self._liveness.authority != self._keys.authority:
            # What was revoked under these keys, only the store of their authority knows.
            found.append(_NEWS_OF_ANOTHER)
        elif age > self._max_staleness:
            stale = f"this service has had no news of revocations for {age:.0f} s"
            found.append(Refusal("stale_liveness", stale, f"news at most {self._max_staleness:g} s old"))
        return found

    def death_refusals(self, lineage: Lineage, presentation: bytes | None) -> list[Refusal]:
        """The deaths that end this chain, as far as they are known without a look for newer ones."""
        deaths = self._liveness.deaths
        revocation_keys = lineage.revocation_keys if presentation is None else (*lineage.revocation_keys, presentation)
        found: list[Refusal] = []
        if not deaths.keys().isdisjoint(revocation_keys):
            # The spec's order: behind the presentation come agents' keys, then approvals; the root key comes last.
            late = dict.fromkeys(lineage.key_ids, 1) | dict.fromkeys(lineage.approval_keys, 2)
            dead = sorted(
                (key for key in revocation_keys if key in deaths), key=lambda key: (is_lasting(key), late.get(key, 0))
            )
            found.extend(_revoked(key, deaths[key], lineage) for key in dead)
        if lineage.issued <= self._liveness.revoked_until:
            found.append(_ISSUED_TOO_EARLY)
        return found

    def ended_refusals(self, lineage: Lineage, presentation: bytes | None, now: int) -> list[Refusal]:
        """The head's part of step 4: why this token allows nothing any more, at most MAX_REPORTED refusals."""
        found = self.death_refusals(lineage, presentation)
        if now >= lineage.expires:
            found.extend(_expired(lineage, now))
        return found[:MAX_REPORTED]

    def foreign_refusals(self, lineage: Lineage, presentation: bytes | None, why: str = "") -> list[Refusal]:
        """Step 6, and the refusal of every call that is not of the tenant in the authority's block; `why` is not told.

        It is one refusal for all: a row without a tenant, and a row that is missing, are facts of others, too.
        """
        found = self.life_refusals(lineage, presentation, self.age())[: MAX_REPORTED - 1]
        claimed = lineage.tenant
        other = NO_TENANT if claimed is None else replace(Tenant(claimed).refused(), hop=0)
        return [*found, replace(other, detail=why)]

    def now(self) -> int:
        """The time in whole Unix seconds; it never steps back."""
        # A clock that is set back must not revive what has expired.
        with self._lock:
            self._latest = max(self._latest, int(self._clock()))
            return self._latest

    def decision(
        self,
        refusals: tuple[Refusal, ...],
        *,
        lineage: Lineage | None = None,
        signed: bool = False,
        presentation: bytes | None = None,
        action: str | None = None,
        now: int | None = None,
        spent: tuple[Spent, ...] = (),
        args: NotedArgs | None = None,
        token: ShownToken | None = None,
        approvals: tuple[Approval, ...] = (),
    ) -> Decision:
        """A new decision with an id of its own; it allows the call if there are no refusals.

        `token` is that of the lineage, if its chain is signed as it must be: then the decision has its evidence.
        """
        at = self.now() if now is None else now
        id_ = decision_id(at)
        evidence = None
        if self.evidence is not None and token is not None and lineage is not None:
            evidence = self.evidence.of(lineage, token, approvals)
        return Decision(
            id=id_,
            at=at,
            allowed=not refusals,
            audience=self._keys.audience,
            action=action,
            refusals=refusals,
            lineage=lineage,
            signed=signed,
            presented=presentation,
            spent=spent,
            args_digest=None if args is None else args.digest,
            shown_args=None if args is None else args.shown,
            args=None if args is None or token is None else self._commitment(token.kid, id_, args),
            evidence=evidence,
        )

    def noted(self, node: bytes, action: str, args: Mapping[str, JSON]) -> NotedArgs | None:
        """What the decision about a call at a node will say of its arguments; None if no decision is recorded."""
        if self.evidence is None:
            return None
        # The first key and not the token's: an agent may hold capabilities under several keys.
        digest = next((args_digest(key, node, action, args) for key in self._keys.live), None)
        return self.evidence.noted(digest, args)

    def _commitment(self, kid: str, decision: str, args: NotedArgs) -> str | None:
        key = self._keys.get(kid)
        return (
            None if key is None or args.canonical is None else args_commitment(salt_of(key, decision), args.canonical)
        )

    def record(self, decision: Decision, approvals: tuple[Approval, ...] = ()) -> None:
        """Record a decision in the slot that was reserved for it."""
        self.recorder.record(decision)
        if decision.evidence is not None and decision.lineage is not None and self.evidence is not None:
            self.evidence.written(decision.lineage, approvals)

    def recorded(self, decision: Decision, approvals: tuple[Approval, ...] = ()) -> Decision:
        """A denial, recorded if the recorder has room. Without room it is still a denial, so nothing is at risk."""
        self._record(decision, approvals)
        return decision

    def recorded_once(self, decision: Decision, capability: bytes, refusals: Iterable[Refusal]) -> Decision:
        """A denial, under the id that this minute's log has for these reasons, if it has one.

        By what the authority minted (`capability`): what a holder appends must not use up the room of others.
        """
        # Each once: a holder could append an expiry once more each time.
        codes = tuple(dict.fromkeys(refusal.code for refusal in refusals))
        known = self._ended_tokens.id_to_record(capability, codes, decision.id, decision.at)
        if known == decision.id and not self._record(decision):
            self._ended_tokens.forget(capability, codes, decision.id)
        return decision if known is None else replace(decision, id=known)

    def _record(self, decision: Decision, approvals: tuple[Approval, ...] = ()) -> bool:
        """Record a decision, and return whether the recorder had room for it."""
        try:
            self.recorder.reserve()
        except Unavailable:
            return False
        self.record(decision, approvals)
        return True


def unavailable(problem: StoreProblem) -> Refusal:
    """The refusal for a call that cannot be judged or recorded now."""
    return Refusal("unavailable", str(problem), "try again later")


def _revoked(key: RevocationKey, code: str, lineage: Lineage) -> Refusal:
    if is_lasting(key):
        return Refusal(code, "the root key that this token was minted with was revoked", "a capability of a live key")
    if isinstance(key, str):
        end = code.removeprefix("task_")
        return Refusal(code, f"task {key} {'has' if end == 'expired' else 'was'} {end}", "a live task")
    if key in lineage.path:
        at = lineage.path.index(key)
        if at == 0:
            return Refusal(code, "the revocation root of this task was revoked", "a live task")
        return Refusal(code, "was revoked, and all below it", "a live node", hop=at, hop_name=lineage.hops[at - 1])
    for public in lineage.keys:
        if of_key(public) == key:
            from capx.crypto.ed25519 import public_text  # slow to import, and only keyed tokens need it

            return Refusal(code, f"the key {public_text(public)} was revoked, and all that it held", "a live key")
    if key in lineage.approval_keys:
        sentence = "an approval that came with it was revoked, or the key of somebody who signed it"
        return Refusal(code, sentence, _ANOTHER, given=b64u(key))
    return Refusal(code, "this capability, or an ancestor, was revoked", "a live capability", given=b64u(key))


def caveat_refusals(sections: Iterable[Section], facts: Facts) -> Iterator[Refusal]:
    """The refusals of all caveats, each with its hop.

    A caveat that raises an error, or returns anything but a Refusal or None, refuses with `not_understood`. A service's
    own caveat sees defaults as arguments.
    """
    whole = _with_defaults_given(facts) if facts.call.defaults else None
    for section in sections:
        for caveat in section.caveats:
            try:
                answer = caveat.refusal(facts if whole is None or not is_own(type(caveat)) else whole)
            except Exception:  # noqa: BLE001 - a service's own caveat may raise anything, and allows nothing by it
                answer = _NOT_EVALUATED
            if answer is not None:
                if type(answer) is not Refusal:
                    answer = _NOT_EVALUATED
                elif is_own(type(caveat)) and answer is not _NOT_EVALUATED:
                    answer = _without_facts(answer, caveat)
                yield attributed(answer, section)


def _with_defaults_given(facts: Facts) -> Facts:
    call = facts.call
    given = Call.of_json(call.action, call.arguments, call.tenant, attributes=call.attributes, cost=call.cost)
    return replace(facts, call=given)


def in_words(caveat: Caveat) -> str:
    """The sentence of a caveat, which a service's own caveat may be unable to give."""
    try:
        return caveat.sentence()
    except Exception:  # noqa: BLE001 - a service's own caveat may raise anything
        return f"a {type(caveat).__name__} that cannot be put into words"


def _without_facts(refusal: Refusal, caveat: Caveat) -> Refusal:
    """The refusal of a service's own caveat: the bearer is told the demand, and the log what the caveat said."""
    words = in_words(caveat)
    given = "" if refusal.given is UNSET else f" (given {shown(refusal.given)})"
    return Refusal(refusal.code, f"demands {words}", words, detail=f"{refusal.sentence}{given}")


def _expired(lineage: Lineage, now: int) -> Iterator[Refusal]:
    for section in lineage.judged:
        for caveat in section.caveats:
            if isinstance(caveat, Expires) and now >= caveat.at:
                yield attributed(caveat.refused(), section)


TOO_MUCH_WORK = Refusal(
    "argument_refused", "judging this call would be too much work", "a smaller call, or a token of fewer rules"
)
_ANOTHER = "another approval"
_NOT_EVALUATED = Refusal("not_understood", "has a caveat that could not be evaluated", "one that can be evaluated here")
NO_TENANT = Refusal("incomplete_authority", "the authority's block names no tenant", "tenant")
_ISSUED_TOO_EARLY = Refusal(
    "revoked", "every token issued up to a certain time was revoked, and this is one of them", "a newly issued token"
)
_NO_NEWS = Refusal("unknown_liveness", "this service has no news of revocations yet", "a readable store or feed")
_NEWS_OF_ANOTHER = Refusal(
    "unknown_liveness",
    "this service has news of revocations of another authority than that of its keys",
    "the store or feed of the authority that exported the keys",
)
