"""What is done of an operation, and who hears of it."""

import asyncio

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from capx.api.operation import OperationTable
from capx.api.problems import HttpRefusal
from capx.authority.authority import Authority
from capx.authority.remote.client import RemoteAuthority
from capx.authority.remote.operations import OPERATIONS
from capx.errors import InvalidRequest
from capx.guard.asgi.messages import BODY_SECONDS, read_body
from capx.server import operation
from capx.server.app import everybody
from capx.server.faces import agents
from capx.server.operation import perform
from capx.server.service import Service

CALLED_OTHERWISE = {"decide": "answer"}
"""Operations whose method of the authority has another name."""


class Wakes(Service):
    """A service that counts how often followers were to hear something."""

    wakes = 0

    def wake(self) -> None:
        self.wakes += 1


def test_followers_hear_of_what_is_announced_and_done() -> None:
    table = OperationTable()

    @table.operation("POST", "/end", announced=True)
    def end(count: int) -> int:
        if not count:
            raise InvalidRequest("there is nothing to end")
        return count

    @table.operation("POST", "/look")
    def look(count: int) -> int:
        return count

    with Authority.temporary() as authority:
        service = Wakes(authority)
        assert (perform(end, service, 3), service.wakes) == (3, 1)
        assert (perform(look, service, 4), service.wakes) == (4, 1)
        with pytest.raises(InvalidRequest):
            perform(end, service, 0)
        assert service.wakes == 1


def test_what_ends_something_is_announced() -> None:
    of_operators = {one.name for one in OPERATIONS if one.announced}
    assert of_operators == {"complete", "withdraw", "withdraw_intent", "decide", "approve", "revoke"}
    assert {one.name for one in agents.OPERATIONS if one.announced} == {"agent_complete", "agent_revoke"}


def test_no_agent_acts_without_an_action() -> None:
    assert all(one.action for one in agents.OPERATIONS)
    assert not any(one.action or one.reported for one in OPERATIONS)


@pytest.mark.parametrize("kind", [Authority, RemoteAuthority])
def test_an_authority_has_a_method_for_each_operation(kind: type[object]) -> None:
    assert {CALLED_OTHERWISE.get(one.name, one.name) for one in OPERATIONS} <= set(dir(kind))


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/feed", "/agent/status"])
def test_no_stranger_makes_the_server_parse_a_long_query(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def parsed(request: Request) -> object:
        raise AssertionError(request.url)

    monkeypatch.setattr(Request, "query_params", property(parsed))

    async def asked(authority: Authority) -> httpx.Response:
        transport = httpx.ASGITransport(everybody(Service(authority)))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(f"{path}?{'%41&' * 5_900}")

    with Authority.temporary() as authority:
        answer = asyncio.run(asked(authority))
    assert answer.status_code in {400, 401}
    if answer.status_code == 400:
        assert answer.json()["detail"] == "a query may have at most 16 fields and 4096 bytes"


def test_a_body_that_never_comes_is_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read_sooner(scope: Scope, receive: Receive, limit: int, seconds: float = BODY_SECONDS) -> bytes:
        return await read_body(scope, receive, limit, seconds / 1_000)

    async def never() -> Message:
        await asyncio.sleep(60)
        raise AssertionError

    async def refused() -> None:
        async with asyncio.timeout(1):
            await operation.whole_body(Request({"type": "http", "headers": []}), never)

    monkeypatch.setattr(operation, "read_body", read_sooner)
    with pytest.raises(HttpRefusal, match="within 20 s"):
        asyncio.run(refused())
