"""A token that was admitted, and the judging of its calls: steps 6 to 9 of the verifier.

Laws: whoever may be allowed has a slot in the record before anything is spent; after that recording changes nothing
that was decided. Budgets are spent when all else has passed. What a denial says to ask for is for the bearer, and not
recorded.
"""

from collections.abc import Mapping

from capx import diagnostics
from capx.errors import StoreProblem, Unavailable
from capx.tokens.lineage import Lineage, attributed
from capx.verify.decision import Allowed, Decision, Denied
from capx.verify.evaluator import MAX_TOLD, Evaluator, unavailable
from capx.verify.spending import Payment, Spent, remaining
from capx.verify.suggestion import suggested_ask
from capx_caveats import CALLS, JSON, Allow, Call, Refusal

_UNCOUNTED = Refusal("unavailable", "what is left of its budgets cannot be told now", "try again later")


class Admitted:
    """An authentic, fitting, fresh, unused token that was alive; what its authority's block claims."""

    __slots__ = ("_action", "_evaluator", "_lineage", "_payment", "_presentation")

    def __init__(self, evaluator: Evaluator, lineage: Lineage, presentation: bytes | None, action: str | None) -> None:
        self._evaluator = evaluator
        self._lineage = lineage
        self._presentation = presentation
        self._action = action
        self._payment = Payment(lineage.allotments, evaluator.meter)

    @property
    def spends(self) -> bool:
        """Whether to judge is to spend, which may wait for a disk or a database."""
        return self._payment.waits

    @property
    def task(self) -> str:
        """The task this is done for."""
        return self._lineage.task

    @property
    def tenant(self) -> str | None:
        """The tenant the authority named."""
        return self._lineage.tenant

    @property
    def intent(self) -> str | None:
        """The digest of the intent."""
        return self._lineage.intent

    @property
    def root(self) -> str:
        """The revocation root."""
        return self._lineage.root

    @property
    def path(self) -> tuple[bytes, ...]:
        """The nodes from the root to the acting agent, 16 bytes each."""
        return self._lineage.path

    @property
    def node(self) -> bytes:
        """The acting agent's node."""
        return self._lineage.path[-1]

    @property
    def hops(self) -> tuple[str, ...]:
        """The labels along the path, as their delegators chose them."""
        return self._lineage.hops

    @property
    def units(self) -> frozenset[str]:
        """The units that its budgets count, besides `calls`: those in which a call's cost must be stated."""
        return frozenset(allotment.budget.unit for allotment in self._lineage.allotments) - {CALLS}

    def granted_tenant(self) -> str:
        """The tenant the authority named; raises Denied (incomplete_authority) when it named none."""
        if self._lineage.tenant is None:
            refusal = Refusal("incomplete_authority", "the authority's block names no tenant", "tenant")
            raise Denied(self.refused((refusal,)))
        return self._lineage.tenant

    def screen(self, action: str, sent: Mapping[str, JSON] | None = None) -> None:
        """Raise Denied if some allowlist has no entry for the action, whatever its arguments.

        `sent` are the arguments, if they are known already and the bearer's own: a denial may name them.
        """
        refusals = tuple(
            attributed(demand.caveat.ruled_out(action), demand)
            for demand in self._lineage.demands
            if isinstance(demand.caveat, Allow) and not demand.caveat.permits(action)
        )
        if refusals:
            raise self._denied(self.refused(refusals, action), action, sent)

    def judge(self, call: Call, *, sent: bool = False) -> Allowed:
        """Every caveat against the call as it is about to be executed; raises Denied with all that refuse.

        `sent` tells that the arguments are what the bearer sent, or defaults of the action, and nothing that the
        service knows: a denial may name them as what to ask for.
        """
        decision = self.decide(call)
        if not decision.allowed:
            raise self._denied(decision, call.action, call.args if sent else None)
        return self._allowed(decision, call)

    async def judge_async(self, call: Call, *, sent: bool = False) -> Allowed:
        """`judge`, done in a thread when it may wait for a disk or a database."""
        if not self.spends:
            return self.judge(call, sent=sent)
        import asyncio

        return await asyncio.to_thread(self.judge, call, sent=sent)

    def decide(self, call: Call) -> Decision:
        """Steps 6-9 as an answer."""
        evaluator = self._evaluator
        facts = evaluator.facts(call)
        if refusals := evaluator.refusals(self._lineage, self._presentation, facts):
            return self.refused(tuple(refusals), call.action)
        try:
            evaluator.recorder.reserve()
        except Unavailable as problem:
            return self.refused((unavailable(problem),), call.action)
        refusals, spent = self._paid(call, facts.now)
        decision = self._decision(tuple(refusals), call.action, facts.now, spent)
        evaluator.recorder.record(decision)
        return decision

    def _paid(self, call: Call, now: int) -> tuple[list[Refusal], tuple[Spent, ...]]:
        """Step 8: spend what the call costs, or say why not; whatever happens, the slot that was taken is used."""
        try:
            return self._payment.pay(call, now=now)
        except StoreProblem as problem:
            diagnostics.warn_once(f"budgets cannot be counted: {problem}")
            return [_UNCOUNTED], ()
        except BaseException:
            self._evaluator.recorder.record(self._decision((_UNCOUNTED,), call.action, now))
            raise

    def _denied(self, decision: Decision, action: str, args: Mapping[str, JSON] | None) -> Denied:
        whole = len(decision.refusals) < MAX_TOLD
        ask = suggested_ask(decision.refusals, audience=decision.audience, action=action, args=args) if whole else None
        return Denied(decision, ask)

    def _allowed(self, decision: Decision, call: Call) -> Allowed:
        lineage = self._lineage
        return Allowed(
            decision_id=decision.id,
            call=call,
            task=lineage.task,
            tenant=lineage.tenant,
            intent=lineage.intent,
            root=lineage.root,
            node=lineage.path[-1],
            hops=lineage.hops,
            expires=lineage.expires,
            spent=self._payment.spent,
            remaining=remaining(self._payment.spent),
        )

    def refuse_unrecorded_if(self, refusal: Refusal | None) -> None:
        """Raise Denied if there is a refusal, before a burn: what can be sent again without end is not recorded."""
        if refusal is not None:
            raise Denied(self._decision((refusal,)))

    def demand_alive(self) -> None:
        """Step 6 alone; raises Denied."""
        evaluator = self._evaluator
        if refusals := evaluator.revocation_refusals(self._lineage, self._presentation, evaluator.age()):
            raise Denied(self.refused(tuple(refusals)))

    def refused(self, refusals: tuple[Refusal, ...], action: str | None = None) -> Decision:
        """The recorded decision of a refusal, cut to what one denial tells."""
        return self._evaluator.recorded(self._decision(refusals[:MAX_TOLD], action))

    def _decision(
        self,
        refusals: tuple[Refusal, ...],
        action: str | None = None,
        now: int | None = None,
        spent: tuple[Spent, ...] = (),
    ) -> Decision:
        return self._evaluator.decision(
            refusals,
            lineage=self._lineage,
            presentation=self._presentation,
            action=action or self._action,
            now=now,
            spent=spent,
        )
