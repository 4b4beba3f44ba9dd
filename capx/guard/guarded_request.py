"""One request on its way through a guard: the guard admits it, and the application has its call judged.

Law: a denial is final for the request. If the code behind the guard catches it and goes on, the guard still answers
with the denial, or withholds the answer of that code.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, NoReturn, TypeVar, Unpack, cast

from msgspec import UNSET

from capx.background import FewThreads, in_pool
from capx.guard.call_facts import CallFacts, CallSpec, StatedFacts, own_tenant
from capx.guard.observer import Observer
from capx.verify.admitted import Admitted
from capx.verify.decision import NO_TOKEN, Allowed, Decision, Denied
from capx.verify.evaluator import MAX_REPORTED
from capx.verify.verifier import Verifier
from capx_caveats import JSON, Refusal

T = TypeVar("T")

SMALL_BODY: Final = 1024
"""The most bytes of a body whose call is judged on the event loop: a thread would cost more than the work."""
_THREADS: Final = FewThreads("capx-large")
_INDEPENDENT_OF_ROW: Final = frozenset(
    {
        "action_not_allowed",
        "argument_not_named",
        "bad_discharge",
        "budget_exhausted",
        "expired",
        "misplaced",
        "needs_discharge",
        "no_meter",
        "not_yet",
        "replayed",
        "revoked",
        "stale_liveness",
        "task_completed",
        "task_expired",
        "task_withdrawn",
        "too_many_hops",
        "unavailable",
        "unknown_liveness",
    }
)
"""Codes that the bearer is told as they are. They are the same for any row of the tenant, but for `budget_exhausted`,
which can depend on what the row costs: docs/security-model.md says so."""


class GuardedRequest:
    """The state of one request in a guard.

    `admitted` is None on a public path without a token. `allowed` is the last decision that allowed a call, `denied`
    the first denial. If `entered` is true, an endpoint that must have its call judged has begun. `advice` is what a
    denial adds to the ask that it suggests. If `large` is true, its body has more than SMALL_BODY bytes.
    """

    __slots__ = (
        "_observer",
        "_verifier",
        "admitted",
        "advice",
        "allowed",
        "denied",
        "entered",
        "large",
        "public",
        "started",
    )

    def __init__(self, verifier: Verifier, observer: Observer, *, public: bool) -> None:
        self._verifier = verifier
        self._observer = observer
        self.started = observer.started()
        self.public = public
        self.admitted: Admitted | None = None
        self.allowed: Allowed | None = None
        self.denied: Denied | None = None
        self.entered = False
        self.large = False
        self.advice = ""

    async def screen_naming(self, action: str, args: Callable[[], Awaitable[Mapping[str, JSON] | None]]) -> None:
        """Raise Denied unless the request was admitted and its token can allow the action at all.

        If the denial suggests an ask, it names the arguments that `args` returns. They are what the bearer sent, or
        defaults of the action; None if they are not known.
        """
        with self._keeping_denial():
            admitted = self._admitted_or_denied()
            # The arguments are read only for a denial: reading them is work for the service.
            if not admitted.permits(action):
                admitted.screen(action, await args())

    def judge(self, action: str, args: Mapping[str, JSON], **facts: Unpack[StatedFacts]) -> Allowed:
        """Judge the call that is about to run, and return the decision; raises Denied.

        `facts` are those of `CallFacts`. If a request is judged several times, it pays the price of the dearest call
        that was allowed, once. Spending may wait for a disk or a database, so async code uses `judge_async`.
        """
        return self.judge_call(CallFacts(action, args, **facts))

    async def judge_async(self, action: str, args: Mapping[str, JSON], **facts: Unpack[StatedFacts]) -> Allowed:
        """Do the same as `judge`, with blocking work in a thread."""
        return await self.judge_call_async(CallFacts(action, args, **facts))

    def judge_call(self, facts: CallFacts) -> Allowed:
        """Do the same as `judge`, for facts that were stated already."""
        with self._keeping_denial():
            admitted = self._admitted_or_denied()
            return self._noted(admitted.judge(facts.call(admitted), sent=facts.sent))

    async def judge_call_async(self, facts: CallFacts) -> Allowed:
        """Do the same as `judge_call`, with blocking work, and that of a large request, in a thread."""
        with self._keeping_denial():
            admitted = self._admitted_or_denied()
            # Before a thread: to wait for one would show that there is a row.
            own_tenant(admitted, facts.action, facts.tenant)

            def judge() -> Allowed:
                return admitted.judge(facts.call(admitted), sent=facts.sent)

            # Not in the pool if it is large, even if it pays: presentations are burnt there.
            in_loops_pool = admitted.spends and not self.large
            return self._noted(await in_pool(judge) if in_loops_pool else await self.computed(judge))

    async def computed(self, work: Callable[[], T]) -> T:
        """Do what may take long only for a large request; then in a thread, so that it does not hold up the others."""
        if not self.large:
            return work()
        # By task: a holder can make any number of tokens, and not one task.
        return await _THREADS.run(self._admitted_or_denied().task, work)

    def judge_row(self, facts: CallFacts) -> Allowed:
        """Judge a call with facts of a stored row of the token's tenant.

        If the row may be the reason of a denial, the bearer is told what it is told of a missing row. The decision in
        the log has the real reasons.
        """
        try:
            return self.judge_call(facts)
        except Denied as denied:
            decision = self._about_row(denied)
        # Outside the block: what is raised must not carry the denial with the row's data as its context.
        raise self._as_missing(decision)

    async def judge_row_async(self, facts: CallFacts) -> Allowed:
        """Do the same as `judge_row`, with blocking work in a thread."""
        try:
            return await self.judge_call_async(facts)
        except Denied as denied:
            decision = self._about_row(denied)
        raise self._as_missing(decision)

    def demand_row(self, action: str, tenant: str | None) -> None:
        """Raise the Denied of a missing row, unless a row of this tenant is the token's."""
        with self._keeping_denial():
            self._admitted_or_denied().demand_tenant(action, tenant)

    def deny_missing_row(self, action: str) -> NoReturn:
        """Deny the call as for a row of another tenant; always raises Denied.

        So the bearer cannot tell a missing row from a row of another tenant.
        """
        with self._keeping_denial():
            raise self._admitted_or_denied().missing_row(action, "the service found no such row")

    def own_tenant(self, call: CallSpec, values: Mapping[str, Any]) -> str | None:
        """Return the tenant of a call with these values of arguments; raises Denied unless it is the token's."""
        with self._keeping_denial():
            return call.own_tenant(self._admitted_or_denied(), values)

    def deny(self, action: str, refusal: Refusal, *, sent: bool) -> NoReturn:
        """Deny a call whose facts could not be stated, and record the decision; always raises Denied."""
        with self._keeping_denial():
            raise Denied(self._admitted_or_denied().recorded_denial((refusal,), action), sent=sent)

    def keep_own_denial(self, error: BaseException) -> None:
        """Keep a denial that the application got from `admitted` itself and raised: it is an answer like any other."""
        for denied in denials(error):
            if self.denied is None and self.admitted is not None and self.admitted.denied_by(denied.decision):
                self.denied = denied
                self._observer.decided(denied.decision, self.started)

    def _admitted_or_denied(self) -> Admitted:
        if self.admitted is None:
            raise self._verifier.denial(NO_TOKEN)
        return self.admitted

    def _noted(self, allowed: Allowed) -> Allowed:
        self.allowed = allowed
        self._observer.decided(allowed.decision, self.started)
        return allowed

    def _keeping_denial(self) -> "_KeepingDenial":
        return _KeepingDenial(self)

    def keep(self, denied: Denied) -> None:
        """Keep a denial of this request, and report it.

        Here and not with the answer: code that catches the denial may keep it from being answered. The response gate
        looks at `denied`, so that code cannot make the guard forget it.
        """
        if denied.ask is not None:
            denied.advice = self.advice
        self.denied = self.denied or denied
        self._observer.decided(denied.decision, self.started)

    def _about_row(self, denied: Denied) -> Decision:
        """Return the decision of a denial that the row may have caused; raise any other denial."""
        refusals = denied.decision.refusals
        # A list that was cut may lack one that is.
        if len(refusals) < MAX_REPORTED and not any(map(_may_be_about_row, refusals)):
            raise denied
        return denied.decision

    def _as_missing(self, decision: Decision) -> Denied:
        told = self._admitted_or_denied().as_missing(decision)
        if self.denied is not None and self.denied.decision is decision:
            self.denied = told
        return told


class _KeepingDenial:
    """A block whose denial the request keeps. As a generator it would cost a call more than the MAC of its token."""

    __slots__ = ("_current",)

    def __init__(self, current: GuardedRequest) -> None:
        self._current = current

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Denied):
            self._current.keep(error)


def denials(error: BaseException) -> Iterator[Denied]:
    """Yield an error, and those that it holds or that were handled when it arose, as far as they are denials.

    So a denial is found in the group of a task group, and in the context of what a handler of errors raised.
    """
    # Chains of contexts can have loops.
    seen = set[int]()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Denied):
            yield one
        waiting += (one.__context__, one.__cause__)
        if isinstance(one, BaseExceptionGroup):
            waiting += cast("BaseExceptionGroup[BaseException]", one).exceptions


def _may_be_about_row(refusal: Refusal) -> bool:
    # The refusal of an argument holds its value; one about an attribute holds none.
    if refusal.code == "argument_refused":
        return refusal.given is UNSET
    # By the list of what is independent: a code that is not known here counts as one that depends on the row.
    return refusal.code not in _INDEPENDENT_OF_ROW
