"""An agent: it holds a bundle, and asks an authority for more while it works.

    with capx.Agent.from_env() as agent, agent.http() as client:
        client.get("https://crm.internal/accounts/7")      # if this is denied, the agent asks, and tries again

Laws: an agent asks for what a denial names, only at the audience that it meant to call, and at most twice for one call.
It holds a grant before it tries the call again. A caller that stops waiting, or is cancelled, returns at once; the
agent still holds what is granted later. An agent never blocks an event loop to wait for a person. An authority that
gives no answer is Unavailable, and never a refusal.
"""

import threading
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, ParamSpec, Self, TypeVar, Unpack

from capx.agent.actor import run_as
from capx.agent.agent_authority import AgentAuthority
from capx.agent.ask_queue import AskQueue
from capx.agent.next_asks import AskOutcome, NextAsks, is_limited_grant
from capx.agent.protocols import ActsForHolder
from capx.agent.unproven_grants import UnprovenGrants
from capx.agent.working import Working
from capx.api.messages.agents import AgentStatus
from capx.background import begin_in_each_process, in_event_loop, run_in_thread, wait_async, without_loop
from capx.crypto.instants import seconds
from capx.errors import (
    CapxError,
    ConfigurationProblem,
    InvalidCaveat,
    InvalidRequest,
    MalformedToken,
    Unavailable,
    UnknownRequest,
    UnknownTask,
)
from capx.tokens.binding import HttpRequest
from capx.tokens.bundle import Bundle, Narrowing, frozen_narrowing
from capx.tokens.delegation import Delegation
from capx.tokens.discharge import Discharge
from capx.tokens.guarded_function import guard_of
from capx.tokens.lineage import AUTHORITY
from capx.tokens.signed_blocks import SigningKey
from capx.verify.ask import Answer, Ask, Granted, Pending
from capx.verify.decision import Denied
from capx_caveats import JSON

if TYPE_CHECKING:
    import httpx

    from capx.tokens.capability import Capability

P = ParamSpec("P")
R = TypeVar("R")

WAIT: Final = 30.0
"""Seconds for which an agent waits for a person by default."""


