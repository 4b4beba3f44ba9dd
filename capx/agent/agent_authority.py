"""An authority for the holder of one bundle: what an agent asks, states, ends and revokes there.

Law: what an ask or a statement is for is checked here, in this process and over HTTP alike.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from capx.api.messages.agents import AgentStatus
from capx.crypto.instants import seconds
from capx.tokens.binding import HttpRequest, ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.grants import audience_of
from capx.verify.ask import Answer, Ask
from capx_caveats import JSON


class AgentAuthority(ABC):
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
        """Ask for an action and return the answer; wait up to `wait` seconds for a person.

        The audience is the first label of the action unless `audience` names another. With `args`, even empty ones, the
        ask is for these arguments only. With `demand`, the cid of a demand of the bundle, it asks people to approve
        this one call. Denied if the bundle may not ask for it.
        """
        return self.answer(Ask.of(action, audience, args, demand), seconds("wait", wait))

    def statement(
        self,
        action: str,
        *,
        audience: str | None = None,
        args: Mapping[str, JSON] | None = None,
        request: HttpRequest | None = None,
    ) -> str:
        """Return a statement that this one call is permitted, for a third party that holds no key: a JWT.

        The audience is the first label of the action unless `audience` names another. `request` is the HTTP request
        that carries the statement. Denied if the call is not allowed.
        """
        return self.state(audience_of(action) if audience is None else audience, ToolCall(action, args or {}), request)

    @abstractmethod
    def answer(self, ask: Ask, wait: float) -> Answer:
        """Return the answer to an ask; wait up to `wait` seconds for a person."""

    @abstractmethod
    def state(self, audience: str, call: ToolCall, request: HttpRequest | None) -> str:
        """Return a statement for one call at an audience."""

    @abstractmethod
    def acting_for(self, bundle: Bundle, /) -> "AgentAuthority":
        """Return the same authority for the holder of another bundle."""

    @abstractmethod
    def complete(self) -> object:
        """End the task because its work is done: all its tokens are dead when this returns."""

    @abstractmethod
    def status(self) -> AgentStatus:
        """Return the state of the task."""

    @abstractmethod
    def revoke(self, child: Bundle, /) -> object:
        """Revoke the child's node, and everything below it."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""
