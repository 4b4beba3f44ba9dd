"""The checks with which a deferred endpoint has its call judged, after it has read the row.

Law: the bearer gets the same answer for a row of another tenant, for a row without a tenant, for a row that its token
does not reach, and for a row that does not exist. Each is one decision. No other fact is read of a row of another
tenant.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, NoReturn, TypeVar

from capx.guard.call_facts import CallFacts, StatedArguments
from capx.guard.guarded_request import GuardedRequest
from capx.verify.decision import Allowed
from capx_caveats import JSON, Amount

Read = TypeVar("Read")


class _RowCheck(Generic[Read]):
    """Holds what is known of the call before the row; `args` returns the arguments, or denies the call."""

    def __init__(self, current: GuardedRequest, action: str, args: Read, *, sent: bool) -> None:
        self._request = current
        self._action = action
        self._args = args
        self._sent = sent

    def missing(self) -> NoReturn:
        """Deny the call as for a row of another tenant, so that the bearer does not learn whether the row exists."""
        self._request.deny_missing_row(self._action)

    def _demand_row(self, tenant: str | None) -> None:
        """Deny a call about a row of another tenant, before anything is derived from it."""
        self._request.demand_row(self._action, tenant)

    def _facts(
        self,
        stated: StatedArguments,
        tenant: str | None,
        attributes: Mapping[str, JSON] | None,
        cost: Mapping[str, Amount] | None,
    ) -> CallFacts:
        args, defaults = stated
        return CallFacts(self._action, args, tenant, attributes, cost, self._sent, defaults, is_json=True)


class SyncCheck(_RowCheck[Callable[[], StatedArguments]]):
    """The check of a plain function: `check(tenant=row.tenant, cost={"eur": row.price})`."""

    def __call__(
        self,
        *,
        tenant: str | None = None,
        attributes: Mapping[str, JSON] | None = None,
        cost: Mapping[str, Amount] | None = None,
    ) -> Allowed:
        """Judge the call with facts of the service's own data; raises Denied, which the endpoint must not catch."""
        self._demand_row(tenant)
        return self._request.judge_row(self._facts(self._args(), tenant, attributes, cost))


class Check(_RowCheck[Callable[[], Awaitable[StatedArguments]]]):
    """The check of an async function: `await check(tenant=row.tenant)`."""

    async def __call__(
        self,
        *,
        tenant: str | None = None,
        attributes: Mapping[str, JSON] | None = None,
        cost: Mapping[str, Amount] | None = None,
    ) -> Allowed:
        """Judge the call with facts of the service's own data; raises Denied, which the endpoint must not catch."""
        self._demand_row(tenant)
        return await self._request.judge_row_async(self._facts(await self._args(), tenant, attributes, cost))