class Agent:
    """Holds a bundle and acts with it; several threads and tasks may use one agent.

    `authority` is where it asks for more, always with this bundle: an `Authority` of this process, the URL of one, or
    an `AuthorityClient`, whose settings it uses and which it does not close. Without one the agent asks for nothing.
    `wait` is how many seconds it waits for a person. `origins` maps each origin that its HTTP clients call to its
    audience.

    When a call of a client of `http` or a tool of `tool` is denied, the agent asks for what the denial names: a grant,
    or the approval of people that its token demands. If it gets that, it makes the call again. If then the arguments
    are denied, it asks for exactly these, and makes the call a last time. A call that stays denied says why: `notes` of
    the Denied, or the extensions `capx_notes`, `capx_ask` and `capx_granted` of the response, say why nothing was
    granted, or what was granted and did not help. Pending is raised when a person has not answered in time, and
    Unavailable, caused by the Denied, when the authority has given no answer: nothing was done, and the caller can make
    the same call again later. After a few grants that did not help at one audience, calls there ask no more: see
    `capx.agent.unproven_grants`.

    `key` is the agent's own key, if its tokens are bound to one: an `AgentKey`, or anything with its `public` and
    `sign`. The agent signs all its calls, asks and delegations with it. InvalidRequest if the bundle is bound to
    another key or to none. An agent without the key of its tokens can hand them over, and not act.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        key: SigningKey | None = None,
        authority: "ActsForHolder | str | None" = None,
        wait: float = WAIT,
        origins: Mapping[str, str] | None = None,
    ) -> None:
        self.wait = seconds("wait", wait)
        self.origins = None if origins is None else dict(origins)
        self._bundle = bundle if key is None else bundle.with_key(key)
        begin_in_each_process(self._begin)
        self._authority = _agent_authority(authority, self._bundle)
        self._queue = AskQueue(self._ask, self._hold)
        self._unproven = UnprovenGrants()
        self._closed = False

    def _begin(self) -> None:
        # As in UnprovenGrants: the thread that holds the lock at the fork is not in the child.
        self._lock = threading.Lock()

    @classmethod
    def from_env(cls, *, wait: float = WAIT, **client: Any) -> Self:
        """Make the agent that the environment of this process describes, and take the bundle out of the environment.

        CAPX_TOKEN_FILE names a file with the bundle, which only its owner may read; otherwise CAPX_TOKEN holds the
        bundle. Prefer the file: `/proc/PID/environ` of this process, and of a parent that was started with CAPX_TOKEN,
        still shows the bundle to all processes of the same user. CAPX_AGENT_KEY_FILE names the file of the agent's key,
        which only its owner may read: set it if the bundle is bound to a key, and only then. CAPX_AUTHORITY_URL is the
        authority, CAPX_ORIGINS the services, as `crm=https://crm.internal,…`. The other keywords are those of httpx,
        for the authority. ConfigurationProblem if something is missing or cannot be used, and for another key than that
        of the bundle. After that, another call needs the key file again, and not the bundle, which this process keeps.
        """
        from capx.agent.env import take

        with _httpx_for("Agent.from_env"):
            # First of all: even if httpx is missing, no other process may inherit the bundle.
            found = take()
            from capx.agent.authority_client import AuthorityClient
        agent = cls(found.bundle, wait=wait, origins=found.origins or None)
        if found.url is not None:
            agent._authority = AuthorityClient(found.url, found.bundle, **client)
        return agent

    @property
    def bundle(self) -> Bundle:
        """The bundle that it holds now: a secret."""
        return self._bundle

    @property
    def key(self) -> SigningKey | None:
        """The key that it signs with; None if its tokens are bound to none, or the key is not here."""
        return self._bundle.key

    @property
    def can_ask(self) -> bool:
        """Whether there is an authority that it can ask for more."""
        return self._authority is not None and AUTHORITY in self._bundle.audiences

    @property
    def unproven(self) -> UnprovenGrants:
        """The grants with which no call has passed yet; after a few in vain at an audience, calls there ask no more."""
        return self._unproven

    def http(self, origins: Mapping[str, str] | None = None, **client: Any) -> "httpx.Client":
        """Make a client that acts as this agent; the keywords are those of `capx.agent.httpx_client.client`."""
        self._demand_key("present a request")
        with _httpx_for("Agent.http"):
            from capx.agent import httpx_client

        return httpx_client.client(self._demand_origins(origins), self, **client)

    def async_http(self, origins: Mapping[str, str] | None = None, **client: Any) -> "httpx.AsyncClient":
        """`http` for async code."""
        self._demand_key("present a request")
        with _httpx_for("Agent.async_http"):
            from capx.agent import httpx_client

        return httpx_client.async_client(self._demand_origins(origins), self, **client)

    def tool(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return the function, run as this agent: guarded tools and clients in it act with the bundle of that moment.

        A guarded tool asks before it runs, so no function runs twice. A plain function that is called in the thread of
        an event loop does not wait for a person: Pending is raised at once.

        ConfigurationProblem for a generator, and for a plain function that returns an awaitable or a generator: that
        work would run later, as whoever acts then. `async def` functions, also behind `functools.partial` and as
        `__call__` of an object, are awaited as this agent.
        """
        return run_as(self, function)

    def calling(self, tool: Callable[P, R]) -> Callable[P, R]:
        """`tool` for a guarded tool only: `agent.calling(tool)(…)`; InvalidRequest for any other function."""
        return guard_of(tool).called_by(self)

    def ask(
        self,
        action: str,
        *,
        audience: str | None = None,
        args: Mapping[str, JSON] | None = None,
        wait: float | None = None,
        demand: str | None = None,
    ) -> Answer:
        """Ask for an action, hold what is granted, and return the answer.

        It waits up to `wait` seconds for a person. The audience is the first label of the action unless `audience`
        names another. With `args`, even empty ones, the ask is for these arguments only. With `demand`, the cid of a
        demand of its token, it asks people to approve this one call. Denied if the bundle may not ask for it,
        Unavailable if the authority gives no answer.
        """
        self._demand_open()
        return self._queue.run(Ask.of(action, audience, args, demand), self._patience(wait))

    async def ask_async(
        self,
        action: str,
        *,
        audience: str | None = None,
        args: Mapping[str, JSON] | None = None,
        wait: float | None = None,
        demand: str | None = None,
    ) -> Answer:
        """`ask`, for async code."""
        self._demand_open()
        patience = self.wait if wait is None else seconds("wait", wait)
        return await self._queue.run_async(Ask.of(action, audience, args, demand), patience)

    def seek(self, wanted: NextAsks) -> AskOutcome | None:
        """Send the next asks, for a guard or a client, and hold what is granted.

        Return the outcome; None if there is no authority to ask. Raise Pending if a person has not answered in time,
        and InvalidRequest if the agent is closed.
        """

        async def run(ask: Ask) -> Answer:
            return self._queue.run(ask, self._patience(None))

        return without_loop(self._sought(wanted, run))

    async def seek_async(self, wanted: NextAsks) -> AskOutcome | None:
        """`seek`, for async code."""
        return await self._sought(wanted, lambda ask: self._queue.run_async(ask, self.wait))

    async def _sought(self, wanted: NextAsks, run: Callable[[Ask], Awaitable[Answer]]) -> AskOutcome | None:
        outcome: AskOutcome | None = None
        for ask in self._asks(wanted):
            answer: Answer | CapxError
            try:
                answer = await run(ask)
            except CapxError as error:
                answer = error
            outcome = _outcome(ask, answer)
            if not outcome.needs_arguments:
                break
        return outcome

    def delegate(self, *, to: str, **narrowing: Unpack[Narrowing]) -> "Agent":
        """Make another agent, with a bundle of its own from `Bundle.delegate`, that asks the same authority.

        If the tokens are bound to a key, `to_key` is the key of the other agent. Given the key itself, such as an
        `AgentKey`, the other agent holds it. Given its public half only, the other agent cannot act here: hand its
        bundle over, as `other.bundle.sealed()`.
        """
        self._demand_key("delegate")
        return self._other(self.bundle.delegate(to=to, **frozen_narrowing(**narrowing)))

    def delegated(self, *, to: str, **narrowing: Unpack[Narrowing]) -> "Delegated":
        """`delegate` for a block of code, `with` or `async with`; the other agent is revoked at its end."""
        self._demand_key("delegate")
        return Delegated(self.bundle.delegated(to=to, at=self._demand_authority(), **narrowing), self._other)

    def statement(
        self,
        action: str,
        *,
        audience: str | None = None,
        args: Mapping[str, JSON] | None = None,
        request: HttpRequest | None = None,
    ) -> str:
        """Return a statement that this one call is permitted, for a third party that holds no key: a JWT.

        The authority judges the call, spends what it costs and records it. Send the statement with the call, in the
        header `Capx-Statement`. `request` is the HTTP request that carries it, if you want it bound to that. Denied if
        the call is not allowed.
        """
        authority = self._demand_authority()
        return authority.statement(action, audience=audience, args=args, request=request)

    async def statement_async(
        self,
        action: str,
        *,
        audience: str | None = None,
        args: Mapping[str, JSON] | None = None,
        request: HttpRequest | None = None,
    ) -> str:
        """`statement`, for async code."""
        stated = partial(self.statement, action, audience=audience, args=args, request=request)
        return await wait_async(run_in_thread(stated, name="capx-statement"))

    def working(self, *, complete: bool = True) -> "Working[Self]":
        """Act as this agent for a block of code, `with` or `async with`, and complete the task at its end.

        The task is completed however the block ends, so nothing that was started in it can act any more. If that fails,
        the block raises the error; its own exception goes on, with a note. With `complete=False` the block does not end
        the task: for a run that is only interrupted, and goes on later. InvalidRequest if there is no authority that
        could complete the task.
        """
        if complete:
            self._demand_authority()
        return Working(self, self.complete if complete else None)

    def complete(self) -> None:
        """End the task because its work is done: all its tokens are dead when this returns."""
        self._demand_authority().complete()

    async def complete_async(self) -> None:
        """`complete`, for async code."""
        await wait_async(run_in_thread(self.complete, name="capx-complete"))

    def status(self) -> AgentStatus:
        """Return the state of the task."""
        return self._demand_authority().status()

    async def status_async(self) -> AgentStatus:
        """`status`, for async code."""
        return await wait_async(run_in_thread(self.status, name="capx-status"))

    def close(self) -> None:
        """Stop waiting for people, and close the connections to the authority; the agent asks for nothing any more."""
        self._closed = True
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
        raise InvalidRequest("an agent cannot be pickled, because it holds a secret: pass on the text of its bundle")

    def _ask(self, ask: Ask, wait: float) -> Answer:
        authority = self._demand_authority()
        try:
            answer = authority.answer(ask, wait)
        except CapxError as error:
            if _is_refusal(error) or isinstance(error, Unavailable):
                raise
            raise Unavailable(f"the authority gave no answer to the ask: {error}") from error
        except OSError as error:
            # Its text may be anything, and it goes to models.
            raise Unavailable(f"the authority gave no answer to the ask ({type(error).__name__})") from error
        if isinstance(answer, Granted) and self.key is not None:
            # The call that asked presents the grant itself, and not what the bundle then holds.
            return Granted(answer.capability.with_key(self.key))
        return answer

    def _hold(self, ask: Ask, capability: "Capability | Discharge") -> None:
        with self._lock:
            if isinstance(capability, Discharge):
                self._bundle = self._bundle.holding(capability)
                return
            # Grants may arrive in several threads at once; without the lock, one would overwrite another.
            # The same ask gets another grant when the one before is used up, or the policy has changed.
            used_up = [one for one in self._bundle if one != capability and is_limited_grant(one, ask)]
            if capability not in self._bundle:
                self._unproven.add(capability)
            self._bundle = self._bundle.without(*used_up).holding(capability)

    def _asks(self, wanted: NextAsks) -> tuple[Ask, ...]:
        """Return what it can ask for: nothing without an authority, or without a capability to present there."""
        if not self.can_ask:
            return ()
        self._demand_open()
        # What was granted on an ask may be used up, and then only this very ask gets it again: it comes first. Of two,
        # that is the pinned one, since the other gives less.
        granted = [ask for ask in reversed(wanted.asks) if any(is_limited_grant(one, ask) for one in self._bundle)]
        return (*granted, *(ask for ask in wanted.asks if ask not in granted))

    def _demand_open(self) -> None:
        if self._closed:
            raise InvalidRequest("the agent is closed, so it cannot ask for more: call within its `with` block")

    def _other(self, bundle: Bundle) -> "Agent":
        return Agent(bundle, authority=self._authority, wait=self.wait, origins=self.origins)

    def _demand_authority(self) -> AgentAuthority:
        if self._authority is None:
            raise InvalidRequest("this agent has no authority to ask: make it with `authority=`")
        self._demand_key("speak to its authority")
        return self._authority

    def _demand_key(self, act: str) -> None:
        """Raise InvalidRequest if its tokens are bound to a key that is not here."""
        holder = self._bundle.holder
        if holder is not None and self.key is None:
            raise InvalidRequest(
                f"this agent cannot {act}: its tokens are bound to the key {holder}, which is not here. Make the agent "
                "with `key=`, or set CAPX_AGENT_KEY_FILE for `Agent.from_env`"
            )

    def _demand_origins(self, origins: Mapping[str, str] | None) -> Mapping[str, str]:
        spoken_to = self.origins if origins is None else origins
        if spoken_to is None:
            raise ConfigurationProblem("this agent has no origins: pass them with their audiences, or set CAPX_ORIGINS")
        return spoken_to

    def _patience(self, wait: float | None) -> float:
        """Return for how many seconds this thread may wait for a person: none in an event loop."""
        if in_event_loop():
            return 0.0
        return self.wait if wait is None else seconds("wait", wait)


