"""The guard of an ASGI application: it admits each request, and lets out only answers to calls that were judged.

Laws:

- The guard checks the head first: the MAC, whether the token has ended, and the age of the presentation. Only then does
  it read the body, up to a limit. It compares the digest, burns the presentation, and looks for revocations again.
- The guard withholds an answer if no decision allows it, even if the code behind the guard caught the denial: then the
  bearer gets an error of the service, or, with `swallowed="refusal"`, the denial. The guard also withholds what an
  error before a decision would show.
- A guard that is set up wrongly does not start, and answers no request.
"""

import logging
from collections.abc import Iterable
from typing import Final, Literal

from capx.crypto.instants import seconds
from capx.errors import ConfigurationProblem
from capx.guard.asgi.messages import (
    BODY_SECONDS,
    MAX_BODY,
    App,
    Gone,
    Receive,
    Scope,
    Send,
    TooMuch,
    TooSlow,
    UnreadableHead,
    answer_denied,
    answer_problem,
    credential,
    giving_body,
    http_request,
    read_body,
)
from capx.guard.asgi.response_gate import PathRules, ResponseGate, ResponseRules, Withheld
from capx.guard.guarded_request import SMALL_BODY, GuardedRequest, denials
from capx.guard.observer import LOGGER, Observer, OnDecision
from capx.verify.decision import Denied
from capx.verify.verifier import Verifier

_log = logging.getLogger(LOGGER)
_KEY: Final = "capx.passage"
"""The key under which an ASGI scope holds the guarded request."""


