"""Reports the decisions of a resource without a store to the authority, pays and gives back there, over HTTP.

Laws: the key of the resource's audience proves each request. It is safe to send one twice: the authority writes a
decision once, and one admission of a presentation pays once and gives back once.
"""

import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final, TypeVar

import httpx
from msgspec.structs import replace

from capx.api import resource_auth
from capx.api.deadline import SINGLE, WholeResponse, seconds_of, whole_response
from capx.api.messages.base import encode
from capx.api.messages.resources import Charge, Charged, GaveBack, GiveBack, Noted, Recorded, Sighted
from capx.api.responses import NoAnswer, detail, problem_of, read_response, unreachable
from capx.api.tls import reads_certificates
from capx.crypto.base64url import b64u
from capx.crypto.keys import AudienceKey, AudienceKeys
from capx.errors import CapxError, StoreProblem, Unavailable
from capx.store.records import DecisionRecord, Unwritable
from capx.verify.meter import Paid, Payer, Spend, Tally
from capx_caveats import InvalidCaveat, amount, shown_amount

T = TypeVar("T")

_TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)
_ANSWER: Final = 1 << 20
# Bytes and decisions in one report: well below what an authority accepts, since it reads a body into memory.
_PIECE: Final = 1 << 19
_MOST: Final = 500


class ResourceClient:
    """Reports decisions of a resource without a store to the authority, and pays there; safe with several threads.

    `url` is the origin of the authority, `keys` are the keys of the resource's audience. If the authority has retired
    or revoked one of them, the next one proves the report. The other keywords are those of httpx; `timeout` is for a
    whole answer. Raises Unavailable if the authority cannot be reached, Unwritable for a report that it will never
    accept, StoreProblem for all else.
    """

    def __init__(self, url: str, keys: AudienceKeys, **client: Any) -> None:
        self.url = url.rstrip("/")
        self._keys = keys
        self._last: AudienceKey | None = None
        self._seconds = seconds_of(client.setdefault("timeout", _TIMEOUT))
        client.setdefault("limits", SINGLE)
        with reads_certificates():
            self._client = httpx.Client(base_url=self.url, **client)

    def __repr__(self) -> str:
        return f"ResourceClient({self.url!r}, {self._keys!r})"

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def record(self, decisions: Sequence[DecisionRecord]) -> None:
        """Write decisions to the log of the authority, which skips those that it has already."""
        for piece in _pieces(decisions):
            body = b'{"decisions":[' + b",".join(record.body for record in piece) + b"]}"
            self._reported("/decisions", body, Recorded)

    def sighted(self, follower: str, deaths: int, *, now: int) -> None:
        """Report how many deaths a follower knows.

        `follower` is the name of the audience, or begins with that name and a slash.
        """
        del now  # the authority uses its own clock
        self._reported("/sighted", encode(Sighted(follower=follower, deaths=deaths)), Noted)

    def spend(self, payer: Payer, spends: Sequence[Spend], *, now: int) -> Tally:
        """Spend all of it or nothing at the authority, which reads the counters and limits from the presentation."""
        del now  # the authority uses its own clock
        if not payer.text:
            raise Unavailable("a bare token pays nothing on the feed: only a presentation does")
        costs = {spend.unit: shown_amount(spend.cost) for spend in spends}
        charged = self._twice("/spend", encode(Charge(payer.text, b64u(payer.admission), costs)), Charged)
        return _tally(charged, spends, self.url)

    def give_back(self, payer: Payer, *, decision: str, reason: str, now: int) -> tuple[Paid, ...]:
        """Give back at the authority what a presentation has paid there."""
        del now  # the authority uses its own clock
        asked = GiveBack(payer.text, b64u(payer.admission), decision, reason)
        given = self._twice("/give-back", encode(asked), GaveBack).given
        try:
            return tuple([replace(one, cost=amount(one.cost)) for one in given])
        except InvalidCaveat:
            raise StoreProblem(f"the authority at {self.url} gave back what is no amount: look at it") from None

    def spent(self, counters: Sequence[tuple[str, str]]) -> tuple[Decimal, ...]:
        """Raise Unavailable: the authority shows the total of a counter only to a resource that pays into it."""
        del counters
        raise Unavailable(f"only the authority at {self.url} knows what is spent: use capx graph there")

    def _twice(self, path: str, body: bytes, kind: type[T]) -> T:
        """Send a request, and once more if its answer was lost."""
        began = time.monotonic()
        try:
            return self._reported(path, body, kind)
        except NoAnswer:
            # The authority may have done it. To send it again is safe: one admission pays once. But a call waits: where
            # nothing came in all the time, do not wait as long again.
            if self._seconds is not None and time.monotonic() - began >= self._seconds:
                raise
            return self._reported(path, body, kind)

    def _reported(self, path: str, body: bytes, kind: type[T]) -> T:
        # The key that worked last comes first. If all are refused, raise the first refusal: it is about that key.
        refused: StoreProblem | None = None
        for key in sorted(self._keys.live, key=lambda key: key is not self._last):
            answer = self._posted(path, body, key)
            # A gateway on the way may answer so, too. The authority gets the request then when the gateway is well.
            if answer.status in {400, 413} and problem_of(answer) is not None:
                raise Unwritable(f"the authority at {self.url} does not accept this request: {detail(answer)}")
            if answer.status not in {401, 403}:
                self._last = key
                return self._read(answer, kind)
            refused = refused or StoreProblem(f"the authority at {self.url} refuses this request: {detail(answer)}")
        raise refused or StoreProblem(f"the key file has no live key of {self._keys.audience}: export it again")

    def _read(self, answer: WholeResponse, kind: type[T]) -> T:
        try:
            return read_response(answer, kind, self.url)
        except StoreProblem:
            raise
        except CapxError as error:
            # Such as a denial: no answer to a report of ours.
            raise StoreProblem(f"the authority at {self.url} is of another version: {error}") from None

    def _posted(self, path: str, body: bytes, key: AudienceKey) -> WholeResponse:
        proof = resource_auth.prove(key, method="POST", target=path, body=body, at=int(time.time()))
        headers = {"authorization": proof, "content-type": "application/json"}
        try:
            return whole_response(
                self._client, "POST", path, seconds=self._seconds, most=_ANSWER, content=body, headers=headers
            )
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from None


def _tally(charged: Charged, spends: Sequence[Spend], url: str) -> Tally:
    """The tally in the order of the spends; StoreProblem if the answer is about other counters."""
    held = {(total.counter, total.unit): (nth, total.spent) for nth, total in enumerate(charged.totals)}
    try:
        found = [held[spend.counter, spend.unit] for spend in spends]
        totals = tuple([amount(spent) for _, spent in found])
    except (KeyError, InvalidCaveat):
        found, totals = [], ()
    without_room = tuple([at for at, (nth, _) in enumerate(found) if nth in charged.exhausted])
    if not found or len(without_room) != len(charged.exhausted):
        raise StoreProblem(
            f"the authority at {url} answered about other budgets than those asked for: it is of another version. Use "
            "the same capx on both sides"
        )
    return Tally(totals, without_room)


def _pieces(decisions: Sequence[DecisionRecord]) -> Iterator[list[DecisionRecord]]:
    piece: list[DecisionRecord] = []
    size = 0
    for record in decisions:
        if piece and (size + len(record.body) > _PIECE or len(piece) == _MOST):
            yield piece
            piece, size = [], 0
        piece.append(record)
        size += len(record.body)
    if piece:
        yield piece
