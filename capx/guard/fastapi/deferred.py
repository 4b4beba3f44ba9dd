"""What a deferred endpoint is given to have its call judged once it knows the row.

Law: a row that is refused and a row that is not there are answered alike.
"""

from collections.abc import Mapping
from typing import NoReturn

from capx.guard.asgi.request import GuardedRequest
from capx.verify.decision import Allowed
from capx_caveats import JSON, Amount


class SyncCheck:
    """The check of a plain function: `check(tenant=row.tenant, cost={"eur": row.price})`."""

    def __init__(self, current: GuardedRequest, action: str, args: Mapping[str, JSON], *, sent: bool) -> None:
        self._request = current
        self._action = action
        self._args = args
        self._sent = sent

    def __call__(
        self,
        *,
        tenant: str | None = None,
        attributes: Mapping[str, JSON] | None = None,
        cost: Mapping[str, Amount] | None = None,
    ) -> Allowed:
        """Judge the call with facts of the service's own data; raises Denied, which is to be let through."""
        return self._request.judge_row(
            self._action, self._args, tenant=tenant, attributes=attributes, cost=cost, sent=self._sent
        )

    def missing(self) -> NoReturn:
        """Answer as for a foreign tenant's row: whether there is one is not told."""
        self._request.miss(self._action, self._args)


class Check:
    """The check of an async function: `await check(tenant=row.tenant)`."""

    def __init__(self, current: GuardedRequest, action: str, args: Mapping[str, JSON], *, sent: bool) -> None:
        self._request = current
        self._action = action
        self._args = args
        self._sent = sent

    async def __call__(
        self,
        *,
        tenant: str | None = None,
        attributes: Mapping[str, JSON] | None = None,
        cost: Mapping[str, Amount] | None = None,
    ) -> Allowed:
        """Judge the call with facts of the service's own data; raises Denied, which is to be let through."""
        return await self._request.judge_row_async(
            self._action, self._args, tenant=tenant, attributes=attributes, cost=cost, sent=self._sent
        )

    def missing(self) -> NoReturn:
        """Answer as for a foreign tenant's row: whether there is one is not told."""
        self._request.miss(self._action, self._args)
