"""A refusal is read as it was sent, and no further than it may be."""

import gzip
import json

import pytest

from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.guard.asgi.messages import Receive, Scope, Send
from tests.labs.asking_agent import Liar, noting
from tests.labs.serving import served


def test_a_refusal_that_is_streamed_is_read_as_it_was_sent(lab: Authority, task: OpenedTask, origin: str) -> None:
    agent, _ = noting(lab, task)
    with agent.http({origin: "crm"}) as client, client.stream("GET", f"{origin}/crm.export") as response:
        raw = b"".join(response.iter_raw())
    assert json.loads(gzip.decompress(raw))["code"] == "action_not_allowed"


async def test_a_long_refusal_is_read_as_sent_and_asks_for_nothing(
    lab: Authority, task: OpenedTask, liars: tuple[Liar, str]
) -> None:
    liar, origin = liars
    liar.says(ask={"audience": "crm", "action": "crm.accounts.read"}, more="x" * 1_000_000)
    agent, authority = noting(lab, task)
    async with agent.async_http({origin: "crm"}) as client:
        assert (await client.get(f"{origin}/x")).content == liar.body
        async with client.stream("GET", f"{origin}/x") as left_early:
            assert left_early.status_code == 403
    with agent.http({origin: "crm"}) as client:
        assert client.get(f"{origin}/x").content == liar.body
        with client.stream("GET", f"{origin}/x") as left_early:
            assert left_early.status_code == 403
    assert not authority.asked


@pytest.mark.parametrize("packed", ["br", "gzip"])
def test_a_refusal_that_cannot_be_unpacked_asks_for_nothing(lab: Authority, task: OpenedTask, packed: str) -> None:
    async def odd(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        headers = [(b"www-authenticate", b"Capx"), (b"content-encoding", packed.encode())]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"ask":{"audience":"crm","action":"crm.accounts.read"}}'})

    agent, authority = noting(lab, task)
    with (
        served(odd, lifespan="off") as origin,
        agent.http({origin: "crm"}) as client,
        client.stream("GET", f"{origin}/x") as response,
    ):
        assert response.status_code == 403
    assert not authority.asked


def test_a_service_that_packs_a_bomb_into_its_refusal(lab: Authority, task: OpenedTask) -> None:
    bomb = gzip.compress(b'{"ask":' + b" " * 50_000_000 + b"null}")

    async def packed(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        headers = [(b"www-authenticate", b"Capx"), (b"content-encoding", b"gzip")]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": bomb})

    agent, authority = noting(lab, task)
    with (
        served(packed, lifespan="off") as origin,
        agent.http({origin: "crm"}) as client,
        client.stream("GET", f"{origin}/x") as response,
    ):
        assert response.status_code == 403
    assert not authority.asked
