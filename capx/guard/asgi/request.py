"""One request on its way through a guard: the guard admits it, and the application has its call judged.

Law: a denial is final for the request. If the code behind the guard catches it and goes on, the guard still answers
with the denial, or withholds the answer of that code.
"""

import os
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Final, NoReturn, Unpack

from msgspec import UNSET

from capx.errors import ConfigurationProblem
from capx.guard.call_facts import CallFacts, StatedFacts
from capx.verify.admitted import Admitted
from capx.verify.decision import NO_TOKEN, Allowed, Denied
from capx.verify.suggestion import suggested_ask
from capx.verify.verifier import Verifier
from capx_caveats import JSON, Amount, Refusal

KEY: Final = "capx.passage"
"""The key under which an ASGI scope holds the guarded request."""

_INDEPENDENT_OF_ROW = frozenset(
    {
        "action_not_allowed",
        "argument_not_named",
        "budget_exhausted",
        "expired",
        "misplaced",
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
"""Codes of denials that would be the same for any row, so that they show nothing about the row."""


class GuardedRequest:
    """The state of one request in a guard.

    `admitted` is None on a public path without a token. `allowed` is the last decision that allowed a call, `denied`
    the first denial. If `entered` is true, an endpoint that must have its call judged has begun. `advice` is what a
    denial adds to the ask that it suggests.
    """

    __slots__ = ("_verifier", "admitted", "advice", "allowed", "denied", "entered", "public")

    def __init__(self, verifier: Verifier, *, public: bool) -> None:
        self._verifier = verifier
        self.public = public
        self.admitted: Admitted | None = None
        self.allowed: Allowed | None = None
        self.denied: Denied | None = None
        self.entered = False
        self.advice = ""

    async def screen_naming(self, action: str, args: Callable[[], Awaitable[Mapping[str, JSON] | None]]) -> None:
        """Raise Denied unless the request was admitted and its token can allow the action at all.

        If the denial suggests an ask, it names the arguments that `args` returns. They are what the bearer sent, or
        defaults of the action; None if they are not known.
        """
        with self._keeping_denial():
            admitted = self._admitted_or_denied()
            refusals = admitted.ruled_out(action)
            # The arguments are read only if an ask can name them: reading them is work for the service.
            ask = suggested_ask(refusals, audience=self._verifier.audience, action=action) if refusals else None
            admitted.screen(action, None if ask is None else await args())

    def judge(self, action: str, args: Mapping[str, JSON], **facts: Unpack[StatedFacts]) -> Allowed:
        """Judge the call that is about to run, and return the decision; raises Denied.

        `facts` are `tenant` (which may be GRANTED), `attributes`, `cost` and `sent`. `cost` is the cost in each unit
        except `calls`. If a request is judged several times, it pays the price of the dearest call that was allowed,
        once. Spending may wait for a disk or a database, so async code uses `judge_async`. If `sent` is true, the
        arguments are what the bearer sent, or defaults of the action: a denial may name their values.
        """
        return self.judge_call(CallFacts(action, args, **facts))

    async def judge_async(self, action: str, args: Mapping[str, JSON], **facts: Unpack[StatedFacts]) -> Allowed:
        """Do the same as `judge`, with blocking work in a thread."""
        return await self.judge_call_async(CallFacts(action, args, **facts))

    def judge_call(self, facts: CallFacts) -> Allowed:
        """Do the same as `judge`, for facts that were stated already."""
        with self._keeping_denial():
            admitted = self._admitted_or_denied()
            self.allowed = admitted.judge(facts.call(admitted), sent=facts.sent)
            return self.allowed

    async def judge_call_async(self, facts: CallFacts) -> Allowed:
        """Do the same as `judge_call`, with blocking work in a thread."""
        with self._keeping_denial():
            admitted = self._admitted_or_denied()
            self.allowed = await admitted.judge_async(facts.call(admitted), sent=facts.sent)
            return self.allowed

    def judge_row(self, facts: CallFacts) -> Allowed:
        """Judge a call with facts of a stored row; a denial because of the row reads as if the row did not exist."""
        try:
            return self.judge_call(facts)
        except Denied as denied:
            self._demand_about_row(denied)
        # Outside the block: the denial of `miss` must not carry the denial with the row's data as its context.
        return self.miss(facts)

    async def judge_row_async(self, facts: CallFacts) -> Allowed:
        """Do the same as `judge_row`, with blocking work in a thread."""
        try:
            return await self.judge_call_async(facts)
        except Denied as denied:
            self._demand_about_row(denied)
        return self.miss(facts)

    def miss(self, facts: CallFacts) -> NoReturn:
        """Deny the call as for a row of an unknown tenant; always raises Denied.

        The bearer cannot tell a missing row from a row of another tenant.
        """
        # State a cost of 0 in every unit: a denial for a missing unit would show that no row was read.
        nothing: dict[str, Amount] = dict.fromkeys(self._admitted_or_denied().units, "0")
        # A random tenant: nobody can hold a token for it.
        self.judge_call(CallFacts(facts.action, facts.args, tenant=os.urandom(12).hex(), cost=nothing))
        raise ConfigurationProblem("the token names no tenant, so a missing row cannot be denied: issue one that does")

    def refuse(self, action: str, refusal: Refusal) -> NoReturn:
        """Deny a call whose facts could not be stated, and record the decision; always raises Denied."""
        with self._keeping_denial():
            raise Denied(self._admitted_or_denied().refused((refusal,), action))

    def _admitted_or_denied(self) -> Admitted:
        if self.admitted is None:
            raise self._verifier.denial(NO_TOKEN)
        return self.admitted

    @contextmanager
    def _keeping_denial(self) -> Generator[None]:
        # The response gate looks at `denied`: code that catches a Denied cannot make the guard forget it.
        try:
            yield
        except Denied as denied:
            if denied.ask is not None:
                denied.advice = self.advice
            self.denied = self.denied or denied
            raise

    def _demand_about_row(self, denied: Denied) -> None:
        """Forget a denial that the row may have caused; raise any other."""
        if not any(map(_may_be_about_row, denied.refusals)):
            raise denied
        # `miss` sets it anew, to a denial without facts of the row.
        self.denied = None


def _may_be_about_row(refusal: Refusal) -> bool:
    # The refusal of an argument that the bearer sent holds its value; one about the row's data holds none.
    if refusal.code == "argument_refused":
        return refusal.given is UNSET
    # By the list of what is independent: a code that is not known here counts as one that depends on the row.
    return refusal.code not in _INDEPENDENT_OF_ROW
