"""Decides whether the answer of a guarded application may leave.

Law: the gate is closed until the first message of an answer shows that the answer may leave. That is so if a call was
allowed and none was denied, or if the answer needs no decision. If the answer may not leave, the gate raises an error
in the code that sends it.
"""

from collections.abc import Iterable
from typing import Protocol

from capx.errors import CapxError
from capx.guard.asgi.messages import Message, Scope, Send
from capx.guard.guarded_request import GuardedRequest


class Withheld(CapxError):
    """The code behind a guard may not answer, because of its setup or its behavior; for the log, not the bearer."""


class ResponseRules(Protocol):
    """The facts that a guard needs about the application behind it."""

    def problems(self) -> list[str]:
        """Return what is set up wrongly; called when the application starts, and at its first request."""
        ...

    def public(self, scope: Scope) -> bool:
        """Whether the request's path is open to everybody."""
        ...

    def withheld(self, scope: Scope, current: GuardedRequest, status: int) -> str | None:
        """Say why an answer without a decision that allows it may not leave; None if it may.

        `status` is 101 for an accepted WebSocket.
        """
        ...


class PathRules:
    """Exact paths that are public; on other paths only errors of the caller (4xx) leave without a decision."""

    def __init__(self, public: Iterable[str] = ()) -> None:
        self._public = frozenset(public)

    def problems(self) -> list[str]:
        """Return the public paths that cannot match; nothing else can be seen from here."""
        return [
            f"{path!r} is not a path: it must begin with /" for path in sorted(self._public) if not path.startswith("/")
        ]

    def public(self, scope: Scope) -> bool:
        """Whether the path is in the list of public ones."""
        return scope["path"] in self._public

    def withheld(self, scope: Scope, current: GuardedRequest, status: int) -> str | None:
        """Withhold every answer without a decision, except on public paths and errors of the caller."""
        del scope
        # Once the endpoint has begun, even an error may carry data of the call.
        if current.public or (is_callers_error(status) and not current.entered):
            return None
        return "no call was judged"


def is_callers_error(status: int) -> bool:
    """Whether this status says that the request was wrong. An error of the service may carry its data."""
    return 400 <= status < 500


class ResponseGate:
    """The `send` function that the application gets."""

    def __init__(self, scope: Scope, send: Send, current: GuardedRequest, rules: ResponseRules) -> None:
        self._scope = scope
        self._send = send
        self._request = current
        self._rules = rules
        self.open = False
        self.withheld: str | None = None

    async def __call__(self, message: Message) -> None:
        """Pass a message on if it may leave; raise Withheld otherwise."""
        if not self.open and self.withheld is None:
            self.open = self._opens(message)
        if self.open:
            await self._send(message)
        elif self.withheld is not None:
            # Stop the application: work that it does after its answer (background tasks) must not run for a denied
            # call.
            raise Withheld(self.withheld)

    def _opens(self, message: Message) -> bool:
        kind = message["type"]
        # A refused handshake carries no data of the call: the reason could, so the bearer does not get it.
        if kind == "websocket.close":
            message.pop("reason", None)
            return True
        # Messages before the start of an answer are dropped: they would be outside the decision.
        if kind not in ("http.response.start", "websocket.accept", "websocket.http.response.start"):
            return False
        current = self._request
        if current.denied is not None:
            self.withheld = f"the application caught a denial and answered anyway: {current.denied}"
        elif current.allowed is None:
            self.withheld = self._rules.withheld(self._scope, current, message.get("status", 101))
        else:
            decision = current.allowed.decision.id.encode()
            message["headers"] = [*message.get("headers", ()), (b"capx-decision", decision)]
        return self.withheld is None
