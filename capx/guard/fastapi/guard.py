"""The guard of a FastAPI application.

It works in three places:

1. A middleware admits the request: it checks the token, then reads the body, compares the digest, burns the
   presentation and looks for revocations again.
2. The first dependency denies the request if the action is not allowed at all. Then no other dependency runs. The
   denial names the arguments to ask for, if the request has arguments that validate.
3. A wrapper of the endpoint judges the validated arguments.

The guard is closed by default: if a route states no action and is not public, the application does not start.

Law: the facts of a call come from what the presentation covers, or from the service's own data. Do not take the tenant
from a header: the bearer writes it.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, Self

from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection

from capx.crypto.instants import seconds
from capx.errors import ConfigurationProblem
from capx.guard.asgi.guard import ASGIGuard, passage
from capx.guard.asgi.messages import BODY_SECONDS, MAX_BODY, Scope
from capx.guard.asgi.response_gate import Withheld, is_callers_error
from capx.guard.call_facts import GRANTED, CallSpec, Costs, Derived, Tenancy
from capx.guard.fastapi.argument_sources import Args
from capx.guard.fastapi.deferred import Check, SyncCheck
from capx.guard.fastapi.endpoint import EndpointSpec, spec_of, wrapped
from capx.guard.fastapi.routes import RouteTable, path_of
from capx.guard.guarded_request import GuardedRequest
from capx.guard.observer import OnDecision
from capx.resource.connection import Connection, connect_from_env
from capx.verify.verifier import Verifier
from capx_caveats import DEFAULT, Vocabulary

__all__ = ["GRANTED", "Check", "FastAPIGuard", "SyncCheck"]

Endpoint = Callable[..., Any]
"""A function that FastAPI calls for a route, plain or async."""


class FastAPIGuard:
    """Guards the endpoints of one audience.

    `prefix` is the part that a proxy removes from the front of each path without a trace in the request. `max_body` is
    in bytes, and `body_seconds` is the time within which a body has to arrive. `on_decision` gets each decision.
    """

    def __init__(
        self,
        verifier: Verifier,
        *,
        prefix: str = "",
        max_body: int = MAX_BODY,
        body_seconds: float = BODY_SECONDS,
        on_decision: OnDecision | None = None,
    ) -> None:
        self._verifier = verifier
        self._prefix = prefix
        self._max_body = max_body
        self._body_seconds = seconds("body_seconds", body_seconds, ConfigurationProblem)
        self._on_decision = on_decision
        self._route_tables: list[RouteTable] = []
        self.connection: Connection | None = None
        """The connection of its verifier, if `from_env` made one: look at its health, and close it at the end."""

        # A new function for each guard: FastAPI identifies a dependency by its function, and an endpoint must pass
        # the gate of its own guard.
        async def gate(connection: HTTPConnection) -> GuardedRequest:
            return await self._let_in(connection)

        self._gate = gate

    @classmethod
    def from_env(
        cls,
        *,
        prefix: str = "",
        max_body: int = MAX_BODY,
        body_seconds: float = BODY_SECONDS,
        on_decision: OnDecision | None = None,
        vocabulary: Vocabulary = DEFAULT,
    ) -> Self:
        """Make the guard that the environment describes; `vocabulary` as for `Verifier`.

        CAPX_AUDIENCE names the audience and CAPX_KEY_FILE its key file. One of CAPX_STORE, CAPX_FEED and CAPX_SNAPSHOT
        names the place from which the service learns of revocations; the rest follows from it (capx.resource.connect).
        CAPX_MAX_STALENESS is in seconds. Raises ConfigurationProblem if a setting is missing or cannot be used.
        """
        connection = connect_from_env()
        verifier = connection.verifier(vocabulary=vocabulary)
        guard = cls(verifier, prefix=prefix, max_body=max_body, body_seconds=body_seconds, on_decision=on_decision)
        guard.connection = connection
        return guard

    def protect(self, app: FastAPI, *, public: Iterable[str] = ()) -> None:
        """Put the guard in front of an application. Routes may be added before or after: it reads them at the start.

        `public` lists paths as their routes spell them: they are open to everybody. The path of a mount opens all paths
        below it. Middleware that is added later runs outside the guard: nobody judges what it answers. CORS belongs
        there, because its preflight requests carry no token. Handlers of `Exception` and debug pages run outside, too.
        The guard does not pass on errors that are raised before a decision: it writes them to its log.
        """
        routes = RouteTable(app, public, self._gate)
        self._route_tables.append(routes)
        app.router.dependencies.insert(0, Depends(self._gate))
        app.add_middleware(
            ASGIGuard,
            verifier=self._verifier,
            rules=_RouteRules(routes, self._spec_of),
            prefix=self._prefix,
            max_body=self._max_body,
            body_seconds=self._body_seconds,
            on_decision=self._on_decision,
        )

    def action(
        self,
        action: str,
        *,
        tenant: Tenancy = None,
        attributes: Derived = None,
        args: Args = None,
        sent: bool = False,
        cost: Costs = None,
    ) -> Callable[[Endpoint], Endpoint]:
        """State the action of an endpoint: it runs if the call is allowed.

        `tenant` is a constant, GRANTED, or a function whose parameters have the names of some of the endpoint's. So
        are `attributes` and `cost` (by unit). Without `args`, the arguments are the path, query and body parameters. If
        a model is the whole body, they are its members, by the names in JSON.

        Give `args` if the guard cannot see the inputs as single arguments, or if the endpoint takes the request itself:
        a table of names and paths of parameters and fields, such as `{"amount": "order.amount"}`, or a function that
        returns names and values. Denials do not name what a function returns, unless `sent` says that it returns only
        what callers sent. Without that, agents can get a grant only where the policy says `pinned = false`.

        A parameter of the type `Allowed` gets the decision, with what is left of the budgets. Raises
        ConfigurationProblem for an endpoint that cannot be judged.
        """

        def guarded(function: Endpoint) -> Endpoint:
            call = CallSpec(action, tenant, attributes, cost)
            return wrapped(function, EndpointSpec(self._gate, function, call, deferred=False, args=args, sent=sent))

        return guarded

    def deferred(self, action: str, *, args: Args = None, sent: bool = False) -> Callable[[Endpoint], Endpoint]:
        """State the action of an endpoint that learns its tenant from a row: it must call its `Check`.

        `args` and `sent` are as for `action`.
        Async functions get a `Check`, plain ones a `SyncCheck`. If the endpoint called none that passed, or one that
        denied the call, the guard withholds every answer.
        """

        def guarded(function: Endpoint) -> Endpoint:
            call = CallSpec(action)
            return wrapped(function, EndpointSpec(self._gate, function, call, deferred=True, args=args, sent=sent))

        return guarded

    async def _let_in(self, connection: HTTPConnection) -> GuardedRequest:
        current = passage(connection.scope)
        endpoint = connection.scope.get("endpoint")
        if (spec := self._spec_of(endpoint)) is not None:
            current.advice = spec.advice
            await current.screen_naming(spec.action, functools.partial(spec.denied_args, connection))
        elif not (current.public and any(routes.is_open(endpoint) for routes in self._route_tables)):
            # At start the route table found every route. A route that was added since has no decision.
            raise Withheld(f"{endpoint!r} states no action and is not public")
        return current

    def _spec_of(self, endpoint: object) -> EndpointSpec | None:
        return spec_of(endpoint, self._gate)


class _RouteRules:
    """The rules for answers that follow from the routes of a protected application."""

    def __init__(self, routes: RouteTable, own_spec: Callable[[object], EndpointSpec | None]) -> None:
        self._routes = routes
        self._own_spec = own_spec

    def problems(self) -> list[str]:
        return self._routes.problems()

    def public(self, scope: Scope) -> bool:
        return self._routes.opens(path_of(scope))

    def withheld(self, scope: Scope, current: GuardedRequest, status: int) -> str | None:
        # The endpoint ran without a decision, so even an error of it may carry data of a row.
        endpoint = scope.get("endpoint")
        if current.entered:
            spec = self._own_spec(endpoint)
            missing = "; for a row that is not there, call `check.missing()`" if spec and spec.deferred else ""
            return f"the endpoint ran, and no check passed{missing}"
        if current.public and self._routes.is_open(endpoint):
            return None
        if endpoint is None or self._routes.is_container(endpoint):
            # Answers of the framework itself: no such path, no such method, a redirect to the path with a slash.
            fine = is_callers_error(status) or status in (307, 308)
            return None if fine else "no route that states an action gave the answer"
        if self._own_spec(endpoint) is None:
            return f"{endpoint!r} states no action and is not public"
        return None if is_callers_error(status) else "the action was not judged"
