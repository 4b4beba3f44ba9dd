"""The session-scoped side: one service-account bearer token, as most services check them today.

Laws: anybody with the token acts as the service account. The token names no task, tenant or action, so the guard cannot
check them, and an agent cannot narrow the token before it shares it.
"""

import hmac
import inspect
import os
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

from fastapi import Depends, FastAPI, HTTPException, Request


class SessionGuard:
    """Admit every request that has the token of the service account."""

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
        """Mark a route as the other guard does; a session knows no actions, so nothing is checked."""
        del action

        def mark(endpoint: Callable[..., Any]) -> Callable[..., Any]:
            @wraps(endpoint)
            def unchecked(**arguments: Any) -> Any:
                return endpoint(**arguments, check=Unchecked())

            # FastAPI makes parameters from the signature, and `check` does not come from the request.
            signature = inspect.signature(endpoint)
            kept = [parameter for parameter in signature.parameters.values() if parameter.name != "check"]
            unchecked.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined] # FastAPI reads it
            return unchecked

        return mark

    def _check(self, request: Request) -> None:
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, self._expected):
            raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})


class Unchecked:
    """Takes the place of the check of a call, and checks nothing."""

    def __call__(self, *, tenant: str | None = None) -> None:
        """Allow the call, whatever tenant the data belong to."""

    def missing(self) -> NoReturn:
        """Answer 404."""
        raise HTTPException(404)
