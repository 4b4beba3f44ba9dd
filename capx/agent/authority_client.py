"""What an agent asks of an authority elsewhere, over HTTP: for more, to end its task, to look at it, to revoke below.

Laws: its authority capability is presented afresh for each request, and it is told why it is refused as a resource
would tell it. Nothing is asked twice by itself, save for more, which has one answer however often it is asked. Whoever
answers holds nobody up beyond the time that was agreed.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final, Self, TypeVar, cast

import httpx
from msgspec import Struct

from capx.agent import httpx_client
from capx.api.deadline import SINGLE, WholeResponse, seconds_of, whole_response
from capx.api.messages.agents import AgentStatus, Answered, AskMore, AskPending, AskRefused, RevokeBelow
from capx.api.messages.base import encode
from capx.api.messages.outcomes import Ended, Revocation
from capx.api.responses import read_response, unreachable
from capx.errors import InvalidRequest, StoreProblem
from capx.tokens.bundle import Bundle, hops_between
from capx.tokens.lineage import AUTHORITY
from capx.verify.ask import Answer, Ask, Granted, Pending, Refused
from capx_caveats import JSON

T = TypeVar("T")

_MOST: Final = 1 << 20
_TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)
_LONGEST_WAIT: Final = 25
_PAUSE: Final = 1.0
_BROKEN: Final = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


class AuthorityClient:
    """The authority at `url`, an origin such as https://authority.internal:8411, for whoever holds the bundle.

    The other keywords are httpx's; `timeout` is for a whole answer, by default half a minute. Denied says why the
    authority refuses; Unavailable that it cannot be reached.
    """

    def __init__(self, url: str, bundle: Bundle, **client: Any) -> None:
        self.url = url.rstrip("/")
        self._bundle = bundle
        self._seconds = seconds_of(client.setdefault("timeout", _TIMEOUT))
        if "transport" not in client:
            client.setdefault("limits", SINGLE)
        self._settings = client
        self._client = httpx_client.client({self.url: AUTHORITY}, bundle, base_url=self.url, **client)

    def __repr__(self) -> str:
        return f"AuthorityClient({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()

    def acting_for(self, bundle: Bundle) -> "AuthorityClient":
        """The same authority, reached alike, for whoever holds another bundle."""
        settings = dict(self._settings)
        if settings.get("transport") is not None:
            settings["transport"] = _Lent(settings["transport"])
        return AuthorityClient(self.url, bundle, **settings)

    def ask(
        self, action: str, *, audience: str | None = None, args: Mapping[str, JSON] | None = None, wait: float = 0.0
    ) -> Answer:
        """What becomes of an ask; while a person has to answer it, wait for that up to `wait` seconds.

        The audience is the action's first label unless another is named; with `args`, even none, the ask is for these
        alone. Denied if the bundle may not ask for it. While it waits, an authority that is away is waited for, too.
        """
        ask = Ask.of(action, audience, args)
        ends = time.monotonic() + wait
        answer = self._answered(ask, wait=0)
        while isinstance(answer, Pending) and (left := ends - time.monotonic()) > 0:
            began = time.monotonic()
            with suppress(StoreProblem):
                answer = self._answered(ask, wait=min(_LONGEST_WAIT, int(left)))
            # Where nobody is made to wait, whoever asks again waits here.
            pause = min(ends, began + _PAUSE) - time.monotonic()
            if isinstance(answer, Pending) and pause > 0:
                time.sleep(pause)
        return answer

    def complete(self) -> Ended:
        """End the task because its work is done: all its tokens are dead when this returns."""
        return self._answer_to("POST", "/agent/complete", None, Ended)

    def status(self) -> AgentStatus:
        """How the task stands."""
        return self._answer_to("GET", "/agent/status", None, AgentStatus)

    def revoke(self, child: Bundle) -> Revocation:
        """Kill the child's node, and everything below it; InvalidRequest unless it was delegated from this bundle.

        The child's bundle, and not its node alone: it shows the hops that lead to it.
        """
        if not isinstance(child, Bundle):  # pyright: ignore[reportUnnecessaryIsInstance] # Authority.revoke takes nodes
            raise InvalidRequest(
                "over HTTP a child is revoked by its bundle, which shows the hops to it: keep what delegate returned, "
                "not its node alone"
            )
        return self._answer_to("POST", "/agent/revoke", RevokeBelow(hops=hops_between(self._bundle, child)), Revocation)

    def _answered(self, ask: Ask, *, wait: int) -> Answer:
        """What becomes of an ask within so many seconds, or was told of it before a connection broke."""
        try:
            told = self._ask_once(ask, wait)
        except _BROKEN:
            try:
                told = self._ask_once(ask, wait)
            except httpx.HTTPError as error:
                raise unreachable(self.url, error) from None
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from None
        if isinstance(told, AskPending):
            return Pending(ask, request=told.request, until=told.until, approvers=tuple(told.approvers))
        if isinstance(told, AskRefused):
            return Refused(tuple(reason.refusal() for reason in told.reasons))
        granted = told.capability
        if (granted.audience, granted.task, granted.node) != (ask.audience, self._bundle.task, self._bundle.node):
            raise StoreProblem(f"what answers at {self.url} grants what was not asked for: it is no capx authority")
        return Granted(granted)

    def _ask_once(self, ask: Ask, wait: int) -> Answered:
        prefer = {"prefer": f"wait={wait}"} if wait else {}
        kind = cast("type[Answered]", Answered)
        return read_response(self._sent("POST", "/agent/ask", AskMore.of(ask), prefer, wait), kind, self.url)

    def _answer_to(self, method: str, path: str, asked: Struct | None, kind: type[T]) -> T:
        try:
            answer = self._sent(method, path, asked)
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from None
        return read_response(answer, kind, self.url)

    def _sent(
        self,
        method: str,
        path: str,
        asked: Struct | None,
        headers: Mapping[str, str] = MappingProxyType({}),
        longer: int = 0,
    ) -> WholeResponse:
        """The answer that comes within the seconds that were agreed, and so many more."""
        timeout = self._client.timeout
        return whole_response(
            self._client,
            method,
            path,
            seconds=_longer(self._seconds, longer),
            most=_MOST,
            content=None if asked is None else encode(asked),
            headers=headers if asked is None else {"content-type": "application/json", **headers},
            timeout=httpx.Timeout(
                connect=timeout.connect,
                read=_longer(timeout.read, longer),
                write=timeout.write,
                pool=timeout.pool,
            ),
        )


class _Lent(httpx.BaseTransport):
    """A transport that is another client's to close."""

    def __init__(self, transport: httpx.BaseTransport) -> None:
        self._transport = transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._transport.handle_request(request)


def _longer(seconds: float | None, by: int) -> float | None:
    return None if seconds is None else seconds + by
