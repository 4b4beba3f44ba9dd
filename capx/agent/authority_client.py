"""A client for an authority over HTTP: an agent asks for more, ends its task, reads its state, revokes sub-agents.

Laws: the client makes a new presentation for each request, and says why the authority denied it, as a resource would.
It never repeats a request, except an ask: an ask has one answer, however often it is sent. No server can hold up a
caller for longer than the timeout.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, Self, TypeVar, cast

import httpx
from msgspec import UNSET, Struct

from capx.agent import httpx_client
from capx.agent.agent_authority import AgentAuthority
from capx.api import remote_text
from capx.api.deadline import SINGLE, WholeResponse, seconds_of, whole_response
from capx.api.messages.agents import (
    AgentStatus,
    Answered,
    AskApproval,
    AskApproved,
    AskMore,
    AskPending,
    AskRefused,
    AskStatement,
    RevokeBelow,
    Stated,
)
from capx.api.messages.base import encode
from capx.api.messages.outcomes import Ended, Revocation
from capx.api.responses import read_response, unreachable
from capx.api.tls import reads_certificates
from capx.errors import InvalidRequest, StoreProblem
from capx.tokens.binding import HttpRequest, ToolCall
from capx.tokens.bundle import Bundle, hops_between
from capx.tokens.lineage import AUTHORITY
from capx.verify.ask import Answer, Approved, Ask, Granted, Pending, Refused
from capx.verify.decision import Denied
from capx.verify.evaluator import MAX_REPORTED
from capx_caveats import SAFE_INTEGER

T = TypeVar("T")

_MAX_ANSWER: Final = 1 << 20
"""The largest answer that the client reads, in bytes."""
_TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)
_LONGEST_WAIT: Final = 25
"""The most seconds for which one request asks the authority to wait for a person."""
_PAUSE: Final = 1.0
"""The least seconds between two requests for the same ask."""
_MAX_APPROVERS: Final = 32
"""The most approvers of an answer that the client reads."""
_BROKEN: Final = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
"""Errors of a connection that broke, perhaps after the authority had answered."""
_NO_ANSWER: Final = (httpx.HTTPError, httpx.StreamError, OSError)
"""Errors of a request without an answer. A transport of the caller may raise errors that are not httpx's."""


