"""One request on its way through a guard: admitted, judged, refused.

Law: a refusal sticks. Whatever the code behind the guard makes of it, nothing but the refusal is answered.
"""

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final, NoReturn

from msgspec import UNSET

from capx.errors import ConfigurationProblem
from capx.guard.call_facts import CallFacts, GrantedTenant
from capx.verify.admitted import Admitted
from capx.verify.decision import NO_TOKEN, Allowed, Denied
from capx.verify.verifier import Verifier
from capx_caveats import JSON, Amount, Refusal

KEY: Final = "capx.passage"
"""Where an ASGI scope holds the guarded request."""

_NO_ROW_NEEDED = frozenset(
    {
        "action_not_allowed",
        "argument_not_named",
        "budget_exhausted",
        "expired",
        "misplaced",
        "no_meter",
        "not_yet",
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
"""What refuses whatever the data is."""


class GuardedRequest:
    """What a guard knows of one request.

    `admitted` is None where nobody needs to be; `allowed` is the last decision that let it pass, `denied` the first
    that did not; `entered` tells that code behind the guard ran which must still have its call judged.
    """

    __slots__ = ("_verifier", "admitted", "allowed", "denied", "entered", "public")

    def __init__(self, verifier: Verifier, *, public: bool) -> None:
        self._verifier = verifier
        self.public = public
        self.admitted: Admitted | None = None
        self.allowed: Allowed | None = None
        self.denied: Denied | None = None
        self.entered = False

    def screen(self, action: str) -> None:
        """Raise Denied unless somebody was admitted whom the action is allowed to at all."""
        with self._sticking():
            self._someone().screen(action)

    def judge(
        self,
        action: str,
        args: Mapping[str, JSON],
        *,
        tenant: str | GrantedTenant | None = None,
        attributes: Mapping[str, JSON] | None = None,
        cost: Mapping[str, Amount] | None = None,
        sent: bool = False,
    ) -> Allowed:
        """The decision on the call about to be executed; raises Denied.

        `cost` is what it costs in each unit besides `calls`. However often a request is judged, it has paid what the
        dearest call that was allowed cost. To spend may be to wait for a disk or a database: async code awaits
        `judge_async`. `sent` tells that the arguments are what the bearer sent, or defaults of the action: a denial may
        name them.
        """
        return self.judge_call(CallFacts(action, args, tenant, attributes, cost, sent))

    async def judge_async(
        self,
        action: str,
        args: Mapping[str, JSON],
        *,
        tenant: str | GrantedTenant | None = None,
        attributes: Mapping[str, JSON] | None = None,
        cost: Mapping[str, Amount] | None = None,
        sent: bool = False,
    ) -> Allowed:
        """`judge`, with what may wait done in a thread."""
        return await self.judge_call_async(CallFacts(action, args, tenant, attributes, cost, sent))

    def judge_call(self, facts: CallFacts) -> Allowed:
        """`judge`, of a call that was stated."""
        with self._sticking():
            admitted = self._someone()
            self.allowed = admitted.judge(facts.call(admitted), sent=facts.sent)
            return self.allowed

    async def judge_call_async(self, facts: CallFacts) -> Allowed:
        """`judge_call`, with what may wait done in a thread."""
        with self._sticking():
            admitted = self._someone()
            self.allowed = await admitted.judge_async(facts.call(admitted), sent=facts.sent)
            return self.allowed

    def judge_row(self, facts: CallFacts) -> Allowed:
        """`judge_call` for facts of stored data: what the data refuses is told as if there were none."""
        try:
            return self.judge_call(facts)
        except Denied as denied:
            self._demand_of_the_row(denied)
        return self.miss(facts)

    async def judge_row_async(self, facts: CallFacts) -> Allowed:
        """`judge_row`, with what may wait done in a thread."""
        try:
            return await self.judge_call_async(facts)
        except Denied as denied:
            self._demand_of_the_row(denied)
        return self.miss(facts)

    def miss(self, facts: CallFacts) -> NoReturn:
        """Refuse, as a row of a tenant that nobody knows would be refused; always raises Denied."""
        # At no cost: a budget whose unit is not stated would tell that no row was read.
        nothing: dict[str, Amount] = dict.fromkeys(self._someone().units, "0")
        self.judge_call(CallFacts(facts.action, facts.args, tenant=os.urandom(12).hex(), cost=nothing))
        raise ConfigurationProblem("a tenant that nobody knows was allowed")

    def refuse(self, action: str, refusal: Refusal) -> NoReturn:
        """Refuse a call that could not be stated; recorded; always raises Denied."""
        with self._sticking():
            raise Denied(self._someone().refused((refusal,), action))

    def _someone(self) -> Admitted:
        if self.admitted is None:
            raise self._verifier.denial(NO_TOKEN)
        return self.admitted

    @contextmanager
    def _sticking(self) -> Generator[None]:
        try:
            yield
        except Denied as denied:
            self.denied = self.denied or denied
            raise

    def _demand_of_the_row(self, denied: Denied) -> None:
        """Forget a refusal by the data; raise any other."""
        if not any(map(_by_the_row, denied.refusals)):
            raise denied
        self.denied = None


def _by_the_row(refusal: Refusal) -> bool:
    """Whether it may be the data that refuses; the refusal of an argument says what was given."""
    if refusal.code == "argument_refused":
        return refusal.given is UNSET
    return refusal.code not in _NO_ROW_NEEDED
