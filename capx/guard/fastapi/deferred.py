"""The checks with which a deferred endpoint has its call judged, after it has read the row.

Law: the bearer gets the same answer for a row that it may not see and for a row that does not exist.
"""

from collections.abc import Mapping
from typing import NoReturn

from msgspec.structs import replace

from capx.guard.asgi.request import GuardedRequest
from capx.guard.call_facts import CallFacts
from capx.verify.decision import Allowed
from capx_caveats import JSON, Amount


class _RowCheck:
    """Holds the facts of the call that are known before the row."""

    def __init__(self, current: GuardedRequest, facts: CallFacts) -> None:
        self._request = current
        self._facts = facts

    def missing(self) -> NoReturn:
        """Deny the call as for a row of another tenant, so that the bearer does not learn whether the row exists."""
        self._request.miss(self._facts)


class SyncCheck(_RowCheck):
    """The check of a plain function: `check(tenant=row.tenant, cost={"eur": row.price})`."""

    def __call__(
        self,
        *,
        tenant: str | None = None,
        attributes: Mapping[str, JSON] | None = None,
        cost: Mapping[str, Amount] | None = None,
    ) -> Allowed:
        """Judge the call with facts of the service's own data; raises Denied, which the endpoint must not catch."""
        return self._request.judge_row(replace(self._facts, tenant=tenant, attributes=attributes, cost=cost))


class Check(_RowCheck):
    """The check of an async function: `await check(tenant=row.tenant)`."""

    async def __call__(
        self,
        *,
        tenant: str | None = None,
        attributes: Mapping[str, JSON] | None = None,
        cost: Mapping[str, Amount] | None = None,
    ) -> Allowed:
        """Judge the call with facts of the service's own data; raises Denied, which the endpoint must not catch."""
        facts = replace(self._facts, tenant=tenant, attributes=attributes, cost=cost)
        return await self._request.judge_row_async(facts)
