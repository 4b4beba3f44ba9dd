"""An agent: what it holds, and the authority it asks for more while it works.

    with capx.Agent.from_env() as agent, agent.http() as client:
        client.get("https://crm.internal/accounts/7")      # asks for what it is refused, and tries again

Laws: it asks for what a refusal names, at the audience that it meant to speak to and at no other, for one call no more
than twice. What is granted is held before the call is tried again. Whoever stops waiting, or is cancelled, leaves at
once; what is granted after that is held all the same. An event loop is never blocked to wait for a person.
"""

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, ParamSpec, Self, TypeVar, Unpack, cast

from capx.agent.actor import acting
from capx.agent.ask_queue import AskQueue
from capx.agent.next_asks import AskOutcome, NextAsks
from capx.agent.protocols import ActsForHolder, AgentAuthority
from capx.api.messages.agents import AgentStatus
from capx.background import run_in_thread, wait_async
from capx.errors import CapxError, ConfigurationProblem, InvalidRequest
from capx.tokens.bundle import Bundle, Narrowing, frozen_narrowing
from capx.tokens.delegation import Delegation
from capx.tokens.lineage import AUTHORITY
from capx.verify.ask import Answer, Ask, Pending
from capx.verify.decision import Denied
from capx_caveats import JSON

if TYPE_CHECKING:
    import httpx

    from capx.tokens.capability import Capability

P = ParamSpec("P")
R = TypeVar("R")

WAIT: Final = 30.0
"""Seconds for which an agent waits for a person, unless it is told otherwise."""


