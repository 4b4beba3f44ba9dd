"""What presents is the same with httpx and with httpx2: where tokens go, and where they never do."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx2
import pytest

from capx.agent import httpx2_client, httpx_client
from capx.agent.actor import acting
from capx.agent.agent import Agent
from capx.agent.httpx_client import ASK_EXTENSION, Redirected
from capx.errors import InvalidRequest
from capx.verify.ask import Pending, Refused
from capx.verify.decision import Denied
from tests.labs.asking_agent import Liar
from tests.labs.noting_services import received

# Of either library; their classes have the same names.
Clients = Any


@pytest.fixture(params=[httpx_client, httpx2_client], ids=["httpx", "httpx2"])
def clients(request: pytest.FixtureRequest) -> Clients:
    return request.param


def test_a_client_is_one_of_its_library(agent: Agent) -> None:
    origins = {"https://crm.internal": "crm"}
    with httpx2_client.client(origins, agent) as client, httpx_client.client(origins, agent) as older:
        assert isinstance(client, httpx2.Client)
        assert isinstance(older, httpx.Client)


def test_a_request_is_presented_and_asks(clients: Clients, agent: Agent, origin: str) -> None:
    with clients.client({origin: "crm"}, agent) as client:
        assert client.get(f"{origin}/crm.tickets.read").text == "done"
        assert client.post(f"{origin}/crm.accounts.read?q=a b", json={"a": 1}).text == "done"
        assert client.post(f"{origin}/crm.accounts.read", content=iter([b"a", b"b"])).text == "done"
        refused = client.get(f"{origin}/crm.export")
        assert (refused.status_code, refused.json()["code"]) == (403, "action_not_allowed")
        assert isinstance(refused.extensions[ASK_EXTENSION], Refused)
        with pytest.raises(Pending):
            client.get(f"{origin}/crm.accounts.delete")


async def test_an_async_client_does_too(clients: Clients, agent: Agent, origin: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    async with clients.async_client({origin: "crm"}) as client:
        with pytest.raises(InvalidRequest, match="no bundle to act with"):
            await client.get(f"{origin}/crm.tickets.read")
        with acting(agent):
            assert (await client.post(f"{origin}/crm.tickets.read", content=chunks())).text == "done"
            assert (await client.get(f"{origin}/crm.accounts.read")).text == "done"
            assert (await client.get(f"{origin}/crm.export")).status_code == 403


def test_a_denial_may_be_raised(clients: Clients, agent: Agent, origin: str) -> None:
    with clients.client({origin: "crm"}, agent, raise_denied=True) as client, pytest.raises(Denied) as denied:
        client.get(f"{origin}/crm.export")
    assert "the agent asked for more" in str(denied.value)


def test_no_other_origin_and_no_redirect_gets_a_token(
    clients: Clients, agent: Agent, origin: str, elsewhere: str
) -> None:
    async def act() -> None:
        async with clients.async_client({origin: "crm"}, agent, follow_redirects=True) as client:
            with pytest.raises(Redirected):
                await client.get(f"{elsewhere}/to?{origin}/crm.tickets.read")

    with clients.client({origin: "crm"}, agent, follow_redirects=True) as client:
        client.get(f"{elsewhere}/x")
        with pytest.raises(Redirected) as redirected:
            client.get(f"{elsewhere}/to?{origin}/crm.tickets.read")
    asyncio.run(act())
    assert redirected.value.url == f"{origin}/crm.tickets.read"
    assert [path for path, _ in received] == ["/x", "/to", "/to"]
    assert not any("authorization" in headers or "capx-token" in headers for _, headers in received)


def test_a_long_refusal_is_read_as_sent(clients: Clients, agent: Agent, liars: tuple[Liar, str]) -> None:
    liar, origin = liars
    liar.says(more="x" * 1_000_000)

    async def act() -> bytes:
        async with clients.async_client({origin: "crm"}, agent) as client:
            content: bytes = (await client.get(f"{origin}/x")).content
            async with client.stream("GET", f"{origin}/x") as left_early:
                assert left_early.status_code == 403
            return content

    with clients.client({origin: "crm"}, agent) as client:
        assert client.get(f"{origin}/x").content == liar.body
        with client.stream("GET", f"{origin}/x") as left_early:
            assert left_early.status_code == 403
    assert asyncio.run(act()) == liar.body


@pytest.mark.parametrize("origin", ["crm.internal", "ftp://crm", "https://crm/path", "http://crm:x"])
def test_what_is_no_origin_is_refused(clients: Clients, origin: str) -> None:
    with pytest.raises(InvalidRequest, match="not an origin"):
        clients.client({origin: "crm"})


def test_settings_around_the_transport_are_refused(clients: Clients) -> None:
    with pytest.raises(InvalidRequest, match="`mounts`"):
        clients.client({"http://crm": "crm"}, mounts={"all://": object()})
