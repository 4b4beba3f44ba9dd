"""The credential of an agent of the demo. Only the credential differs between the two sides.

Laws: an agent sends its credential only to the origins of the services. It shares it without asking anybody.
"""

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

import httpx

from capx import Agent, AgentKey, AuthorityClient, Bundle, SignedIntent
from capx.agent import httpx_client
from capx.crypto.base64url import b64u
from capx_cli.demo import attack
from capx_cli.demo.charter import BO

Key = AgentKey | str
"""The key of the next agent, or only its public half."""
PATIENCE = 30.0
"""Seconds to wait for a service, and for a person."""


class Session:
    """The bearer token of a service account; `text` is the secret itself. It has no node."""

    node = None

    def __init__(self, text: str) -> None:
        self.text = text

    @classmethod
    def from_env(cls) -> "Session":
        """Take the token from the environment."""
        return cls(os.environ.pop("DEMO_TOKEN"))

    @classmethod
    def handed(cls, text: str, key: AgentKey, job: Mapping[str, Any]) -> "Session":
        """Take the token from the text of another agent; it has nothing to do with a key or a task."""
        del key, job
        return cls(text)

    def to_hand(self) -> str:
        """The text for another agent: the token itself."""
        return self.text

    def client(self, services: Mapping[str, str], *, asks: bool = True) -> httpx.Client:
        """Make a client that sends the token with each request; there is nobody to ask for more."""
        del asks
        return httpx.Client(auth=_BearerAuth(self.text, services.values()), trust_env=False, timeout=PATIENCE)

    def shared(self, *, to: str, to_key: Key, allow: Sequence[str], may_ask: Sequence[str] = ()) -> "Session":
        """Return the same token: a session token cannot be narrowed."""
        del to, to_key, allow, may_ask
        return self

    def struggle(self, export: httpx.Response, job: Mapping[str, Any]) -> dict[str, Any]:
        """Try only the token of another agent: this one allows everything already."""
        tried = [attack.called(export.request.url, attack.STOLEN, f"Bearer {job['brief']['token']}")]
        return {"tried": tried, "documents": {"intents": {}, "verdicts": {}}}


class Execution:
    """A capx agent: a bundle of capabilities, the key that it is bound to, and the authority to ask for more."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    @classmethod
    def from_env(cls) -> "Execution":
        """Take the bundle, the key and the address of the authority from the environment."""
        return cls(Agent.from_env(wait=PATIENCE, trust_env=False))

    @classmethod
    def handed(cls, text: str, key: AgentKey, job: Mapping[str, Any]) -> "Execution":
        """Take a bundle of the task of this job from the text of another agent."""
        bundle = Bundle.unseal(text, key, task=job["task"])
        authority = AuthorityClient(job["authority"], bundle, trust_env=False)
        return cls(Agent(bundle, key=key, authority=authority, wait=PATIENCE))

    def to_hand(self) -> str:
        """The text for another agent: the bundle, sealed to the key of that agent."""
        return self.agent.bundle.sealed()

    @property
    def text(self) -> str:
        """The secret itself: the bundle as it is now."""
        return self.agent.bundle.text

    @property
    def node(self) -> str | None:
        """The node of the execution graph that holds the bundle."""
        node = self.agent.bundle.node
        return None if node is None else b64u(node)

    def client(self, services: Mapping[str, str], *, asks: bool = True) -> httpx.Client:
        """Make a client that presents one capability for each request.

        When a call is denied, it `asks` the authority for what the call lacks, or presents only what is held now.
        """
        origins = {origin: audience for audience, origin in services.items()}
        actor = self.agent if asks else self.agent.bundle
        return httpx_client.client(origins, actor, trust_env=False, timeout=PATIENCE)

    def shared(self, *, to: str, to_key: Key, allow: Sequence[str], may_ask: Sequence[str] = ()) -> "Execution":
        """Delegate offline: append a signed block that narrows the bundle and names the next key."""
        return Execution(self.agent.delegate(to=to, to_key=to_key, allow=allow, may_ask=may_ask))

    def struggle(self, export: httpx.Response, job: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for more, use a stolen bundle, forge and replay documents; return the attempts and the documents."""
        signed = SignedIntent.parse(job["intent"].encode())
        tried = list(attack.tries(self.agent, job["authority"], signed, export))
        tried += attack.thefts(export.request.url, job["brief"]["token"])
        return {"tried": tried, "documents": attack.documents(self.agent, signed, approver=BO)}


Credential = Session | Execution
"""A credential that an agent shows to services and shares with other agents; both kinds have the same methods."""
SIDES: Mapping[str, type[Session] | type[Execution]] = {"session": Session, "execution": Execution}


class _BearerAuth(httpx.Auth):
    def __init__(self, token: str, origins: Iterable[str]) -> None:
        self._token = token
        self._origins = frozenset(origins)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        # Not as a header of the client: that would send the token to the attacker's sink too.
        if f"{request.url.scheme}://{request.url.netloc.decode()}" in self._origins:
            request.headers["Authorization"] = f"Bearer {self._token}"
        yield request
