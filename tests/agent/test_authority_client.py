"""An authority elsewhere: how it is named, and who closes the client of it."""

from functools import partial
from typing import Any

import httpx
import msgspec
import pytest

from capx.agent.agent import Agent
from capx.agent.authority_client import AuthorityClient
from capx.authority.authority import Authority
from capx.authority.in_process import InProcess
from capx.authority.opening import OpenedTask
from capx.crypto.agent_key import AgentKey
from capx.errors import InvalidRequest, StoreProblem, Unavailable
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import mint
from capx.verify.ask import Granted
from capx.verify.decision import Denied
from capx_caveats import Holder
from tests.labs.hostile_answers import answer, at_url
from tests.labs.refunds import refund


def test_an_agent_asks_with_its_own_bundle_over_any_client(lab: Authority, task: OpenedTask) -> None:
    helper = task.bundle.delegate(to="helper", may_ask=["crm.accounts.read"])
    agent = Agent(helper, authority=InProcess(lab, task.bundle), wait=0)
    granted = agent.ask("crm.accounts.read")
    assert isinstance(granted, Granted)
    assert granted.capability.hops == ("helper",)
    with pytest.raises(Denied) as refused:
        agent.ask("crm.notes.write")
    assert 'hop 1 ("helper")' in str(refused.value)


class Kept(httpx.BaseTransport):
    """A transport to nowhere that tells whether it was closed."""

    closed = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nowhere", request=request)

    def close(self) -> None:
        self.closed = True


def test_an_agent_closes_what_is_its_own_and_nothing_else(task: OpenedTask) -> None:
    transport = Kept()
    with AuthorityClient("http://127.0.0.1:9", task.bundle, transport=transport) as client:
        with Agent(task.bundle, authority=client) as agent, agent.delegate(to="helper"):
            pass
        assert not transport.closed
        with pytest.raises(Unavailable):
            client.status()
    assert transport.closed


class NobodyAnswers:
    """What acts for a holder, and has no answer."""

    def acting_for(self, bundle: Bundle, /) -> None:
        return None


@pytest.mark.parametrize(
    "authority", [7, b"http://127.0.0.1:9", ToolCall("crm.read", {}), Authority, NobodyAnswers(), NobodyAnswers]
)
def test_what_is_no_authority_is_told_by_its_type(task: OpenedTask, authority: Any) -> None:
    with pytest.raises(InvalidRequest, match=rf"not a {type(authority).__name__}$"):
        Agent(task.bundle, authority=authority)


def test_an_authority_is_named_by_its_url(task: OpenedTask) -> None:
    with Agent(task.bundle, authority="http://127.0.0.1:9/") as agent, pytest.raises(Unavailable):
        agent.status()
    with pytest.raises(InvalidRequest, match="is not an origin"):
        Agent(task.bundle, authority="authority.internal")


def test_a_grant_for_another_key_is_not_held(lab: Authority) -> None:
    """A server that grants a bearer token to the holder of a key, or a token that is bound to a key to a bearer."""
    key = AgentKey.generate("planner")
    held = refund(lab, agent_key=key.public).bundle.with_key(key)
    bearer = Bundle(
        mint(
            lab.keyring.active.audience_key(one.audience),
            (caveat for caveat in one.caveats[0] if not isinstance(caveat, Holder)),
            now=one.issued_at,
        )
        for one in held
    )
    for own, other in ((held, bearer), (bearer, held)):
        (granted,) = (one for one in other if one.audience == "crm")
        body = msgspec.json.encode({"answer": "granted", "capability": granted.text})
        refused = pytest.raises(StoreProblem, match="granted something else than the ask")
        with at_url(partial(answer, body)) as url, AuthorityClient(url, own) as client, refused:
            client.ask("crm.tickets.read")
