"""The face of people: whoever signs intents, opens tasks on them, and answers what agents ask for.

Laws:

- A person proves each request by a signature (capx.api.person_auth), also one that only reads. A request that nobody
  has proven is not interpreted.
- Nothing here gives operator power: `capx.authority.people.operations` has all that a person may do.
- The head proves who sends, before a byte of the body is read. Proofs are checked in threads of their own, and no
  stranger is refused because there are many: a check is short, and each connection waits for one. Who is remembered
  from a request before has one check at a time, and a bound for those that wait. What is proven runs in other threads,
  with a bound for each person. Which authority this is, everybody learns from one answer for all. So strangers keep
  nobody out, and no person keeps out another.
- The policy decides again when the request is carried out: it may have waited, and the person may be removed by then.
"""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from capx.api.messages.base import decode_body
from capx.api.operation import Operation
from capx.api.query_string import NoQuery
from capx.authority.people import operations
from capx.authority.people.person import Person
from capx.errors import InvalidRequest
from capx.guard.asgi.messages import http_request
from capx.server.callers import person_of
from capx.server.faces.inbox_streams import InboxStreams
from capx.server.faces.person_proof import PersonProof
from capx.server.operation import (
    ROUTE,
    AnyOperation,
    answered,
    body_of,
    demand_json,
    perform,
    read_query,
    route,
    route_to,
    unless_gone,
    wants_stream,
)
from capx.server.service import Service

OPERATIONS: Final = operations.OPERATIONS
MAX_BODY: Final = 64 * 1024
"""The most bytes of a body: an intent, or an approval."""


class PersonRoute:
    """The endpoint of an operation that a person proves."""

    def __init__(
        self, operation: Operation[..., Any], service: Service, proof: PersonProof, streams: InboxStreams
    ) -> None:
        self._operation = operation
        self._service = service
        self._proof = proof
        self._streams = streams

    async def answer(self, request: Request) -> Response:
        """Answer one request."""
        operation, service = self._operation, self._service
        request.scope[ROUTE] = operation.path
        self._proof.demand_people()
        claim = self._proof.claim(request.headers.getlist("authorization"))
        target = http_request(request.scope, b"", "").target

        def check() -> Person:
            return self._proof.check(claim, method=operation.method, target=target)

        remembered = service.callers.person(claim, operation.method, target)
        if remembered is None:
            person = await service.proofs.run(check)
        else:
            person = await service.proofs_of_remembered.run_for(remembered, check)
        async with body_of(person_of(person.name), request, service.bodies_of_people, MAX_BODY) as body:
            claim.demand_body(body)
            return await self._carried_out(person, request, body)

    async def _carried_out(self, person: Person, request: Request, body: bytes) -> Response:
        operation, service = self._operation, self._service
        asked = _asked(operation, request, body)
        if operation.streams and wants_stream(request):
            return await self._streams.open(person)
        if operation.streams:
            return await unless_gone(request, self._streams.now(person))
        given = (service.authority, person) if asked is None else (service.authority, person, asked)

        def done() -> Response:
            person.demand_known(service.authority.policy)
            return answered(operation, perform(operation, service, *given, **request.path_params))

        return await unless_gone(request, service.people.run_for(person_of(person.name), done))


def _asked(operation: AnyOperation, request: Request, body: bytes) -> Any:
    """Return what a proven request asks for; InvalidRequest for what the operation does not take."""
    if not operation.has_body:
        if body:
            raise InvalidRequest("a GET has no body")
        asked = read_query(request, operation.asks or NoQuery)
        return None if operation.asks is None else asked
    read_query(request)
    demand_json(request)
    return decode_body(body or b"{}", operation.asks)  # type: ignore[arg-type] # each POST of people asks something


def routes(service: Service) -> list[Route]:
    """The routes of all operations of people."""
    proof = PersonProof(service.authority, service.people_at, service.callers)
    streams = InboxStreams(service)
    return [
        route(one, service, service.authority, service.known)
        if one is operations.authority_now
        else route_to(one, PersonRoute(one, service, proof, streams).answer)
        for one in OPERATIONS
    ]