class AuthorityClient(AgentAuthority):
    """The authority at `url`, an origin such as https://authority.internal:8411, for the holder of the bundle.

    The other keywords are those of httpx; `timeout` is for a whole answer, by default 30 seconds. A bundle that is
    bound to a key must hold it (`Bundle.with_key`): the key signs each request. An ask that waits for a person also
    waits for an authority that is away. Denied says why the authority does not allow a request; Unavailable says that
    it cannot be reached. InvalidRequest if it is closed, or lacks the key.
    """

    def __init__(self, url: str, bundle: Bundle, **client: Any) -> None:
        self.url = url.rstrip("/")
        self._bundle = bundle
        self._seconds = seconds_of(client.setdefault("timeout", _TIMEOUT))
        # A connection for each request, so that the watchdog of one request never ends another. A transport of the
        # caller has its own limits.
        if "transport" not in client:
            client.setdefault("limits", SINGLE)
        self._settings = client
        with reads_certificates():
            self._client = httpx_client.client({self.url: AUTHORITY}, bundle, base_url=self.url, **client)

    def __repr__(self) -> str:
        return f"AuthorityClient({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        if "_plain" in vars(self):
            self._plain.close()

    @cached_property
    def _plain(self) -> httpx.Client:
        """A client that presents nothing by itself: for a presentation that is for another audience."""
        settings: dict[str, Any] = {**self._settings, "follow_redirects": False}
        if settings.get("transport") is not None:
            settings["transport"] = _BorrowedTransport(settings["transport"])
        return httpx.Client(base_url=self.url, **settings)

    def acting_for(self, bundle: Bundle, /) -> "AuthorityClient":
        """Return a client for the same authority, with the same settings, and another bundle."""
        settings = dict(self._settings)
        if settings.get("transport") is not None:
            # Closing the other client must not close the transport of this one.
            settings["transport"] = _BorrowedTransport(settings["transport"])
        return AuthorityClient(self.url, bundle, **settings)

    def answer(self, ask: Ask, wait: float) -> Answer:
        """Return the answer to an ask; wait up to `wait` seconds for a person, and for an authority that is away."""
        ends = time.monotonic() + wait
        answer = self._answered(ask, wait=0)
        while isinstance(answer, Pending) and (left := ends - time.monotonic()) > 0:
            began = time.monotonic()
            with suppress(StoreProblem):
                answer = self._answered(ask, wait=min(_LONGEST_WAIT, int(left)))
            # The authority may answer at once instead of waiting: do not ask it again in a tight loop.
            pause = min(ends, began + _PAUSE) - time.monotonic()
            if isinstance(answer, Pending) and pause > 0:
                time.sleep(pause)
        return answer

    def state(self, audience: str, call: ToolCall, request: HttpRequest | None) -> str:
        """Return a statement for one call at an audience."""
        presented = self._bundle.present(audience, call)
        digest = UNSET if request is None else request.digest()
        asked = AskStatement(action=call.action, args=dict(call.args), request=digest)
        headers = {"authorization": f"Capx {presented.text}"}
        try:
            answer = self._sent("POST", "/agent/statement", asked, headers, client=self._plain)
        except _NO_ANSWER as error:
            raise unreachable(self.url, error) from None
        return read_response(answer, Stated, self.url).statement

    def complete(self) -> Ended:
        """End the task because its work is done: all its tokens are dead when this returns."""
        return self._answer_to("POST", "/agent/complete", None, Ended)

    def status(self) -> AgentStatus:
        """Return the state of the task."""
        return self._answer_to("GET", "/agent/status", None, AgentStatus)

    def revoke(self, child: Bundle, /) -> Revocation:
        """Revoke the child's node, and everything below it; InvalidRequest unless it was delegated from this bundle.

        It needs the child's bundle, not only its node, because the bundle shows the hops that lead to the child.
        """
        if not isinstance(child, Bundle):  # pyright: ignore[reportUnnecessaryIsInstance] # Authority.revoke takes nodes
            raise InvalidRequest("to revoke a child over HTTP, pass the bundle that delegate returned, not its node")
        return self._answer_to("POST", "/agent/revoke", RevokeBelow(hops=hops_between(self._bundle, child)), Revocation)

    def _answered(self, ask: Ask, *, wait: int) -> Answer:
        """Send an ask and return its answer; send it once more if the connection breaks."""
        try:
            answer = self._ask_once(ask, wait)
        except _BROKEN:
            # The authority may have granted it already: the same ask gets the same answer.
            try:
                answer = self._ask_once(ask, wait)
            except _NO_ANSWER as error:
                raise unreachable(self.url, error) from None
        except _NO_ANSWER as error:
            raise unreachable(self.url, error) from None
        if isinstance(answer, AskPending):
            return _pending(ask, answer)
        if isinstance(answer, AskRefused):
            if not answer.reasons:
                raise StoreProblem(f"the server at {self.url} refused without a reason: look at its URL")
            return Refused(tuple(reason.refusal() for reason in answer.reasons[:MAX_REPORTED]))
        bundle = self._bundle
        if isinstance(answer, AskApproved):
            # Its signatures are for the resource to check. That it answers another demand is told here.
            if answer.discharge.cid.decode("latin-1") != ask.demand:
                raise StoreProblem(f"the server at {self.url} approved something else than the ask: look at its URL")
            return Approved(answer.discharge)
        granted = answer.capability
        # Never hold a capability of another task, node or key: the agent would act with someone else's authority.
        wanted = (ask.audience, bundle.task, bundle.node, bundle.holder)
        if (granted.audience, granted.task, granted.node, granted.holder_key) != wanted:
            raise StoreProblem(f"the server at {self.url} granted something else than the ask: look at its URL")
        return Granted(granted)

    def _ask_once(self, ask: Ask, wait: int) -> Answered:
        """Send an ask. Present it with each capability for the authority in turn, until the server accepts one.

        If it accepts none, raises the Denied of the first.
        """
        prefer = {"prefer": f"wait={wait}"} if wait else {}
        kind = cast("type[Answered]", Answered)
        path, message = (
            ("/agent/ask", AskMore.of(ask)) if ask.demand is None else ("/agent/approval", AskApproval.of(ask))
        )
        call = ToolCall(ask.own_action, ask.arguments())
        denials: list[Denied] = []
        for capability in self._bundle.candidates(AUTHORITY, call):
            headers = {"authorization": f"Capx {self._bundle.present_capability(capability, call).text}", **prefer}
            sent = self._sent("POST", path, message, headers, longer=wait, client=self._plain)
            try:
                return read_response(sent, kind, self.url)
            except Denied as denied:
                denials.append(denied)
        raise denials[0]

    def _answer_to(self, method: str, path: str, message: Struct | None, kind: type[T]) -> T:
        try:
            answer = self._sent(method, path, message)
        except _NO_ANSWER as error:
            raise unreachable(self.url, error) from None
        return read_response(answer, kind, self.url)

    def _sent(
        self,
        method: str,
        path: str,
        message: Struct | None,
        headers: Mapping[str, str] = MappingProxyType({}),
        *,
        longer: int = 0,
        client: httpx.Client | None = None,
    ) -> WholeResponse:
        """Send a request; the whole answer must come within the timeout and `longer` more seconds.

        It is presented as a call to the authority, unless another client is given.
        """
        if self._client.is_closed:
            raise InvalidRequest("this client of the authority is closed: make another one")
        timeout = self._client.timeout
        return whole_response(
            client or self._client,
            method,
            path,
            seconds=_longer(self._seconds, longer),
            most=_MAX_ANSWER,
            content=None if message is None else encode(message),
            headers=headers if message is None else {"content-type": "application/json", **headers},
            timeout=httpx.Timeout(
                connect=timeout.connect,
                read=_longer(timeout.read, longer),
                write=timeout.write,
                pool=timeout.pool,
            ),
        )


def _pending(ask: Ask, answer: AskPending) -> Pending:
    # Its text goes to a model, so no server may write there what it likes.
    approvers = tuple(map(remote_text.label, answer.approvers[:_MAX_APPROVERS]))
    until = min(max(answer.until, 0), SAFE_INTEGER)
    return Pending(ask, request=remote_text.label(answer.request), until=until, approvers=approvers)


class _BorrowedTransport(httpx.BaseTransport):
    """The transport of another client, which closes it."""

    def __init__(self, transport: httpx.BaseTransport) -> None:
        self._transport = transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._transport.handle_request(request)


def _longer(seconds: float | None, by: int) -> float | None:
    return None if seconds is None else seconds + by