class Agent:
    """Whoever holds a bundle, and acts with it; safe with several threads and tasks.

    `authority` is whom it asks, with this bundle and no other: an `Authority` of this process, or the URL of one, or an
    `AuthorityClient`, whose settings it takes over and which is not its to close; without one it asks for nothing.
    `wait` is for how many seconds it waits for a person; `origins` is whom its HTTP clients speak to, each origin with
    its audience.

    A client of `http` or a tool of `tool` that is refused asks for what the refusal says. If that is granted, the call
    is made once more; if then its arguments are refused, it asks for these, and the call is made a last time. A call
    that stays refused says why: notes on the Denied, or the extensions `capx_ask` and `capx_granted` of the response,
    tell why nothing was granted, and what was granted in vain. Pending is raised when a person has not answered in
    time: nothing was done, and the same call can be made again later.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        authority: "ActsForHolder | str | None" = None,
        wait: float = WAIT,
        origins: Mapping[str, str] | None = None,
    ) -> None:
        self.wait = _seconds(wait)
        self.origins = None if origins is None else dict(origins)
        self._bundle = bundle
        self._lock = threading.Lock()
        self._authority = _agent_authority(authority, bundle)
        self._queue = AskQueue(self._ask, self._hold)

    @classmethod
    def from_env(cls, *, wait: float = WAIT, **client: Any) -> Self:
        """The agent that the environment of this process describes, which then holds no bundle any more.

        CAPX_TOKEN_FILE names a file with the bundle, that only its owner may read, else CAPX_TOKEN holds it;
        CAPX_AUTHORITY_URL is the authority, CAPX_ORIGINS the services, as `crm=https://crm.internal,…`. The other
        keywords are httpx's, for the authority. ConfigurationProblem for what is missing or cannot be used.
        """
        from capx.agent.env import take

        with _httpx_for("Agent.from_env"):
            found = take()  # before anything that may be missing: no other process shall inherit it
            from capx.agent.authority_client import AuthorityClient
        agent = cls(found.bundle, wait=wait, origins=found.origins or None)
        if found.url is not None:
            agent._authority = AuthorityClient(found.url, found.bundle, **client)
        return agent

    @property
    def bundle(self) -> Bundle:
        """What it holds now: a secret."""
        return self._bundle

    def http(self, origins: Mapping[str, str] | None = None, **client: Any) -> "httpx.Client":
        """A client that acts as this agent: see `capx.agent.httpx_client.client`, whose keywords these are."""
        with _httpx_for("Agent.http"):
            from capx.agent import httpx_client

        return httpx_client.client(self._spoken_to(origins), self, **client)

    def async_http(self, origins: Mapping[str, str] | None = None, **client: Any) -> "httpx.AsyncClient":
        """`http` for async code."""
        with _httpx_for("Agent.async_http"):
            from capx.agent import httpx_client

        return httpx_client.async_client(self._spoken_to(origins), self, **client)

    def tool(self, function: Callable[P, R]) -> Callable[P, R]:
        """The function, run as this agent: guarded tools and presenting clients in it act with what it holds then.

        A guarded tool that is refused asks before it runs, so no function runs twice. A plain function that is called
        in the thread of an event loop waits for no person: Pending is raised at once.
        """
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def act_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with acting(self):
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", act_async)

        @functools.wraps(function)
        def act(*args: P.args, **kwargs: P.kwargs) -> R:
            with acting(self):
                return function(*args, **kwargs)

        return act

    def ask(
        self,
        action: str,
        *,
        audience: str | None = None,
        args: Mapping[str, JSON] | None = None,
        wait: float | None = None,
    ) -> Answer:
        """What becomes of an ask, a person's answer within `wait` seconds; what is granted is held.

        The audience is the action's first label unless another is named; with `args`, even none, the ask is for these
        alone. Denied if the bundle may not ask for it.
        """
        return self._queue.run(Ask.of(action, audience, args), self._patience(wait))

    async def ask_async(
        self,
        action: str,
        *,
        audience: str | None = None,
        args: Mapping[str, JSON] | None = None,
        wait: float | None = None,
    ) -> Answer:
        """`ask`, for async code."""
        return await self._queue.run_async(
            Ask.of(action, audience, args), self.wait if wait is None else _seconds(wait)
        )

    def seek(self, wanted: NextAsks) -> AskOutcome | None:
        """What came of the next asks, for guards and clients; None if there is nobody to ask. Raises Pending."""
        outcome: AskOutcome | None = None
        for ask in self._asks(wanted):
            answer: Answer | CapxError
            try:
                answer = self._queue.run(ask, self._patience(None))
            except CapxError as error:
                answer = error
            outcome = _outcome(ask, answer)
            if not isinstance(answer, Denied):
                break
        return outcome

    async def seek_async(self, wanted: NextAsks) -> AskOutcome | None:
        """`seek`, for async code."""
        outcome: AskOutcome | None = None
        for ask in self._asks(wanted):
            answer: Answer | CapxError
            try:
                answer = await self._queue.run_async(ask, self.wait)
            except CapxError as error:
                answer = error
            outcome = _outcome(ask, answer)
            if not isinstance(answer, Denied):
                break
        return outcome

    def delegate(self, *, to: str, **narrowing: Unpack[Narrowing]) -> "Agent":
        """Another agent, with its own bundle, as of `Bundle.delegate`, which asks the same authority."""
        return self._other(self.bundle.delegate(to=to, **frozen_narrowing(**narrowing)))

    def delegated(self, *, to: str, **narrowing: Unpack[Narrowing]) -> "Delegated":
        """`delegate` for a block of code, `with` or `async with`, at whose end the other agent is revoked."""
        return Delegated(self.bundle.delegated(to=to, at=self._demand_authority(), **narrowing), self._other)

    def complete(self) -> None:
        """End the task because its work is done: all its tokens are dead when this returns."""
        self._demand_authority().complete()

    async def complete_async(self) -> None:
        """`complete`, for async code."""
        await wait_async(run_in_thread(self.complete, name="capx-complete"))

    def status(self) -> AgentStatus:
        """How the task stands."""
        return self._demand_authority().status()

    async def status_async(self) -> AgentStatus:
        """`status`, for async code."""
        return await wait_async(run_in_thread(self.status, name="capx-status"))

    def close(self) -> None:
        """Wait for no person any more, and let go of connections to the authority."""
        self._queue.close()
        if self._authority is not None:
            self._authority.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Agent({self._bundle!r})"

    def __reduce__(self) -> NoReturn:
        raise InvalidRequest("an agent holds a secret: pass the text of its bundle on where it must go")

    def _ask(self, ask: Ask, wait: float) -> Answer:
        return self._demand_authority().ask(ask.action, audience=ask.audience, args=ask.args, wait=wait)

    def _hold(self, capability: "Capability") -> None:
        with self._lock:
            self._bundle = self._bundle.holding(capability)

    def _asks(self, wanted: NextAsks) -> tuple[Ask, ...]:
        """What it can ask for: nothing, if it has no authority, or nothing to present there."""
        return wanted.asks if self._authority is not None and AUTHORITY in self._bundle.audiences else ()

    def _other(self, bundle: Bundle) -> "Agent":
        return Agent(bundle, authority=self._authority, wait=self.wait, origins=self.origins)

    def _demand_authority(self) -> AgentAuthority:
        if self._authority is None:
            raise InvalidRequest("this agent has no authority to ask: make it with `authority=`")
        return self._authority

    def _spoken_to(self, origins: Mapping[str, str] | None) -> Mapping[str, str]:
        spoken_to = self.origins if origins is None else origins
        if spoken_to is None:
            raise ConfigurationProblem(
                "this agent knows no origins: name them, each with its audience, or set CAPX_ORIGINS"
            )
        return spoken_to

    def _patience(self, wait: float | None) -> float:
        """For how long this thread may wait for a person."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self.wait if wait is None else _seconds(wait)
        return 0.0


