"""Statements over HTTP: an agent presents its capability for a third party, and gets a JWT for it.

    POST /agent/statement     Authorization: Capx PRESENTATION of the call itself, profile `tool`
    GET /jwks.json            the public keys, for everybody

Law: as at any resource, the head is checked first, and the presentation covers the call in the body.
"""

from typing import Final

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from capx.api.messages.agents import AskStatement, JwkSet, Stated
from capx.api.messages.base import decode_body
from capx.api.operation import OperationTable
from capx.authority.authority import Authority
from capx.authority.statements import no_statements_for
from capx.errors import InvalidRequest, MalformedToken
from capx.guard.asgi.messages import UnreadableHead, answer_denied, credential
from capx.guard.asgi.slots import capability_of
from capx.server.faces.redaction import redacted_denial
from capx.server.operation import (
    ROUTE,
    answered,
    body_of,
    demand_json,
    perform,
    read_query,
    route,
    route_to,
    unless_gone,
)
from capx.server.service import Service
from capx.tokens import wire
from capx.verify.decision import Denied
from capx.verify.verifier import Authentic, Verifier

OPERATIONS: Final = OperationTable()
"""The operations about statements."""
operation = OPERATIONS.operation
JWKS_TYPE: Final = "application/jwk-set+json"


@operation("POST", "/agent/statement", presented=True)
def agent_statement(authority: Authority, authentic: Authentic, asked: AskStatement) -> Stated:
    """State that a call is permitted, for a third party that holds no key (a JWT). It is judged, and spends budgets."""
    return Stated(authority.statements.make(authentic, asked.call(), None if asked.request is UNSET else asked.request))


@operation("GET", "/jwks.json", media=JWKS_TYPE)
def jwks(authority: Authority) -> JwkSet:
    """The public keys that sign statements, as a JWK Set (RFC 7517)."""
    return msgspec.convert(authority.statements.jwks(), JwkSet)


class StatementRoute:
    """The endpoint of an operation that needs a presentation for the audience that a statement is for."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope[ROUTE] = agent_statement.path
        try:
            response = await self._answer(scope, receive)
        except Denied as denied:
            await answer_denied(scope, send, redacted_denial(denied))
        except UnreadableHead as head:
            await answer_denied(scope, send, self._service.verifier.denial(head.refusal))
        else:
            await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        request = Request(scope, receive)
        token = credential(scope)
        verifier = await self._verifier(token)
        authentic = verifier.authenticate(token)
        del token
        read_query(request)
        demand_json(request)
        caller = capability_of(authentic)
        async with body_of(caller, request, self._service.bodies_of_agents) as body:
            work = self._service.agents.run_for(caller, self._done, authentic, body)
            return await unless_gone(request, work)

    async def _verifier(self, token: str) -> Verifier:
        """The verifier of the audience that a token says it is for; that of the authority if it cannot be read."""
        service = self._service
        try:
            frame = wire.decode(token.partition(",")[0])
        except MalformedToken:
            return service.verifier
        audience = frame.identifier.audience
        try:
            # The policy may have changed, and to read it again may wait for a disk. Nothing is proven yet: whoever says
            # to hold this capability shares its part, and takes none of another.
            look = service.authority.statements.verifier
            return await service.proofs.run_for(frame.identifier_bytes, look, audience)
        except InvalidRequest:
            raise no_statements_for(service.verifier, audience) from None

    def _done(self, authentic: Authentic, body: bytes) -> Response:
        asked = decode_body(body or b"{}", AskStatement)
        service = self._service
        return answered(agent_statement, perform(agent_statement, service, service.authority, authentic, asked))


def routes(service: Service) -> list[Route]:
    """The routes of all operations about statements."""
    return [
        route_to(agent_statement, StatementRoute(service)),
        route(jwks, service, service.authority, None),
    ]
