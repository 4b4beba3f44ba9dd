"""Statements over real HTTP, and the public keys for everybody."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from capx.agent.agent import Agent
from capx.agent.authority_client import AuthorityClient
from capx.authority.opening import OpenedTask
from capx.authority.remote.client import RemoteAuthority
from capx.crypto.agent_key import AgentKey
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.verify.decision import Denied
from tests.labs.stating import POLICY, Partner
from tests.server.conftest import Served, new_home, serving

KEY = AgentKey.generate("planner")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = new_home(tmp_path_factory.mktemp("stating"))
    policy = Path(home) / "policy.toml"
    policy.write_text(POLICY)
    policy.chmod(0o600)
    with serving(home) as found:
        yield found


@pytest.fixture
def task(served: Served) -> OpenedTask:
    with RemoteAuthority(served.place) as authority:
        return authority.open(allow=["partner.quote", "crm.read"], tenant="Acme", agent_key=KEY.public)


@pytest.fixture
def partner(served: Served) -> Partner:
    with served.everybody() as client:
        epoch = client.get("/readyz").json()["epoch"]
        found = client.get("/jwks.json")
        assert found.headers["content-type"] == "application/jwk-set+json"
        return Partner(found.json(), f"capx/{epoch}")


def url(served: Served) -> str:
    with served.everybody() as client:
        return str(client.base_url)


def test_an_agent_gets_a_statement_over_http(served: Served, task: OpenedTask, partner: Partner) -> None:
    held = task.bundle.with_key(KEY)
    with AuthorityClient(url(served), held) as client, Agent(held, authority=client) as agent:
        stated = agent.statement("partner.quote", args={"sku": "A-7"})
        claims = partner.take(stated, "partner.quote", {"sku": "A-7"})
        assert (claims["txn"], claims["tenant"]) == (task.id, "Acme")
        with pytest.raises(Denied) as denied:
            agent.statement("partner.buy", args={})
        assert denied.value.code == "action_not_allowed"
        with pytest.raises(Denied) as denied:
            agent.statement("crm.read")
        assert denied.value.code == "wrong_audience"
        assert "there are no statements for crm" in str(denied.value)


def asked(
    served: Served, bundle: Bundle | None, body: bytes, args: dict[str, str] | None = None, **headers: str
) -> httpx.Response:
    with served.everybody() as client:
        if bundle is not None:
            presented = bundle.present("partner", ToolCall("partner.quote", args or {}))
            headers["authorization"] = presented.authorization
        return client.post("/agent/statement", content=body, headers={"content-type": "application/json", **headers})


GOOD = b'{"action":"partner.quote","args":{}}'


def test_the_presentation_covers_the_call(served: Served, task: OpenedTask) -> None:
    held = task.bundle.with_key(KEY)
    assert asked(served, held, GOOD).status_code == 200
    other = asked(served, held, b'{"action":"partner.quote","args":{"sku":"B"}}')
    assert (other.status_code, other.json()["reasons"][0]["code"]) == (401, "call_mismatch")
    nobody = asked(served, None, GOOD)
    assert (nobody.status_code, nobody.json()["reasons"][0]["code"]) == (401, "no_token")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"action":"partner.quote"}', 400),
        (b'{"action":"partner.quote","args":{},"more":1}', 400),
        (b'{"action":"partner.quote","args":{},"request":"x"}', 400),
        (b'{"action":"a b","args":{}}', 400),
        (b'{"action":"partner.quote","args":{"n":9007199254740993}}', 400),
        (b'{"action":"partner.quote","args":{"n":NaN}}', 400),
        (b'{"action":"partner.quote","action":"partner.quote","args":{}}', 400),
    ],
)
def test_a_body_that_is_none_burns_nothing(served: Served, task: OpenedTask, body: bytes, status: int) -> None:
    held = task.bundle.with_key(KEY)
    presented = held.present("partner", ToolCall("partner.quote", {})).authorization
    assert asked(served, None, body, authorization=presented).status_code == status
    assert asked(served, None, GOOD, authorization=presented).status_code == 200
    assert asked(served, None, GOOD, authorization=presented).json()["reasons"][0]["code"] == "replayed"


def test_garbage_is_denied_before_the_body(served: Served) -> None:
    for token in ("Capx x", "Capx capx1_AAAA", f"Capx {'A' * 9000}", "Capx ,,,"):
        found = asked(served, None, b"x" * 100, authorization=token)
        assert found.status_code in {400, 401, 431}, token
        assert "Traceback" not in found.text


def test_the_document_describes_it(served: Served) -> None:
    with served.everybody() as client:
        paths = client.get("/openapi.json").json()["paths"]
    assert paths["/agent/statement"]["post"]["security"] == [{"presentation": []}]
    assert "security" not in paths["/jwks.json"]["get"]
