"""The guard of an ASGI application: nobody passes who was not admitted, nothing leaves that was not judged.

Laws: head first, so the MAC is checked before a byte of the body is read. Then the body up to a limit, the digest,
the burn, the deaths. An answer that no passed verdict covers is withheld, whatever the code behind made of its
refusal. A guard that was set up wrongly does not start, and answers nothing.
"""

import logging
from collections.abc import Iterable
from typing import Protocol

from capx.decision import Denied
from capx.errors import CapxError, ConfigurationProblem
from capx.guard.exchange import (
    MAX_BODY,
    App,
    Gone,
    Message,
    Receive,
    Scope,
    Send,
    TooMuch,
    Unreadable,
    answer_denied,
    answer_problem,
    credential,
    http_request,
    read_body,
    replayed,
)
from capx.guard.passage import KEY, Passage, denial
from capx.verifier import Verifier

_log = logging.getLogger("capx.guard")


class Withheld(CapxError):
    """The code behind a guard was set up or acted so that nothing may be answered; for the log, not the bearer."""


class Policy(Protocol):
    """What a guard must know of the application behind it."""

    def problems(self) -> list[str]:
        """What is set up wrongly; asked when the application starts and at its first request."""
        ...

    def public(self, scope: Scope) -> bool:
        """Whether the request's path is open to everybody."""
        ...

    def withheld(self, scope: Scope, current: Passage, status: int) -> str | None:
        """Why an answer that no passed verdict covers may not leave; `status` is 101 for an accepted WebSocket."""
        ...


class PathPolicy:
    """Open paths, spelled out; elsewhere only answers of 400 and more leave without a verdict."""

    def __init__(self, public: Iterable[str] = ()) -> None:
        self._public = frozenset(public)

    def problems(self) -> list[str]:
        """No more than can be seen here: an open path that is none."""
        return [f"{path!r} is no path" for path in sorted(self._public) if not path.startswith("/")]

    def public(self, scope: Scope) -> bool:
        """Whether the path is one of the open ones."""
        return scope["path"] in self._public

    def withheld(self, scope: Scope, current: Passage, status: int) -> str | None:
        """Everything that was not judged, unless it is open or an error."""
        del scope
        if current.public or (status >= 400 and not current.entered):
            return None
        return "no call was judged"


class ASGIGuard:
    """Middleware that admits each request before the application sees it.

    The application has its call judged: `passage(scope).judge(action, args, tenant=…)`. `prefix` is what a proxy
    takes away from the front of each path without telling; `max_body` is in bytes.
    """

    def __init__(
        self,
        app: App,
        verifier: Verifier,
        *,
        public: Iterable[str] = (),
        policy: Policy | None = None,
        prefix: str = "",
        max_body: int = MAX_BODY,
    ) -> None:
        self._app = app
        self._verifier = verifier
        self._policy = policy or PathPolicy(public)
        self._prefix = prefix.rstrip("/")
        self._max_body = max_body
        self._checked = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._start(scope, receive, send)
        elif scope["type"] in ("http", "websocket"):
            await self._serve(scope, receive, send)
        else:
            raise ConfigurationProblem(f"what is a connection of type {scope['type']!r:.40}? It cannot be guarded")

    async def _start(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._problem()
        if problem is None:
            await self._app(scope, receive, send)
            return
        # Raising here would make a server believe that there is no lifespan to speak of, and serve on.
        await receive()
        _log.error("%s", problem)
        await send({"type": "lifespan.startup.failed", "message": problem})

    def _problem(self) -> str | None:
        if self._checked:
            return None
        problems = self._policy.problems()
        if problems:
            return "the guard is closed:\n" + "\n".join(f"  - {problem}" for problem in problems)
        self._checked = True
        return None

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (problem := self._problem()) is not None:
            await self._withhold(scope, send, problem)
            return
        current = Passage(self._verifier.audience, public=self._policy.public(scope))
        scope[KEY] = current
        try:
            admitted_receive = await self._admit(scope, receive, current)
        except Denied as denied:
            await answer_denied(scope, send, denied)
        except Unreadable as head:
            await answer_denied(scope, send, denial(self._verifier.audience, head.refusal))
        except TooMuch:
            await answer_problem(scope, send, 413, "body_too_large", f"a body may have {self._max_body} bytes")
        except ConfigurationProblem as error:
            await self._withhold(scope, send, str(error))
        except Gone:
            return
        else:
            await self._pass(scope, admitted_receive, send, current)

    async def _admit(self, scope: Scope, receive: Receive, current: Passage) -> Receive:
        presented = credential(scope)
        if current.public and not presented:
            return receive
        authentic = self._verifier.authenticate(presented)
        body = b""
        if scope["type"] == "http":
            body = await read_body(scope, receive, self._max_body)
            receive = replayed(body, receive)
        received = http_request(scope, body, self._prefix)
        current.admitted = await self._verifier.admit_async(authentic, received)
        return receive

    async def _pass(self, scope: Scope, receive: Receive, send: Send, current: Passage) -> None:
        outlet = _Outlet(scope, send, current, self._policy)
        try:
            await self._app(scope, receive, outlet)
        except Withheld as reason:
            if outlet.open:
                raise
            await self._withhold(scope, send, str(reason))
        except Exception:
            if outlet.open or current.denied is None:
                raise
            await answer_denied(scope, send, current.denied)
        else:
            if outlet.withheld is not None:
                await self._withhold(scope, send, outlet.withheld)

    async def _withhold(self, scope: Scope, send: Send, reason: str) -> None:
        _log.error("withheld the answer to %s %r: %s", scope.get("method", scope["type"]), scope["path"], reason)
        await answer_problem(scope, send, 500, "withheld", "this service cannot answer: its log says why")


class _Outlet:
    """The way out: shut until the first message shows that what follows may leave."""

    def __init__(self, scope: Scope, send: Send, current: Passage, policy: Policy) -> None:
        self._scope = scope
        self._send = send
        self._passage = current
        self._policy = policy
        self.open = False
        self.withheld: str | None = None

    async def __call__(self, message: Message) -> None:
        if not self.open and self.withheld is None:
            self.open = self._opens(message)
        if self.open:
            await self._send(message)
        elif self.withheld is not None and (message["type"] == "websocket.accept" or message.get("more_body")):
            # Whoever waits for a client, or streams without end, would never come back.
            raise Withheld(self.withheld)

    def _opens(self, message: Message) -> bool:
        kind = message["type"]
        if kind == "websocket.close":
            return True
        if kind not in ("http.response.start", "websocket.accept", "websocket.http.response.start"):
            return False
        current = self._passage
        if current.denied is not None:
            self.withheld = f"the refusal was swallowed: {current.denied}"
        elif current.allowed is None:
            self.withheld = self._policy.withheld(self._scope, current, message.get("status", 101))
        else:
            decision = current.allowed.decision_id.encode()
            message["headers"] = [*message.get("headers", ()), (b"capx-decision", decision)]
        return self.withheld is None


def passage(scope: Scope) -> Passage:
    """The passage of a request that came through a guard; ConfigurationProblem for any other."""
    found = scope.get(KEY)
    if not isinstance(found, Passage):
        raise ConfigurationProblem("this request came through no guard: wrap the application in one")
    return found
