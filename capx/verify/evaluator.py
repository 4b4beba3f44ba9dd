"""What an authentic token is judged by: who died, the time, every caveat, what is counted, and the record.

Laws: all that refuse are told, up to 32, not the first alone. A caveat that fails or answers oddly refuses. A denial
stands whether or not it can be recorded.
"""

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator

from capx.crypto.base64url import b64u
from capx.errors import StoreProblem, Unavailable
from capx.tokens.lineage import Lineage, Section, attributed
from capx.tokens.revocation_key import RevocationKey, is_lasting
from capx.verify.decision import Decision
from capx.verify.meter import Meter
from capx.verify.protocols import Liveness, Recorder
from capx.verify.spending import Spent, exhausted
from capx_caveats import Call, Facts, Refusal, is_too_much

MAX_TOLD = 32
"""Refusals that one denial tells: a token can hold thousands."""


class Evaluator:
    """What judging needs besides the token: who died, the time, and the record."""

    def __init__(
        self,
        audience: str,
        *,
        liveness: Liveness,
        recorder: Recorder,
        meter: Meter | None,
        max_staleness: float,
        clock: Callable[[], float],
    ) -> None:
        self.recorder = recorder
        self.meter = meter
        self._audience = audience
        self._liveness = liveness
        self._max_staleness = max_staleness
        self._clock = clock
        self._latest = 0
        self._lock = threading.Lock()

    def age(self) -> float:
        """Seconds since deaths were last heard of, after looking again."""
        return self._liveness.age()

    def facts(self, call: Call) -> Facts:
        """What caveats may see of this call, now."""
        return Facts(call, self.now(), self.age(), self.meter is not None)

    def refusals(self, lineage: Lineage, presentation: bytes | None, facts: Facts) -> list[Refusal]:
        """Steps 6 and 7: what refuses, deaths first, as far as one denial tells."""
        found = self.claim_refusals(lineage, presentation, facts)
        if is_too_much(facts.call.args, lambda: lineage.asked_of_each):
            return [*found, TOO_MUCH][:MAX_TOLD]
        for refusal in caveat_refusals(lineage.sections, facts):
            found.append(refusal)
            if len(found) >= MAX_TOLD:
                break
        return found[:MAX_TOLD]

    def claim_refusals(self, lineage: Lineage, presentation: bytes | None, facts: Facts) -> list[Refusal]:
        """Step 6, and of 7 what is no caveat's to say: an ungranted tenant, too many hops."""
        found = self.revocation_refusals(lineage, presentation, facts.age)
        if facts.call.tenant is not None and lineage.tenant is None:
            found.append(
                Refusal("incomplete_authority", "the call has a tenant, and the authority's block names none", "tenant")
            )
        found.extend(lineage.standing)
        return found

    def unaffordable(self, lineage: Lineage, call: Call) -> list[Refusal | None]:
        """Of step 8, what each allotment would refuse now, in their order, with nothing spent."""
        if self.meter is None or not lineage.allotments:
            return []
        counters = sorted({(allotment.counter, allotment.budget.unit) for allotment in lineage.allotments})
        try:
            totals = self.meter.spent(counters)
        except StoreProblem as problem:
            return [unavailable(problem)] * len(lineage.allotments)
        held = dict(zip(counters, totals, strict=True))
        return [next(exhausted((allotment,), call, held), None) for allotment in lineage.allotments]

    def revocation_refusals(self, lineage: Lineage, presentation: bytes | None, age: float) -> list[Refusal]:
        """Step 6: the deaths that end this chain, and knowledge that is missing or too old."""
        deaths = self._liveness.deaths
        revocation_keys = lineage.revocation_keys if presentation is None else (*lineage.revocation_keys, presentation)
        found: list[Refusal] = []
        if not deaths.keys().isdisjoint(revocation_keys):
            # The kid's is told last, behind that of the presentation.
            found.extend(
                _dead(key, deaths[key], lineage) for key in sorted(revocation_keys, key=is_lasting) if key in deaths
            )
        if lineage.issued <= self._liveness.revoked_until:
            found.append(
                Refusal("revoked", "this was issued before an instant up to which everything was revoked", "a new one")
            )
        if age == math.inf:
            found.append(Refusal("unknown_liveness", "nothing is known of deaths yet", "a readable store"))
        elif age > self._max_staleness:
            found.append(
                Refusal(
                    "stale_liveness",
                    f"nothing was heard of deaths for {age:.0f} s",
                    f"news at most {self._max_staleness:g} s old",
                )
            )
        return found

    def now(self) -> int:
        """The time in whole Unix seconds: it never steps back."""
        with self._lock:
            self._latest = max(self._latest, int(self._clock()))
            return self._latest

    def decision(
        self,
        refusals: tuple[Refusal, ...],
        *,
        lineage: Lineage | None = None,
        presentation: bytes | None = None,
        action: str | None = None,
        now: int | None = None,
        spent: tuple[Spent, ...] = (),
    ) -> Decision:
        """A decision with an id of its own: allowed if nothing refuses."""
        return Decision(
            id=b64u(os.urandom(16)),
            at=self.now() if now is None else now,
            allowed=not refusals,
            audience=self._audience,
            action=action,
            refusals=refusals,
            lineage=lineage,
            presented=presentation,
            spent=spent,
        )

    def recorded(self, decision: Decision) -> Decision:
        """The decision, recorded if there is room: a denial stands without."""
        try:
            self.recorder.reserve()
        except Unavailable:
            return decision
        self.recorder.record(decision)
        return decision


def unavailable(problem: StoreProblem) -> Refusal:
    """The refusal of whoever cannot be answered now."""
    return Refusal("unavailable", str(problem), "try again later")


def _dead(key: RevocationKey, code: str, lineage: Lineage) -> Refusal:
    if is_lasting(key):
        return Refusal(code, "the key that this was minted with was revoked", "a capability of a live key")
    if isinstance(key, str):
        end = code.removeprefix("task_")
        return Refusal(code, f"task {key} {'has' if end == 'expired' else 'was'} {end}", "a live task")
    if key in lineage.path:
        at = lineage.path.index(key)
        if at == 0:
            return Refusal(code, "the revocation root of this task was revoked", "a live task")
        return Refusal(code, "was revoked, and all below it", "a live node", hop=at, hop_name=lineage.hops[at - 1])
    return Refusal(
        code, "this capability, or one that it descends from, was revoked", "a live capability", given=b64u(key)
    )


def caveat_refusals(sections: Iterable[Section], facts: Facts) -> Iterator[Refusal]:
    """The refusals of all caveats, with whose they are; a caveat that fails or answers oddly refuses."""
    for section in sections:
        for caveat in section.caveats:
            try:
                answer = caveat.refusal(facts)
            except Exception:  # noqa: BLE001 - a service's own caveat may raise anything, and allows nothing by it
                answer = _ODD
            if answer is not None:
                yield attributed(answer if type(answer) is Refusal else _ODD, section)


TOO_MUCH = Refusal(
    "argument_refused",
    "the arguments hold more values than all that this token demands of them can judge",
    "fewer values",
)
_ODD = Refusal("not_understood", "demands what could not be judged", "a caveat that answers")
