"""What an agent of the demo holds, on either side: the one thing that differs between the two.

Laws: neither sends its credential to any origin but the services'. Neither asks anyone when it shares.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Protocol

import httpx

from capx import presenting
from capx.bundle import Bundle
from capx.chain import b64u

PATIENCE = 30.0
"""Seconds to wait for a service."""


class Credential(Protocol):
    """Something to show to services, and to share with another agent."""

    @property
    def text(self) -> str:
        """The secret itself."""
        ...

    @property
    def node(self) -> str | None:
        """The node of the execution graph at which it is held, if it knows of one."""
        ...

    def client(self, services: Mapping[str, str]) -> httpx.Client:
        """Make a client that shows this to the services, given by name with their origins."""
        ...

    def shared(self, *, to: str, allow: Sequence[str]) -> "Credential":
        """Make what another agent gets, which needs no more than the actions in `allow`."""
        ...


class Session:
    """The bearer token of a service account."""

    node = None

    def __init__(self, text: str) -> None:
        self.text = text

    def client(self, services: Mapping[str, str]) -> httpx.Client:
        """Make a client that sends the token along."""
        return httpx.Client(auth=_BearerAuth(self.text, services.values()), trust_env=False, timeout=PATIENCE)

    def shared(self, *, to: str, allow: Sequence[str]) -> "Session":
        """Give the same token: there is nothing narrower to give."""
        del to, allow
        return self


class Execution:
    """A bundle of capabilities."""

    def __init__(self, text: str) -> None:
        self._bundle = Bundle.parse(text)
        self.text = text
        self.node = None if self._bundle.node is None else b64u(self._bundle.node)

    def client(self, services: Mapping[str, str]) -> httpx.Client:
        """Make a client that presents one capability for each single request."""
        return presenting.http(
            {origin: audience for audience, origin in services.items()}, self._bundle, trust_env=False, timeout=PATIENCE
        )

    def shared(self, *, to: str, allow: Sequence[str]) -> "Execution":
        """Delegate offline: the same authority, narrowed by one more block."""
        return Execution(self._bundle.delegate(to=to, allow=allow).text)


SIDES: Mapping[str, type[Session] | type[Execution]] = {"session": Session, "execution": Execution}


class _BearerAuth(httpx.Auth):
    def __init__(self, token: str, origins: Iterable[str]) -> None:
        self._token = token
        self._origins = frozenset(origins)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if f"{request.url.scheme}://{request.url.netloc.decode()}" in self._origins:
            request.headers["Authorization"] = f"Bearer {self._token}"
        yield request