class Delegated:
    """Another agent for one block, `with` or `async with`; it is revoked at the end of the block."""

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
        # A new exception for each caller: several may wait for the same answer, and each adds its own traceback.
        raise Pending(answer.ask, request=answer.request, until=answer.until, approvers=answer.approvers)
    return AskOutcome(ask, answer)


def _is_refusal(error: CapxError) -> bool:
    """Whether the authority said with this error that it does not grant the ask, now or later."""
    if isinstance(error, Denied):
        # 503: the authority cannot judge now whether the bundle may ask.
        return error.status != 503
    # What is not there (404) says nothing about the ask: the URL may be wrong, or the authority just restored.
    missing = isinstance(error, UnknownTask | UnknownRequest)
    return isinstance(error, InvalidRequest | InvalidCaveat | MalformedToken) and not missing


def _agent_authority(authority: "ActsForHolder | str | None", bundle: Bundle) -> AgentAuthority | None:
    """Return the authority for this bundle; the agent closes it."""
    if authority is None:
        return None
    if isinstance(authority, str):
        with _httpx_for("an authority elsewhere"):
            from capx.agent.authority_client import AuthorityClient

        return AuthorityClient(authority, bundle)
    found = _acting_for(authority, bundle)
    if not isinstance(found, AgentAuthority):
        kind = type(authority).__name__
        raise InvalidRequest(f"`authority` must be an Authority, an AuthorityClient or a URL, not a {kind}")
    return found


def _acting_for(authority: object, bundle: Bundle) -> object:
    """Return the authority for this bundle, or None if the caller passed something else."""
    # A runtime protocol only looks for the method, and the class `Authority` has it too.
    if isinstance(authority, type) or not isinstance(authority, ActsForHolder):
        return None
    return authority.acting_for(bundle)


@contextmanager
def _httpx_for(what: str) -> Generator[None]:
    """A block that imports httpx; ConfigurationProblem if httpx is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise ConfigurationProblem(f"{what} needs httpx: pip install 'capx-auth[httpx]'") from None
