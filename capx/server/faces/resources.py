"""The operations of resources: the feed of deaths, reports of decisions, payments, and acknowledgements.

A *death* is the store's record that something is revoked, or that a task has ended.

Laws:

- Everybody may read the feed. It holds only ids, and is signed.
- A report carries a MAC with the key of its audience, and speaks only for that audience. The head proves it, before a
  byte of the body is read.
- Reporting the same decision twice is the same as reporting it once. So is paying twice with one presentation, and
  giving back twice.
- A decision that could not be read back from the log is refused, so no resource can spoil the log for others.
"""

import time
from typing import Any, Final, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from capx.api import resource_auth
from capx.api.messages.base import decode_body
from capx.api.messages.resources import (
    Charge,
    Charged,
    GaveBack,
    GiveBack,
    Noted,
    Recorded,
    Reported,
    Reports,
    Sighted,
    Total,
)
from capx.api.operation import OperationTable
from capx.api.problems import HttpRefusal
from capx.api.resource_auth import AuthenticReport, UnauthenticatedReport
from capx.authority import charging
from capx.authority.authority import Authority
from capx.crypto.base64url import unb64u
from capx.errors import InvalidRequest
from capx.guard.asgi.messages import MAX_BODY, http_request
from capx.resource.feed.page import Envelope, FeedCursor, SignedPage
from capx.server.callers import resource_of
from capx.server.faces.event_streams import Feed
from capx.server.faces.follower_acks import keep_follower_ack
from capx.server.operation import (
    NO_STORE,
    ROUTE,
    AnyOperation,
    answered,
    body_of,
    demand_json,
    read_query,
    route_to,
    unless_gone,
    wants_stream,
)
from capx.server.service import Service
from capx.server.workers import Workers
from capx.store.records import DecisionRecord
from capx.tokens.revocation_key import of_kid
from capx_caveats import is_label, shown_amount

OPERATIONS: Final = OperationTable()
"""All operations of resources."""
operation = OPERATIONS.operation

SMALL_BODY: Final = 32 * 1024
"""The most bytes of a report that holds no decisions: a presentation, and what it costs."""

_LARGEST: Final = 64 * 1024
_DEEPEST: Final = 64


@operation("GET", "/feed", streams=True, answers=Envelope)
async def feed(pages: Feed, asked: FeedCursor, host: str) -> SignedPage:
    """The next signed page of deaths; as text/event-stream, page after page, at least one a second."""
    return await pages.page(asked, host)


@operation("POST", "/decisions", reported=True)
def record(authority: Authority, audience: str, asked: Reports) -> Recorded:
    """Record decisions of the caller's own audience in the log. Decisions that are there already are skipped."""
    for one in asked.decisions:
        if one.audience != audience:
            raise HttpRefusal(
                403,
                "foreign_audience",
                f"{audience} reports a decision of {one.audience:.80}: a resource may report only its own decisions",
            )
    authority.store.record(list(map(_recordable, asked.decisions)))
    return Recorded(len(asked.decisions))


def _recordable(decision: Reported) -> DecisionRecord:
    """The decision as the log keeps it; InvalidRequest if not every store could keep it and return it."""
    if _is_deeper(decision.reasons, _DEEPEST - 1):
        raise InvalidRequest(f"a decision may have at most {_DEEPEST} nested lists and objects")
    body = msgspec.json.encode(decision)
    if len(body) > _LARGEST:
        raise InvalidRequest(f"a decision may have at most {_LARGEST // 1024} KiB")
    return DecisionRecord(decision.id, decision.at, body)


def _is_deeper(value: object, most: int) -> bool:
    """Whether more than `most` lists and objects are within each other."""
    if not isinstance(value, dict | list):
        return False
    inner = cast("dict[str, object] | list[object]", value)
    within = inner.values() if isinstance(inner, dict) else inner
    return most == 0 or any(_is_deeper(one, most - 1) for one in within)


