"""What resources have of the authority: the feed of deaths, and a place for their decisions and sightings.

Laws: the feed is for everybody: it holds ids, and is signed. A report is proven by a MAC under its audience's key, and
speaks for that audience alone. To report twice is to have reported once. What would not read back as a decision is
refused, so that no resource can spoil the log for others.
"""

import time
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from capx import resource_mac
from capx.death import of_kid
from capx.errors import InvalidRequest
from capx.feed import Asked
from capx.forms import Count, Id, decode
from capx.guard.exchange import http_request
from capx.problems import HttpRefusal
from capx.resource_mac import Proven, UnprovenReport
from capx.serve.operation import NO_STORE, ROUTE, Operation, answered, demand_json, route_to, wants_stream, whole_body
from capx.serve.service import Service
from capx.serve.streams import Feed
from capx.spending import Spent
from capx.store import Record
from capx_caveats import is_action, is_label

MOST: Final = 1_000
"""Decisions in one report."""
_Label = Annotated[str, Meta(min_length=1, max_length=128)]
_Text = Annotated[str, Meta(max_length=128)]


class FeedQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a follower stands: how many deaths it knows, at which position of the log, in which epoch."""

    since: Count = 0
    position: Count = 0
    epoch: str | None = None


class Envelope(Struct, frozen=True):
    """A signed page: `page` is the text that was signed, `by` the kid of the root key that the signer follows from."""

    by: str
    page: str
    sig: str


class Reported(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One decision as a resource made it; what `Decision.body` gives."""

    id: Id
    at: Count
    outcome: Literal["allowed", "denied"]
    audience: str
    action: str | None
    task: Id | None
    tenant: _Label | None
    intent: _Text | None
    root: Id | None
    path: Annotated[list[_Text], Meta(max_length=256)]
    hops: Annotated[list[_Label], Meta(max_length=256)]
    ids: Annotated[list[_Text], Meta(max_length=256)]
    presentation: _Text | None
    spent: Annotated[list[Spent], Meta(max_length=64)]
    reasons: Annotated[list[dict[str, Any]], Meta(max_length=1_024)]

    def __post_init__(self) -> None:
        texts = (self.action is None or is_action(self.action), *map(is_label, self.hops))
        if not all((*texts, *map(_is_counted, self.spent), *map(_is_reason, self.reasons))):
            raise ValueError("this is no decision of a verifier")


class Reports(Struct, frozen=True, forbid_unknown_fields=True):
    """Decisions of one audience."""

    decisions: Annotated[list[Reported], Meta(max_length=MOST)]


class Recorded(Struct, frozen=True):
    """How many decisions are in the log now, or were before."""

    decisions: int


class Sighted(Struct, frozen=True, forbid_unknown_fields=True):
    """How many deaths a follower knows; its name is its audience's, or begins with that and a slash."""

    follower: _Label
    deaths: Count


class Noted(Struct, frozen=True):
    """A follower whose sighting is kept."""

    follower: str


def _is_counted(spent: Spent) -> bool:
    try:
        amounts = [Decimal(text) for text in (spent.cost, spent.spent, spent.limit) if len(text) <= 40]
    except InvalidOperation:
        return False
    return len(amounts) == 3 and all(amount.is_finite() for amount in amounts)


def _is_reason(reason: dict[str, Any]) -> bool:
    return isinstance(reason.get("code"), str) and isinstance(reason.get("sentence"), str)


def _record(service: Service, audience: str, asked: Reports) -> Recorded:
    for one in asked.decisions:
        if one.audience != audience:
            raise HttpRefusal(
                403, "foreign_audience", f"{audience} reports a decision of {one.audience:.80}: only its own"
            )
    service.authority.store.record([Record(one.id, one.at, msgspec.json.encode(one)) for one in asked.decisions])
    return Recorded(len(asked.decisions))


def _sighted(service: Service, audience: str, asked: Sighted) -> Noted:
    if asked.follower != audience and not asked.follower.startswith(f"{audience}/"):
        raise HttpRefusal(403, "foreign_audience", f"{audience} speaks for a follower that is not its own")
    if not is_label(asked.follower):
        raise InvalidRequest("a follower's name holds no hidden or control characters")
    service.authority.store.sighted(asked.follower, asked.deaths, now=int(time.time()))
    return Noted(asked.follower)


FEED: Final = Operation(
    method="GET",
    path="/feed",
    name="feed",
    about="The signed page of deaths that comes next; as text/event-stream, page after page, one each second at least.",
    act=lambda: None,
    asks=FeedQuery,
    answers=Envelope,
    streams=True,
)
REPORTS: Final = (
    Operation(
        method="POST",
        path="/decisions",
        name="record",
        about="Decisions of the caller's own audience, for the log; those that are there already are passed over.",
        act=_record,
        asks=Reports,
        answers=Recorded,
        problems=(401, 403),
        reported=True,
    ),
    Operation(
        method="POST",
        path="/sighted",
        name="sighted",
        about="How many deaths a follower of the caller's own audience knows.",
        act=_sighted,
        asks=Sighted,
        answers=Noted,
        problems=(401, 403),
        reported=True,
    ),
)
OPERATIONS: Final = (FEED, *REPORTS)
"""All that resources can ask for."""


def routes(service: Service) -> list[Route]:
    """The routes of all that resources can ask for."""
    return [_feed_route(service), *[_report_route(operation, service) for operation in REPORTS]]


def _feed_route(service: Service) -> Route:
    feed = Feed(service)

    async def answer(request: Request) -> Response:
        request.scope[ROUTE] = FEED.path
        items = request.query_params.multi_items()
        if len(dict(items)) != len(items):
            raise InvalidRequest("each of since, position and epoch is named once")
        asked = Asked.read(dict(items))
        if wants_stream(request):
            return await feed.follow(asked)
        page = await feed.page(asked)
        return Response(page.text, media_type=FEED.media, headers=NO_STORE)

    return route_to(FEED, answer)


def _report_route(operation: Operation, service: Service) -> Route:
    def done(proven: Proven, asked: Any) -> Response:
        with service.authority.store.read() as reading:
            if reading.death(of_kid(proven.kid)):
                raise UnprovenReport(f"the key {proven.kid} was revoked: capx keys export gives those that are live")
        return answered(operation, operation.act(service, proven.audience, asked))

    async def answer(request: Request) -> Response:
        request.scope[ROUTE] = operation.path
        header = request.headers.get("authorization", "")
        body = await whole_body(request)
        target = http_request(request.scope, body, "").target
        proven = resource_mac.verify(
            header, service.ring, method=operation.method, target=target, body=body, now=int(time.time())
        )
        demand_json(request)
        asked = decode(body, operation.asks or Reports)
        return await service.resources.run(done, proven, asked)

    return route_to(operation, answer)
