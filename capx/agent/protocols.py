"""The protocols of what agents and their adapters call: an authority, and a guard of calls."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from capx.api.messages.agents import AgentStatus
from capx.tokens.binding import HttpRequest
from capx.tokens.bundle import Bundle
from capx.verify.ask import Answer
from capx.verify.decision import Allowed
from capx_caveats import JSON


@runtime_checkable
class ActsForHolder(Protocol):
    """Acts for the holder of any bundle: an `Authority` of this process, or an `AuthorityClient`."""

    def acting_for(self, bundle: Bundle, /) -> "AgentAuthority":
        """Return the same authority for the holder of this bundle."""
        ...


@runtime_checkable
class AgentAuthority(ActsForHolder, Protocol):
    """An authority for the holder of one bundle, such as `AuthorityClient`."""

    def ask(
        self,
        action: str,
        *,
        audience: str | None = None,
        args: Mapping[str, JSON] | None = None,
        wait: float = 0.0,
        demand: str | None = None,
    ) -> Answer:
        """Ask for an action, or for the approval of a call, and return the answer; wait up to `wait` seconds."""
        ...

    def statement(
        self,
        action: str,
        *,
        audience: str | None = None,
        args: Mapping[str, JSON] | None = None,
        request: HttpRequest | None = None,
    ) -> str:
        """Return a statement that this one call is permitted, for a third party that holds no key: a JWT."""
        ...

    def complete(self) -> object:
        """End the task because its work is done."""
        ...

    def status(self) -> AgentStatus:
        """Return the state of the task."""
        ...

    def revoke(self, child: Bundle, /) -> object:
        """Revoke the child's node, and everything below it."""
        ...

    def close(self) -> None:
        """Close the connections."""
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