@operation("POST", "/spend", reported=True)
def spend(authority: Authority, audience: str, asked: Charge) -> Charged:
    """Spend what a call costs from the budgets of its presentation. Sent again, it spends nothing more."""
    spends, tally = charging.charge(
        authority.store,
        authority.keyring,
        audience,
        asked.presentation,
        asked.costs,
        admission=unb64u(asked.admission),
        now=int(time.time()),
    )
    totals = [Total(one.counter, one.unit, shown_amount(held)) for one, held in zip(spends, tally.totals, strict=True)]
    return Charged(totals, list(tally.exhausted))


@operation("POST", "/give-back", reported=True)
def give_back(authority: Authority, audience: str, asked: GiveBack) -> GaveBack:
    """Give back what a presentation has paid, because its call had no effect. Sent again, it changes nothing."""
    given = charging.give_back(
        authority.store,
        authority.keyring,
        audience,
        asked.presentation,
        admission=unb64u(asked.admission),
        decision=asked.decision,
        reason=asked.reason,
        now=int(time.time()),
    )
    return GaveBack(list(given))


@operation("POST", "/sighted", reported=True)
def sighted(authority: Authority, audience: str, asked: Sighted) -> Noted:
    """Report how many deaths a follower of the caller's own audience knows."""
    if asked.follower != audience and not asked.follower.startswith(f"{audience}/"):
        raise HttpRefusal(
            403,
            "foreign_audience",
            f"{audience} reports for a follower of another audience: its own are named {audience} or {audience}/…",
        )
    if not is_label(asked.follower):
        raise InvalidRequest("the name of a follower must not hold hidden or control characters")
    keep_follower_ack(authority.store, audience, asked, now=int(time.time()))
    return Noted(asked.follower)


def routes(service: Service) -> list[Route]:
    """The routes of all operations of resources."""
    reported = [one for one in OPERATIONS if one.reported]
    # A call waits for these two, so decisions in large reports must not keep it waiting.
    waited_for = spend, give_back
    reports = [
        _report_route(one, service, service.payments if one in waited_for else service.resources) for one in reported
    ]
    return [_feed_route(service), *reports]


def _feed_route(service: Service) -> Route:
    pages = Feed(service)

    async def answer(request: Request) -> Response:
        request.scope[ROUTE] = feed.path
        asked: FeedCursor = read_query(request, FeedCursor)
        host = "" if request.client is None else request.client.host
        if wants_stream(request):
            return await unless_gone(request, pages.follow(asked, host))
        page = pages.kept(asked)
        if page is None:
            page = await unless_gone(request, feed.act(pages, asked, host))
        return Response(page.text, media_type=feed.media, headers=NO_STORE)

    return route_to(feed, answer)


def _report_route(operation: AnyOperation, service: Service, workers: Workers) -> Route:
    def done(proven: AuthenticReport, body: bytes) -> Response:
        asked: Any = decode_body(body, operation.asks or Reports)
        # Once more: it may have died since the head came.
        with service.authority.store.read() as reading:
            if reading.death(of_kid(proven.kid)):
                raise _revoked(proven.kid)
        return answered(operation, operation.act(service.authority, proven.audience, asked))

    most = MAX_BODY if operation is record else SMALL_BODY

    async def answer(request: Request) -> Response:
        request.scope[ROUTE] = operation.path
        target = http_request(request.scope, b"", "").target
        headers = request.headers.getlist("authorization")
        proven = resource_auth.verify(
            headers[0] if len(headers) == 1 else "",
            service.ring,
            method=operation.method,
            target=target,
            now=int(time.time()),
        )
        if proven.kid in await service.revoked_kids():
            raise _revoked(proven.kid)
        demand_json(request)
        caller = resource_of(proven.audience)
        async with body_of(caller, request, service.bodies_of_resources, most) as body:
            proven.demand_body(body)
            return await unless_gone(request, workers.run_for(caller, done, proven, body))

    return route_to(operation, answer)


def _revoked(kid: str) -> UnauthenticatedReport:
    return UnauthenticatedReport(f"the key {kid} was revoked: export the keys again with capx keys export")
