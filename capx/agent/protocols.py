"""The protocols of what agents and their adapters are given: who acts for a holder, and a guard of calls."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from capx.agent.agent_authority import AgentAuthority
from capx.tokens.bundle import Bundle
from capx.verify.decision import Allowed


@runtime_checkable
class ActsForHolder(Protocol):
    """Acts for the holder of any bundle: an `Authority` of this process, or an `AuthorityClient`."""

    def acting_for(self, bundle: Bundle, /) -> AgentAuthority:
        """Return the same authority for the holder of this bundle."""
        ...


class JudgesCalls(Protocol):
    """A guard of calls whose functions are not the caller's: `capx.guard.ToolGuard`."""

    def judging(
        self, action: str, args: Mapping[str, Any], *rest: Any, **facts: Any
    ) -> AbstractContextManager[Allowed]:
        """Judge one call, with these facts, and let the block make it."""
        ...

    def judging_async(
        self, action: str, args: Mapping[str, Any], *rest: Any, **facts: Any
    ) -> AbstractAsyncContextManager[Allowed]:
        """`judging`, for async code."""
        ...
