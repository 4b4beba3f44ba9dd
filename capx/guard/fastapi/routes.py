"""Reads the routes of a FastAPI application: which are public, and which state an action.

Law: each endpoint is public or states an action; otherwise it is a problem. A mounted application into which the guard
cannot see is a problem, too, unless its path is public.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from re import Pattern
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts
from msgspec import Struct
from starlette.routing import BaseRoute, Host, Mount, Route, WebSocketRoute, compile_path

from capx.guard.asgi.messages import Scope
from capx.guard.fastapi.endpoint import Gate, spec_of
from capx.guard.fastapi.inputs import overridden, unnamed


class RouteEntry(Struct, frozen=True):
    """A route, or a mounted application whose routes the guard cannot see (`opaque`).

    `openings` are the paths of the mounts around it, `overrides` the dependencies that its application runs for others.
    """

    path: str
    endpoint: object
    dependant: Dependant | None
    opaque: bool = False
    openings: tuple[str, ...] = ()
    overrides: Mapping[Any, Callable[..., Any]] = {}


class RouteTable:
    """The endpoints of an application's routes, read when it starts, and again at its first request."""

    def __init__(self, app: FastAPI, public: Iterable[str], gate: Gate) -> None:
        self._app = app
        self._public = tuple(dict.fromkeys(public))
        self._patterns = {path: compile_path(path)[0] for path in self._public}
        self._gate = gate
        self._first = Depends(gate)
        self._open: dict[int, object] = {}
        self._containers: dict[int, object] = {}

    def problems(self) -> list[str]:
        """Return everything that is wrong with the routes; put the gate before the other dependencies of each."""
        self._open.clear()
        self._containers.clear()
        problems: list[str] = []
        unused = set(self._public)
        for entry in self._walk(self._app, self._app.routes, "", ()):
            used = [path for path in self._patterns if path in (entry.path, *entry.openings)]
            unused.difference_update(used)
            problems.extend(f"{entry.path}: {problem}" for problem in self._faults(entry, is_open=bool(used)))
            if used and entry.opaque:
                self._patterns.update((path, _below(path)) for path in used)
        if getattr(self._app.router, "_low_priority_routes", ()):
            problems.append("a frontend is served, and the guard cannot see its routes: serve it elsewhere")
        # A misspelled public path would be harmless today and would open a route that gets this path later.
        problems.extend(f"public={path!r} matches no route" for path in sorted(unused))
        return problems

    def opens(self, path: str) -> bool:
        """Whether a path, without the root path of the application, is open to everybody."""
        return any(pattern.match(path) for pattern in self._patterns.values())

    def is_open(self, endpoint: object) -> bool:
        """Whether an endpoint was found at a public path."""
        # By id: endpoints need not be hashable. The table keeps each object, so no other one gets its id.
        return id(endpoint) in self._open

    def is_container(self, endpoint: object) -> bool:
        """Whether the endpoint is a mounted application whose routes the table has read.

        If such an application is the endpoint of a request, none of its routes matched.
        """
        return id(endpoint) in self._containers

    def _faults(self, entry: RouteEntry, *, is_open: bool) -> Iterator[str]:
        spec = spec_of(entry.endpoint, self._gate)
        if is_open:
            if spec is not None:
                yield "it states an action and is public: remove one of the two"
            self._open[id(entry.endpoint)] = entry.endpoint
        elif entry.opaque:
            yield "the guard cannot see into what is mounted here: make it public, or serve it elsewhere"
        elif spec is None:
            yield (
                "it states no action: mark it with the guard, right below the decorator of the route, or list it in "
                "public="
            )
        elif entry.dependant is None:
            yield "only FastAPI's own routes can state an action"
        else:
            # Routers add dependencies of their own before it. A stranger must not reach them.
            _put_first(entry.dependant, self._gate)
            if not spec.states_args:
                yield from unnamed(overridden(entry.dependant, entry.overrides), self._gate)

    def _walk(self, app: object, routes: Iterable[Any], prefix: str, openings: tuple[str, ...]) -> Iterator[RouteEntry]:
        overrides = getattr(app, "dependency_overrides", {})
        for context in iter_route_contexts(list(routes)):
            # A context has the attributes of its route, with the prefixes and dependencies of the included router.
            route: Any = context
            original = context.original_route
            path = prefix + str(context.path or "")
            if isinstance(original, Mount | Host):
                yield from self._through(route, path, openings, below=isinstance(original, Mount))
            elif isinstance(original, APIRoute | APIWebSocketRoute):
                yield RouteEntry(path, context.endpoint, route.dependant, openings=openings, overrides=overrides)
            elif isinstance(original, Route | WebSocketRoute):
                yield RouteEntry(path, context.endpoint, None, openings=openings)
            else:
                yield RouteEntry(path or repr(original), original, None, opaque=True, openings=openings)

    def _through(self, route: Any, path: str, openings: tuple[str, ...], *, below: bool) -> Iterator[RouteEntry]:
        routes: list[BaseRoute] = list(route.routes or [])
        app = getattr(route, "_base_app", route.app)
        if routes and path not in self._public:
            self._containers[id(route.app)] = route.app
            router = getattr(app, "router", app)
            # So that a route that is added later does not run there, either.
            if isinstance(router, APIRouter) and self._first not in router.dependencies:
                router.dependencies.insert(0, self._first)
        else:
            yield RouteEntry(path, route.app, None, opaque=True, openings=openings)
        yield from self._walk(app, routes, path if below else "", (*openings, path) if below else openings)


def _below(path: str) -> Pattern[str]:
    """Return the pattern of a mount: its path opens all paths below it."""
    return compile_path(path.rstrip("/") + "/{capx_rest:path}")[0]


def _put_first(dependant: Dependant, gate: Gate) -> None:
    gates = [dependency for dependency in dependant.dependencies if dependency.call == gate]
    others = [dependency for dependency in dependant.dependencies if dependency.call != gate]
    dependant.dependencies[:] = gates + others


def path_of(scope: Scope) -> str:
    """Return a request's path without the application's root path."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path