class ASGIGuard:
    """Middleware that admits each request before the application sees it.

    The application must have its call judged: `passage(scope).judge(action, args, tenant=…)`. `public` are exact paths
    that are open to everybody; in their place, `rules` say which answers may leave. `prefix` is the part that a proxy
    removes from the front of each path without a trace in the request. `max_body` is in bytes, and `body_seconds` is
    the time within which a body has to arrive. `on_decision` gets each decision.

    `swallowed` says what the bearer gets if the application catches a denial and answers all the same. That is a fault
    of the application, so it is "error" by default: a 500 without a reason, and a line in the log. With "refusal" it is
    the denial itself, for servers that turn every exception into an answer of their own, such as those of JSON-RPC. The
    bearer may then send the call again, so nothing that follows the denial may have an effect.
    """

    def __init__(
        self,
        app: App,
        verifier: Verifier,
        *,
        public: Iterable[str] = (),
        rules: ResponseRules | None = None,
        prefix: str = "",
        max_body: int = MAX_BODY,
        body_seconds: float = BODY_SECONDS,
        on_decision: OnDecision | None = None,
        swallowed: Literal["error", "refusal"] = "error",
    ) -> None:
        if swallowed not in ("error", "refusal"):
            raise ConfigurationProblem(f"`swallowed=` is {swallowed!r:.40}: it must be 'error' or 'refusal'")
        self._app = app
        self._verifier = verifier
        paths = tuple(public)
        if rules is not None and paths:
            raise ConfigurationProblem(
                "`public=` and `rules=` are both given: let the rules say which paths are public"
            )
        self._rules = PathRules(paths) if rules is None else rules
        self._prefix = prefix.rstrip("/")
        self._max_body = max_body
        self._body_seconds = seconds("body_seconds", body_seconds, ConfigurationProblem)
        self._observer = Observer(on_decision)
        self._answers_swallowed = swallowed == "refusal"
        self._checked = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._start(scope, receive, send)
        elif scope["type"] in ("http", "websocket"):
            await self._serve(scope, receive, send)
        else:
            raise ConfigurationProblem(f"a guard takes http, websocket and lifespan, not {scope['type']!r:.40}")

    async def _start(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._problem()
        if problem is None:
            await self._app(scope, receive, send)
            return
        # Do not raise here: a server would conclude that the application has no lifespan, and serve requests.
        await receive()
        _log.error("%s", problem)
        await send({"type": "lifespan.startup.failed", "message": problem})

    def _problem(self) -> str | None:
        problems = self._rules.problems()
        return "the guard is closed:\n" + "\n".join(f"  - {problem}" for problem in problems) if problems else None

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Check again at the first request: start-up code may have added routes, and some servers send no lifespan.
        if not self._checked:
            if (problem := self._problem()) is not None:
                await self._withhold(scope, send, problem)
                return
            self._checked = True
        current = GuardedRequest(self._verifier, self._observer, public=self._rules.public(scope))
        scope[_KEY] = current
        try:
            admitted_receive = await self._admit(scope, receive, current)
        except Denied as denied:
            await self._deny(scope, send, current, denied)
        except UnreadableHead as head:
            await self._deny(scope, send, current, self._verifier.denial(head.refusal))
        except TooMuch:
            await answer_problem(scope, send, 413, "body_too_large", f"a body may have {self._max_body} bytes")
        except TooSlow:
            late = f"the body did not arrive within {self._body_seconds:g} s"
            await answer_problem(scope, send, 408, "body_too_slow", late)
        except ConfigurationProblem as error:
            await self._withhold(scope, send, str(error))
        except Gone:
            return
        else:
            await self._pass(scope, admitted_receive, send, current)

    async def _admit(self, scope: Scope, receive: Receive, current: GuardedRequest) -> Receive:
        # A public path with a token is admitted too, so that its code can judge calls.
        if current.public and not credential(scope):
            return receive
        # Before the body: a stranger must not make the service buffer up to `max_body` bytes for each request. Read
        # anew, and not kept in a variable, which an error would carry.
        authentic = self._verifier.authenticate(credential(scope))
        body = b""
        if scope["type"] == "http":
            body = await read_body(scope, receive, self._max_body, self._body_seconds)
            receive = giving_body(body, receive)
            current.large = len(body) > SMALL_BODY
        received = http_request(scope, body, self._prefix)
        current.admitted = await self._verifier.admit_async(authentic, received)
        return receive

    async def _pass(self, scope: Scope, receive: Receive, send: Send, current: GuardedRequest) -> None:
        gate = ResponseGate(scope, send, current, self._rules)
        try:
            await self._app(scope, receive, gate)
        except Exception as error:
            # The answer has begun: the server can only break the connection.
            if gate.open:
                raise
            current.keep_own_denial(error)
            reason = str(error) if isinstance(error, Withheld) else gate.withheld
            # After a denial the bearer gets the denial, also if a handler of errors tried to answer it and the gate
            # stopped that. If the code caught the denial and went on to answer, it is at fault: withhold and log.
            if current.denied is not None and (reason is None or any(denials(error)) or self._answers_swallowed):
                await answer_denied(scope, send, current.denied)
            elif reason is not None:
                await self._withhold(scope, send, reason, trace=error.__context__ is not None)
            elif current.allowed is None and self._rules.withheld(scope, current, 500) is not None:
                # Handlers of errors run outside the guard. Their answer could show data that no decision allowed.
                await self._withhold(scope, send, "it failed before its call was judged", trace=True)
            else:
                raise
        else:
            if gate.withheld is not None and current.denied is not None and self._answers_swallowed:
                await answer_denied(scope, send, current.denied)
            elif gate.withheld is not None:
                await self._withhold(scope, send, gate.withheld)

    async def _deny(self, scope: Scope, send: Send, current: GuardedRequest, denied: Denied) -> None:
        """Answer a request that was not admitted. `GuardedRequest` reports denials of calls."""
        self._observer.decided(denied.decision, current.started)
        await answer_denied(scope, send, denied)

    async def _withhold(self, scope: Scope, send: Send, reason: str, *, trace: bool = False) -> None:
        name = scope.get("method", scope["type"])
        _log.error("withheld the answer to %s %r: %s", name, scope["path"], reason, exc_info=trace)
        # The bearer learns nothing of the reason: it may name routes, types or values of the service.
        await answer_problem(scope, send, 500, "withheld", "this service cannot answer: its log says why")


def passage(scope: Scope) -> GuardedRequest:
    """Return the guarded request of an ASGI scope, to have its call judged.

    Raises ConfigurationProblem if the request did not come through a guard.
    """
    found = scope.get(_KEY)
    if not isinstance(found, GuardedRequest):
        raise ConfigurationProblem("this request did not come through a guard: wrap the application in ASGIGuard")
    return found
