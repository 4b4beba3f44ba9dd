"""What agents and resources ask of an authority elsewhere, over HTTP.

    AuthorityClient(url, bundle)     an agent ends its task, looks at it, revokes what lies below its node
    ReportedDecisions(url, key)      a resource's decisions, for the log of the authority: under a `StoreRecorder`

Laws: an agent presents its authority capability afresh for each request, and is told why it is refused as a resource
would tell it. A resource proves each report with its audience's key. Only what is safe to ask twice is asked again.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn, Self, TypeVar

import httpx
import msgspec
from msgspec import UNSET, Struct

from capx import agent, report
from capx.bundle import Bundle
from capx.decision import Decision, Denied, whose
from capx.ending import Ended
from capx.errors import InvalidRequest, StoreProblem, Unavailable
from capx.guard.exchange import MAX_BODY
from capx.keys import AudienceKey
from capx.lineage import AUTHORITY
from capx.revoking import Revoked
from capx.serve import forms
from capx.serve.forms import AgentStatus, Problem
from capx.serve.problems import raised
from capx.store import Record, Unwritable
from capx_caveats import Hop, Refusal, Root

T = TypeVar("T")

_TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)
_PIECE: Final = MAX_BODY // 2
_MOST: Final = 500


class AuthorityClient:
    """The authority at `url`, an origin such as https://authority.internal:8411, for whoever holds the bundle.

    Denied says why the authority refuses; Unavailable that it cannot be reached.
    """

    def __init__(self, url: str, bundle: Bundle, **client: Any) -> None:
        self.url = url.rstrip("/")
        self._bundle = bundle
        client.setdefault("timeout", _TIMEOUT)
        self._client = agent.http({self.url: AUTHORITY}, bundle, base_url=self.url, **client)

    def __repr__(self) -> str:
        return f"AuthorityClient({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()

    def complete(self) -> Ended:
        """End the task because its work is done: all its tokens are dead when this returns."""
        return self._asked("POST", "/agent/complete", None, Ended)

    def status(self) -> AgentStatus:
        """How the task stands."""
        return self._asked("GET", "/agent/status", None, AgentStatus)

    def revoke(self, child: Bundle) -> Revoked:
        """Kill the child's node, and everything below it; InvalidRequest unless it was delegated from this bundle."""
        return self._asked("POST", "/agent/revoke", {"hops": hops_between(self._bundle, child)}, Revoked)

    def _asked(self, method: str, path: str, args: dict[str, Any] | None, kind: type[T]) -> T:
        headers = {} if args is None else {"content-type": "application/json"}
        content = None if args is None else msgspec.json.encode(args)
        try:
            response = self._client.request(method, path, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise _unreachable(self.url, error) from None
        return _read(response, kind, self.url)


def hops_between(above: Bundle, below: Bundle) -> list[str]:
    """The nonces of the hops that lead from one node to another below it; InvalidRequest if none do."""
    own = above.path
    if not own or below.path[: len(own)] != own or len(below.path) == len(own):
        raise InvalidRequest("this bundle was not delegated from yours: an agent revokes only what lies below its node")
    first, *others = next(iter(below)).caveats
    granted = [step.nonce for caveat in first if isinstance(caveat, Root) for step in caveat.steps]
    hops = [block[0].nonce for block in others if isinstance(block[0], Hop)]
    return [*granted, *hops][len(own) - 1 :]


class _Decisions(Struct, frozen=True):
    decisions: int


class ReportedDecisions:
    """Where the decisions of a resource go that has no store of its own; safe with several threads.

    `url` is the origin of the authority, `key` that of the resource's audience. Raises Unavailable when the authority
    cannot be reached, Unwritable for what it will never take, StoreProblem for all else.
    """

    def __init__(self, url: str, key: AudienceKey, **client: Any) -> None:
        self.url = url.rstrip("/")
        self._key = key
        client.setdefault("timeout", _TIMEOUT)
        self._client = httpx.Client(base_url=self.url, **client)

    def __repr__(self) -> str:
        return f"ReportedDecisions({self.url!r}, {self._key!r})"

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()

    def record(self, decisions: Sequence[Record]) -> None:
        """Write decisions to the log of the authority; one whose id is there already is passed over."""
        for piece in _pieces(decisions):
            body = b'{"decisions":[' + b",".join(record.body for record in piece) + b"]}"
            self._reported("/decisions", body, _Decisions)

    def sighted(self, follower: str, deaths: int, *, now: int) -> None:
        """Tell how many deaths a follower knows, whose name is the audience's or begins with that and a slash."""
        del now
        self._reported("/sighted", msgspec.json.encode({"follower": follower, "deaths": deaths}), dict[str, str])

    def _reported(self, path: str, body: bytes, kind: type[T]) -> T:
        proof = report.sign(self._key, method="POST", target=path, body=body, at=int(time.time()))
        headers = {"authorization": proof, "content-type": "application/json"}
        try:
            response = self._client.post(path, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise _unreachable(self.url, error) from None
        if response.status_code in {400, 413}:
            raise Unwritable(f"the authority at {self.url} will not take this: {_detail(response)}")
        if response.status_code in {401, 403}:
            raise StoreProblem(f"the authority at {self.url} refuses the report: {_detail(response)}")
        return _read(response, kind, self.url)


def _pieces(decisions: Sequence[Record]) -> Iterator[list[Record]]:
    piece: list[Record] = []
    size = 0
    for record in decisions:
        if piece and (size + len(record.body) > _PIECE or len(piece) == _MOST):
            yield piece
            piece, size = [], 0
        piece.append(record)
        size += len(record.body)
    if piece:
        yield piece


def _read(response: httpx.Response, kind: type[T], url: str) -> T:
    if response.status_code != 200:
        _refuse(response, url)
    try:
        return forms.decode(response.content, kind)
    except InvalidRequest as error:
        raise StoreProblem(f"the authority at {url} is of another version: {error}") from None


class _Reason(Struct, frozen=True):
    code: str
    sentence: str
    wanted: str = ""
    given: Any = UNSET
    hop: int | None = None
    hop_name: str | None = None

    def refusal(self) -> Refusal:
        """The refusal, whose restriction it is said once."""
        sentence = (
            self.sentence if self.hop is None else self.sentence.removeprefix(f"{whose(self.hop, self.hop_name)} ")
        )
        return Refusal(self.code, sentence, self.wanted, self.given, self.hop, self.hop_name)


class _Refused(Struct, frozen=True):
    decision: str
    reasons: tuple[_Reason, ...]


def _refuse(response: httpx.Response, url: str) -> NoReturn:
    try:
        refused = msgspec.json.decode(response.content, type=_Refused)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise raised(response.status_code, _problem(response), url) from None
    if not refused.reasons:
        raise raised(response.status_code, None, url)
    refusals = tuple(reason.refusal() for reason in refused.reasons)
    raise Denied(
        Decision(id=refused.decision, at=int(time.time()), allowed=False, audience=AUTHORITY, refusals=refusals)
    )


def _problem(response: httpx.Response) -> Problem | None:
    try:
        return msgspec.json.decode(response.content, type=Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _detail(response: httpx.Response) -> str:
    problem = _problem(response)
    return f"it answered {response.status_code}" if problem is None else problem.detail


def _unreachable(url: str, error: httpx.HTTPError) -> StoreProblem:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return Unavailable(f"no authority answers at {url}: is capx serve running there?")
    return StoreProblem(
        f"the authority at {url} did not answer ({type(error).__name__}): it may have done what it was asked"
    )
