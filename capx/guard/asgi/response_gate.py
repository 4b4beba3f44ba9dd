"""The way out of a guarded application.

Law: it is shut until the first message shows that what follows may leave: because a call was allowed and none was
refused, or because nobody needs a decision for it. What may not leave ends the code that sends it.
"""

from collections.abc import Iterable
from typing import Protocol

from capx.errors import CapxError
from capx.guard.asgi.messages import Message, Scope, Send
from capx.guard.asgi.request import GuardedRequest


class Withheld(CapxError):
    """The code behind a guard was set up or acted so that nothing may be answered; for the log, not the bearer."""


class ResponseRules(Protocol):
    """What a guard must know of the application behind it."""

    def problems(self) -> list[str]:
        """What is set up wrongly; asked when the application starts and at its first request."""
        ...

    def public(self, scope: Scope) -> bool:
        """Whether the request's path is open to everybody."""
        ...

    def withheld(self, scope: Scope, current: GuardedRequest, status: int) -> str | None:
        """Why an answer that no decision to allow covers may not leave; `status` is 101 for an accepted WebSocket."""
        ...


class PathRules:
    """Open paths, spelled out; elsewhere only answers of 400 and more leave without a decision."""

    def __init__(self, public: Iterable[str] = ()) -> None:
        self._public = frozenset(public)

    def problems(self) -> list[str]:
        """No more than can be seen here: an open path that is none."""
        return [f"{path!r} is no path" for path in sorted(self._public) if not path.startswith("/")]

    def public(self, scope: Scope) -> bool:
        """Whether the path is one of the open ones."""
        return scope["path"] in self._public

    def withheld(self, scope: Scope, current: GuardedRequest, status: int) -> str | None:
        """Everything that was not judged, unless it is open or an error."""
        del scope
        if current.public or (status >= 400 and not current.entered):
            return None
        return "no call was judged"


class ResponseGate:
    """The `send` that an application gets."""

    def __init__(self, scope: Scope, send: Send, current: GuardedRequest, policy: ResponseRules) -> None:
        self._scope = scope
        self._send = send
        self._request = current
        self._policy = policy
        self.open = False
        self.withheld: str | None = None

    async def __call__(self, message: Message) -> None:
        """Pass a message on, if it may leave."""
        if not self.open and self.withheld is None:
            self.open = self._opens(message)
        if self.open:
            await self._send(message)
        elif self.withheld is not None:
            # Whoever sends on is stopped, so that nothing set to run behind an answer runs behind none.
            raise Withheld(self.withheld)

    def _opens(self, message: Message) -> bool:
        kind = message["type"]
        if kind == "websocket.close":
            return True
        if kind not in ("http.response.start", "websocket.accept", "websocket.http.response.start"):
            return False
        current = self._request
        if current.denied is not None:
            self.withheld = f"the refusal was swallowed: {current.denied}"
        elif current.allowed is None:
            self.withheld = self._policy.withheld(self._scope, current, message.get("status", 101))
        else:
            decision = current.allowed.decision_id.encode()
            message["headers"] = [*message.get("headers", ()), (b"capx-decision", decision)]
        return self.withheld is None
