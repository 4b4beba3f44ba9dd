"""An admitted token, and the judging of calls against it: steps 6 to 9 of the verifier.

Laws:

- A call gets a slot in the record before it spends anything. So an allowed call is always recorded, and recording
  cannot change the decision.
- Budgets are spent last, after everything else has passed. So a denied call costs nothing, except that one denied with
  `unavailable` may have been paid: the answer of the meter was lost.
- What is expired or revoked gives nothing back.
- The ask that a denial suggests is for the bearer, and is not recorded.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice

from capx import diagnostics
from capx.background import in_pool
from capx.errors import CapxError, InvalidRequest, Unavailable
from capx.tokens.approval import Approval
from capx.tokens.lineage import Demand, Lineage, attributed
from capx.tokens.signed_blocks import Signature
from capx.verify.decision import Allowed, Decision, Denied, giving_back
from capx.verify.evaluator import MAX_REPORTED, Evaluator, unavailable
from capx.verify.evidence import NotedArgs, ShownToken
from capx.verify.spending import Payment, Spent, remaining
from capx.verify.suggestion import suggested_approval, suggested_ask
from capx_caveats import JSON, Allow, Call, Refusal, is_action, is_label, shown_instant

_UNCOUNTED = Refusal("unavailable", "the cost of this call could not be counted", "try again later")


class Admitted:
    """A token that passed steps 1-6: authentic, made for this request, fresh, unused, and not revoked.

    (A bare token, if the verifier accepts them, is authentic and not revoked.) Its properties are claims of the
    authority's block, and the path of its delegations. It allows nothing yet: only `judge` says whether a call may be
    made.
    """

    __slots__ = (
        "_action",
        "_approvals",
        "_evaluator",
        "_lineage",
        "_own",
        "_payment",
        "_presentation",
        "_token",
        "_unapproved",
        "_unsigned",
    )

    def __init__(
        self,
        evaluator: Evaluator,
        lineage: Lineage,
        presentation: bytes | None,
        action: str | None,
        payment: Payment | None,
        *,
        own: Signature | Refusal | None,
        token: ShownToken,
        approvals: tuple[Approval, ...] = (),
    ) -> None:
        self._evaluator = evaluator
        self._lineage = lineage
        self._presentation = presentation
        self._action = action
        self._payment = payment
        self._own = own
        self._token = token
        self._approvals = approvals
        self._unsigned: tuple[Refusal, ...] | None = None
        self._unapproved: tuple[Refusal, ...] = ()

    @property
    def spends(self) -> bool:
        """Whether judging spends budgets, and so may wait for a disk or a database."""
        return self._payment is not None

    @property
    def task(self) -> str:
        """The task that this token was issued for."""
        return self._lineage.task

    @property
    def tenant(self) -> str | None:
        """The tenant that the authority named; None if it named none.

        It is authentic, so a service may filter its data by it. `judge` must still allow the call.
        """
        return self._lineage.tenant

    @property
    def intent(self) -> str | None:
        """The digest of the intent that the task was opened on; None if there is none."""
        return self._lineage.intent

    @property
    def root(self) -> str:
        """The id of the revocation root."""
        return self._lineage.root

    @property
    def path(self) -> tuple[bytes, ...]:
        """The nodes from the root to the acting agent, 16 bytes each."""
        return self._lineage.path

    @property
    def node(self) -> bytes:
        """The acting agent's node."""
        return self._lineage.node

    @property
    def hops(self) -> tuple[str, ...]:
        """The labels along the path. Delegators chose them, so do not decide by them."""
        return self._lineage.hops

    def _signature_refusals(self) -> tuple[Refusal, ...]:
        """Step 6.1. It is taken once, at the first look behind the burn."""
        if self._unsigned is None:
            self._unsigned = self._evaluator.signature_refusals(self._lineage, self._own)
            if self._approvals:
                self._unapproved = self._evaluator.approval_refusals(self._lineage, self._approvals)
        return (*self._unsigned, *self._unapproved) if self._unapproved else self._unsigned

    def screen(self, action: str, args: Mapping[str, JSON] | None = None) -> None:
        """Raise Denied if some allowlist has no entry for the action, whatever its arguments are.

        For a service that does not know the arguments yet. If it returns, nothing is allowed: `judge` decides. `args`
        are the arguments, if they are known already and come from the bearer: a denial may then name them.
        """
        if refusals := self.ruled_out(action):
            raise self._denied(self.recorded_denial(refusals, action, self._noted(action, args)), action, args)

    def permits(self, action: str) -> bool:
        """Whether every allowlist has an entry for the action, whatever its arguments are."""
        return next(self._ruling_out(action), None) is None

    def ruled_out(self, action: str) -> tuple[Refusal, ...]:
        """The refusals of the first MAX_REPORTED allowlists that have no entry for the action; nothing is recorded."""
        # Cut before they are written: a sentence takes time that grows with its allowlist.
        found = islice(self._ruling_out(action), MAX_REPORTED)
        return tuple([attributed(allow.ruled_out(action), demand) for allow, demand in found])

    def _ruling_out(self, action: str) -> Iterator[tuple[Allow, Demand]]:
        for demand in self._lineage.demands:
            if isinstance(demand.caveat, Allow) and not demand.caveat.permits(action):
                yield demand.caveat, demand

    def demand_tenant(self, action: str, tenant: object) -> None:
        """Raise Denied unless this tenant is the one that the authority named.

        Call it before anything else is read of a row. The bearer must not learn any fact of another tenant, so nothing
        else of the call is judged, and the denial is the same for every other tenant, for None, and for a missing row.
        If the authority named none, only None passes.
        """
        if tenant == self._lineage.tenant:
            return
        why = ""
        if tenant is None:
            why = "the service states no tenant"
        elif not (isinstance(tenant, str) and is_label(tenant)):
            why = "the service states a tenant that is no label"
        raise self.missing_row(action, why)

    def missing_row(self, action: str, why: str = "") -> Denied:
        """Return the denial of a call about a missing row, or one of another tenant: raise it.

        It is recorded, and the log has `why`.
        """
        unsigned = self._signature_refusals()
        refusals = self._evaluator.foreign_refusals(self._lineage, self._presentation, why)
        return Denied(self.recorded_denial((*unsigned, *refusals), action if is_action(action) else None))

    def denied_by(self, decision: Decision) -> bool:
        """Whether this decision denies a call of this presentation."""
        # Presentations of one capability share a lineage, which the cache keeps.
        is_this = decision.lineage is self._lineage and decision.presented == self._presentation
        return is_this and not decision.allowed

    def as_missing(self, decision: Decision) -> Denied:
        """Return what the bearer is told of a denial that is recorded already, as if the row were missing."""
        unsigned = self._signature_refusals()
        refusals = self._evaluator.foreign_refusals(self._lineage, self._presentation)
        return Denied(decision, told=(*unsigned, *refusals))

    def judge(self, call: Call, *, sent: bool = False) -> Allowed:
        """Check every caveat against the call as it is about to be executed; raises Denied with all refusals.

        If the call is of another tenant than the token, it is denied with that reason and no reason of a caveat.

        When it returns, exactly this call may be made, now. It is recorded, and its budgets are spent. `sent` says
        that the arguments come from the bearer or are defaults of the action, and hold nothing that only the service
        knows. A denial may then name them in the ask that it suggests.
        """
        self.demand_tenant(call.action, call.tenant)
        decision = self.decide(call)
        if not decision.allowed:
            raise self._denied(decision, call.action, call.arguments if sent else None)
        return self._allowed(decision, call)

    async def judge_async(self, call: Call, *, sent: bool = False) -> Allowed:
        """`judge` for async code: it runs in a thread when it may wait for a disk or a database."""
        if not self.spends:
            return self.judge(call, sent=sent)
        # Before the thread: to wait for one would show that there is a row.
        self.demand_tenant(call.action, call.tenant)
        return await in_pool(lambda: self.judge(call, sent=sent))

    def decide(self, call: Call) -> Decision:
        """Steps 6-9, with every reason, also for a call of another tenant; it checks revocations again (step 6).

        It is for the service and its log, and does not raise Denied. Never show the reasons to the bearer.
        """
        evaluator = self._evaluator
        facts = evaluator.facts(call)
        # Before anything is spent: an argument that cannot be read must not break the record of a payment.
        args = self._noted(call.action, call.arguments)
        unsigned = self._signature_refusals()
        refusals = evaluator.refusals(self._lineage, self._presentation, facts)
        if refusals or unsigned:
            return self.recorded_denial((*unsigned, *refusals), call.action, args)
        # The slot comes first: if spending came first, a call could be paid for and then not be recordable.
        try:
            evaluator.recorder.reserve()
        except Unavailable as problem:
            return self.recorded_denial((unavailable(problem),), call.action, args)
        refusals, spent = self._paid(call, facts.now, args)
        decision = self._decision(tuple(refusals), call.action, facts.now, spent, args)
        evaluator.record(decision, self._approvals)
        return decision

    def _paid(self, call: Call, now: int, args: NotedArgs | None) -> tuple[list[Refusal], tuple[Spent, ...]]:
        """Step 8: spend what the call costs, or return the refusals."""
        if self._payment is None:
            return [], ()
        try:
            return self._payment.pay(call, now=now)
        except CapxError as problem:
            diagnostics.warn_once(f"budgets cannot be counted: {problem}")
            return [_UNCOUNTED], ()
        except BaseException:
            # The reserved slot must be used, or the recorder would have one slot less for ever.
            decision = self._decision((_UNCOUNTED,), call.action, now, args=args)
            self._evaluator.record(decision, self._approvals)
            raise

    def _denied(self, decision: Decision, action: str, args: Mapping[str, JSON] | None) -> Denied:
        # A list that was cut may lack a refusal that no grant can cure: then no ask is suggested.
        whole = len(decision.refusals) < MAX_REPORTED
        ask = suggested_ask(decision.refusals, audience=decision.audience, action=action, args=args) if whole else None
        approve = suggested_approval(decision.refusals, audience=decision.audience, action=action, args=args)
        return Denied(decision, ask, sent=args is not None, approve=approve if whole else None)

    def _allowed(self, decision: Decision, call: Call) -> Allowed:
        lineage, payment = self._lineage, self._payment
        spent = () if payment is None else payment.spent
        allowed = Allowed(
            decision=decision,
            call=call,
            task=lineage.task,
            tenant=lineage.tenant,
            intent=lineage.intent,
            root=lineage.root,
            node=lineage.node,
            hops=lineage.hops,
            expires=lineage.expires,
            spent=spent,
            remaining=remaining(spent),
        )
        return allowed if payment is None else giving_back(allowed, partial(self._give_back, payment, decision.id))

    def _give_back(self, payment: Payment, decision: str, reason: str) -> dict[str, str]:
        """Give back what was paid; InvalidRequest if the token has expired or is not known to live."""
        evaluator, lineage = self._evaluator, self._lineage
        now = evaluator.now()
        # Some time after it expires, `prune` deletes what it paid.
        if now >= lineage.expires:
            raise InvalidRequest(f"this token expired at {shown_instant(lineage.expires)}: it gives nothing back")
        for refusal in evaluator.life_refusals(lineage, self._presentation, evaluator.age()):
            raise InvalidRequest(f"this token gives nothing back: {refusal.sentence}")
        return payment.give_back(decision, reason, now=now)

    def unrecorded_denial(self, refusal: Refusal) -> Decision:
        """A denial that is not recorded: before the burn, anybody could send the presentation endlessly."""
        return self._decision((refusal,))

    def demand_alive(self) -> None:
        """Step 6: raise Denied for a wrong signature, a revocation, or news of revocations that is missing or old."""
        evaluator = self._evaluator
        unsigned = self._signature_refusals()
        refusals = evaluator.life_refusals(self._lineage, self._presentation, evaluator.age())
        if refusals or unsigned:
            raise Denied(self.recorded_denial((*unsigned, *refusals)))

    def recorded_denial(
        self, refusals: tuple[Refusal, ...], action: str | None = None, args: NotedArgs | None = None
    ) -> Decision:
        """A denial with these refusals, at most MAX_REPORTED, recorded if there is room.

        Who has read a token and has not its key must not be able to fill the log: their denials are recorded once a
        minute.
        """
        decision = self._decision(refusals[:MAX_REPORTED], action, args=args)
        if self._unsigned:
            return self._evaluator.recorded_once(decision, self._lineage.minted, self._unsigned)
        return self._evaluator.recorded(decision, self._approvals)

    def _noted(self, action: str, args: Mapping[str, JSON] | None) -> NotedArgs | None:
        return None if args is None else self._evaluator.noted(self.node, action, args)

    def _decision(
        self,
        refusals: tuple[Refusal, ...],
        action: str | None = None,
        now: int | None = None,
        spent: tuple[Spent, ...] = (),
        args: NotedArgs | None = None,
    ) -> Decision:
        signed = self._unsigned == ()
        return self._evaluator.decision(
            refusals,
            lineage=self._lineage if signed else self._evaluator.proven(self._lineage),
            signed=signed,
            presentation=self._presentation,
            action=action or self._action,
            now=now,
            spent=spent,
            args=args,
            # What its holder's key did not sign proves nothing of the holder.
            token=self._token if signed else None,
            approvals=self._approvals,
        )
