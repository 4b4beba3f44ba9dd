"""The session-scoped side: one service-account bearer token, as most services check them today.

Laws: whoever bears the token is the service account. The token says nothing of tasks, tenants or actions, so the
guard cannot ask; and there is nothing to narrow before it is shared.
"""

import hmac
import inspect
import os
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

from fastapi import Depends, FastAPI, HTTPException, Request


class SessionGuard:
    """Lets every request in that bears the token of the service account."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    @classmethod
    def from_env(cls) -> "SessionGuard":
        """Take the token from `DEMO_TOKEN`."""
        return cls(os.environ["DEMO_TOKEN"])

    def protect(self, app: FastAPI) -> None:
        """Check the token at every route."""
        app.router.dependencies.append(Depends(self._check))

    def deferred(self, action: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Mark a route like the other guard does; a session has no idea of actions, so this asks nothing."""
        del action

        def mark(endpoint: Callable[..., Any]) -> Callable[..., Any]:
            @wraps(endpoint)
            def unasked(**arguments: Any) -> Any:
                return endpoint(**arguments, check=Unasked())

            signature = inspect.signature(endpoint)
            kept = [parameter for parameter in signature.parameters.values() if parameter.name != "check"]
            unasked.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined] # FastAPI reads it
            return unasked

        return mark

    def _check(self, request: Request) -> None:
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, self._expected):
            raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})


class Unasked:
    """Stands where a check of the call would be."""

    def __call__(self, *, tenant: str | None = None) -> None:
        """Let it pass, whosever data it is."""

    def missing(self) -> NoReturn:
        """Answer that there is no such thing."""
        raise HTTPException(404)
