"""What an agent asks of an authority elsewhere, over HTTP: to end its task, to look at it, to revoke below its node.

Laws: its authority capability is presented afresh for each request, and it is told why it is refused as a resource
would tell it. Nothing is asked twice by itself. Whoever answers holds nobody up beyond the time that was agreed.
"""

from typing import Any, Final, Self, TypeVar

import httpx
from msgspec import Struct

from capx import presenting
from capx.answers import read_answer, unreachable
from capx.bundle import Bundle
from capx.ending import Ended
from capx.errors import InvalidRequest
from capx.forms import AgentStatus, RevokeBelow, encode
from capx.lineage import AUTHORITY
from capx.patience import SINGLE, seconds_of, whole_answer
from capx.revoking import Revoked
from capx_caveats import Hop, Root

T = TypeVar("T")

_MOST: Final = 1 << 20
_TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)


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
        self._client = presenting.http({self.url: AUTHORITY}, bundle, base_url=self.url, **client)

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
        """Kill the child's node, and everything below it; InvalidRequest unless it was delegated from this bundle.

        The child's bundle, and not its node alone: it shows the hops that lead to it.
        """
        if not isinstance(child, Bundle):  # pyright: ignore[reportUnnecessaryIsInstance] # Authority.revoke takes nodes
            raise InvalidRequest(
                "over HTTP a child is revoked by its bundle, which shows the hops to it: keep what delegate returned, "
                "not its node alone"
            )
        return self._asked("POST", "/agent/revoke", RevokeBelow(hops=hops_between(self._bundle, child)), Revoked)

    def _asked(self, method: str, path: str, asked: Struct | None, kind: type[T]) -> T:
        headers = {} if asked is None else {"content-type": "application/json"}
        content = None if asked is None else encode(asked)
        try:
            answer = whole_answer(
                self._client, method, path, seconds=self._seconds, most=_MOST, content=content, headers=headers
            )
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from None
        return read_answer(answer, kind, self.url)


def hops_between(above: Bundle, below: Bundle) -> list[str]:
    """The nonces of the hops that lead from one node to another below it; InvalidRequest if none do."""
    own = above.path
    if not own or below.path[: len(own)] != own or len(below.path) == len(own):
        raise InvalidRequest("this bundle was not delegated from yours: an agent revokes only what lies below its node")
    first, *others = next(iter(below)).caveats
    granted = [step.nonce for caveat in first if isinstance(caveat, Root) for step in caveat.steps]
    hops = [block[0].nonce for block in others if isinstance(block[0], Hop)]
    return [*granted, *hops][len(own) - 1 :]
