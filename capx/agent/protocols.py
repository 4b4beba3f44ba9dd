"""Whom an agent asks: an authority, for whoever holds one bundle."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from capx.api.messages.agents import AgentStatus
from capx.tokens.bundle import Bundle
from capx.verify.ask import Answer
from capx_caveats import JSON


@runtime_checkable
class ActsForHolder(Protocol):
    """What acts for the holder of any bundle: an `Authority` of this process, or an `AuthorityClient`."""

    def acting_for(self, bundle: Bundle, /) -> "AgentAuthority":
        """The same authority, for whoever holds this bundle."""
        ...


@runtime_checkable
class AgentAuthority(ActsForHolder, Protocol):
    """An authority, for whoever holds one bundle: what `AuthorityClient` is."""

    def ask(
        self, action: str, *, audience: str | None = None, args: Mapping[str, JSON] | None = None, wait: float = 0.0
    ) -> Answer:
        """What becomes of an ask; while a person has to answer it, wait for that up to `wait` seconds."""
        ...

    def complete(self) -> object:
        """End the task because its work is done."""
        ...

    def status(self) -> AgentStatus:
        """How the task stands."""
        ...

    def revoke(self, child: Bundle, /) -> object:
        """Kill the child's node, and everything below it."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