class Delegated:
    """Another agent for one block, `with` or `async with`: it is revoked when the block is left."""

    def __init__(self, delegation: Delegation[Bundle], other: Callable[[Bundle], Agent]) -> None:
        self._delegation = delegation
        self._other = other
        self._agent: Agent | None = None

    def __enter__(self) -> Agent:
        self._agent = self._other(self._delegation.__enter__())
        return self._agent

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._delegation.__exit__(kind, raised, trace)
        finally:
            self._close()

    async def __aenter__(self) -> Agent:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._delegation.__aexit__(kind, raised, trace)
        finally:
            self._close()

    def _close(self) -> None:
        if self._agent is not None:
            self._agent.close()


def _outcome(ask: Ask, answer: Answer | CapxError) -> AskOutcome:
    if isinstance(answer, Pending):
        # One of its own for each call that stops here: several may wait for the same answer.
        raise Pending(answer.ask, request=answer.request, until=answer.until, approvers=answer.approvers)
    return AskOutcome(ask, answer)


def _seconds(wait: float) -> float:
    if not 0 <= wait <= threading.TIMEOUT_MAX:
        raise InvalidRequest(f"`wait` is a number of seconds, such as 30, and not {wait}")
    return wait


def _agent_authority(authority: "ActsForHolder | str | None", bundle: Bundle) -> AgentAuthority | None:
    """Whom an agent asks with this bundle, which is the agent's to close."""
    if authority is None:
        return None
    if isinstance(authority, str):
        with _httpx_for("an authority elsewhere"):
            from capx.agent.authority_client import AuthorityClient

        return AuthorityClient(authority, bundle)
    found = _acting_for(authority, bundle)
    if not isinstance(found, AgentAuthority):
        raise InvalidRequest(
            f"an agent asks an Authority, an AuthorityClient or the URL of one, and not a {type(authority).__name__}"
        )
    return found


def _acting_for(authority: object, bundle: Bundle) -> object:
    """What answers the holder of a bundle, if this is an authority, as not everybody who checks no types gives one."""
    # A class has the methods of its instances.
    if isinstance(authority, type) or not isinstance(authority, ActsForHolder):
        return None
    return authority.acting_for(bundle)


@contextmanager
def _httpx_for(what: str) -> Generator[None]:
    """A block that imports what stands on httpx; ConfigurationProblem where that is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise ConfigurationProblem(f"{what} needs httpx: pip install 'capx-auth[httpx]'") from None
