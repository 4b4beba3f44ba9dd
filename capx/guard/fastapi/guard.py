"""The guard of a FastAPI application, in three places.

A middleware admits: MAC first, then the body, the digest, the burn, the deaths. The first dependency lets no
other run unless the action is allowed at all. A wrapper judges the validated arguments. It is closed by default:
a route that states no action, and is not public, keeps the application from starting.

Law: facts of a call come from what the presentation covers or from the service's own data. A tenant taken from a
header that the bearer sent is the mistake to make here.
"""

from collections.abc import Callable, Iterable
from typing import Any, Self

from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection

from capx.guard.asgi.guard import ASGIGuard, passage
from capx.guard.asgi.messages import MAX_BODY, Scope
from capx.guard.asgi.request import GuardedRequest
from capx.guard.asgi.response_gate import Withheld
from capx.guard.call_facts import GRANTED, CallSpec, Costs, Derived, Tenancy
from capx.guard.fastapi.deferred import Check, SyncCheck
from capx.guard.fastapi.endpoint import EndpointSpec, spec_of, wrapped
from capx.guard.fastapi.routes import RouteTable, path_of
from capx.resource.connection import Connection, connect_from_env
from capx.verify.verifier import Verifier
from capx_caveats import DEFAULT, Vocabulary

__all__ = ["GRANTED", "Check", "FastAPIGuard", "SyncCheck"]

Endpoint = Callable[..., Any]
"""A function that FastAPI calls for a route, plain or async."""


class FastAPIGuard:
    """Guards the endpoints of one audience.

    `prefix` is what a proxy takes away from the front of each path without telling the server; `max_body` is in
    bytes.
    """

    def __init__(self, verifier: Verifier, *, prefix: str = "", max_body: int = MAX_BODY) -> None:
        self._verifier = verifier
        self._prefix = prefix
        self._max_body = max_body
        self._route_tables: list[RouteTable] = []
        self.connection: Connection | None = None
        """What its verifier stands on, where the environment described it: to look at, and to close."""

        # A function of this very object: FastAPI tells dependencies apart by what is called.
        async def gate(connection: HTTPConnection) -> GuardedRequest:
            return self._let_in(connection.scope)

        self._gate = gate

    @classmethod
    def from_env(cls, *, prefix: str = "", max_body: int = MAX_BODY, vocabulary: Vocabulary = DEFAULT) -> Self:
        """The guard that the environment describes; `vocabulary` as for `Verifier`.

        CAPX_AUDIENCE names the audience, CAPX_KEY_FILE its key file, and one of CAPX_STORE, CAPX_FEED and CAPX_SNAPSHOT
        where it hears of deaths, and what else it stands on there (capx.resource.connect). CAPX_MAX_STALENESS is in
        seconds. Raises ConfigurationProblem for what is missing or cannot be used.
        """
        connection = connect_from_env()
        guard = cls(connection.verifier(vocabulary=vocabulary), prefix=prefix, max_body=max_body)
        guard.connection = connection
        return guard

    def protect(self, app: FastAPI, *, public: Iterable[str] = ()) -> None:
        """Stand before an application; call it before routes are added, so that the gate comes first in all.

        `public` lists paths as their routes spell them: open to everybody. A mount's path opens all below it.
        Middleware added later stands before the guard: what it answers by itself is not judged. That is where CORS
        belongs, whose preflights bear no token. Handlers of `Exception` and debug pages stand there too; of errors
        raised before a decision they hear nothing, and the guard's log has them.
        """
        routes = RouteTable(app, public, self._gate)
        self._route_tables.append(routes)
        app.router.dependencies.insert(0, Depends(self._gate))
        app.add_middleware(
            ASGIGuard,
            verifier=self._verifier,
            policy=_RouteRules(routes, self._states),
            prefix=self._prefix,
            max_body=self._max_body,
        )

    def action(
        self,
        action: str,
        *,
        tenant: Tenancy = None,
        attributes: Derived = None,
        args: Derived = None,
        cost: Costs = None,
    ) -> Callable[[Endpoint], Endpoint]:
        """State the action of an endpoint: it runs when the call is allowed.

        `tenant` is a constant, GRANTED, or a function of some of the endpoint's parameters, by their names; so
        are `attributes`, `cost` by unit, and `args` where arguments cannot be told apart, or the request itself is
        taken. A parameter of the type `Allowed` gets the decision, with what budgets have left. Raises
        ConfigurationProblem for an endpoint that cannot be judged.
        """

        def guarded(function: Endpoint) -> Endpoint:
            call = CallSpec(action, tenant, attributes, cost)
            return wrapped(function, EndpointSpec(self._gate, function, call, deferred=False, args=args))

        return guarded

    def deferred(self, action: str, *, args: Derived = None) -> Callable[[Endpoint], Endpoint]:
        """State the action of an endpoint that knows its tenant from a row: it must pass its `Check`.

        Async functions get a `Check`, plain ones a `SyncCheck`. If none passed, or one refused, the answer is
        withheld, whatever it is.
        """

        def guarded(function: Endpoint) -> Endpoint:
            return wrapped(function, EndpointSpec(self._gate, function, CallSpec(action), deferred=True, args=args))

        return guarded

    def _let_in(self, scope: Scope) -> GuardedRequest:
        current = passage(scope)
        endpoint = scope.get("endpoint")
        spec = spec_of(endpoint)
        if spec is not None and spec.gate == self._gate:
            current.screen(spec.action)
        elif not (current.public and any(routes.is_open(endpoint) for routes in self._route_tables)):
            raise Withheld(f"{endpoint!r} states no action and is not public")
        return current

    def _states(self, endpoint: object) -> bool:
        spec = spec_of(endpoint)
        return spec is not None and spec.gate == self._gate


class _RouteRules:
    """What the routes of a protected application say about a request and its answer."""

    def __init__(self, routes: RouteTable, states: Callable[[object], bool]) -> None:
        self._routes = routes
        self._states = states

    def problems(self) -> list[str]:
        return self._routes.problems()

    def public(self, scope: Scope) -> bool:
        return self._routes.opens(path_of(scope))

    def withheld(self, scope: Scope, current: GuardedRequest, status: int) -> str | None:
        if current.entered:
            return "no check passed"
        endpoint = scope.get("endpoint")
        if current.public and self._routes.is_open(endpoint):
            return None
        if endpoint is None or self._routes.is_container(endpoint):
            # The framework's own: no such path, no such method, the same path with a slash.
            return None if status >= 400 or status in (307, 308) else "nothing that states an action answered"
        if not self._states(endpoint):
            return f"{endpoint!r} states no action and is not public"
        return None if status >= 400 else "the action was not judged"
