"""Endpoints that judge by themselves, later: what they may tell of rows, and what they may forget."""

import pytest

from capx_caveats import action, one_of, where
from tests.labs.orders import Agent, bare, refusal


def test_a_foreign_tenant_s_row_is_refused_and_ours_is_not(agent: Agent) -> None:
    client = agent("crm.accounts.read")
    for path in ("/accounts", "/sync"):
        assert client.get(f"{path}/1").json() == "Acme"
        assert refusal(client.get(f"{path}/2")) == (403, "wrong_tenant")


@pytest.mark.parametrize("path", ["/accounts", "/sync"])
@pytest.mark.parametrize("tenant", ["Acme", None])
def test_existence_of_a_foreign_row_is_not_told(agent: Agent, path: str, tenant: str | None) -> None:
    client = agent("crm.accounts.read", tenant=tenant)
    assert bare(client.get(f"{path}/2")) == bare(client.get(f"{path}/9"))


def test_existence_of_a_row_hidden_by_an_attribute_is_not_told(agent: Agent) -> None:
    client = agent("crm.regions.read", caveats=[where("region", "EU")])
    assert client.get("/regions/1").json() == "EU"
    assert bare(client.get("/regions/3")) == bare(client.get("/regions/9"))


def test_an_argument_of_our_row_is_refused_in_its_own_words(agent: Agent) -> None:
    response = agent(action("crm.accounts.read", id=one_of(7))).get("/accounts/1")
    assert refusal(response) == (403, "argument_refused")


@pytest.mark.parametrize("path", ["/swallowing/2", "/forgetful", "/unawaited", "/telling/9", "/streamed"])
def test_a_response_is_withheld_if_a_handler_swallows_refusal(
    agent: Agent, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    response = agent("crm.accounts.read").get(path)
    assert refusal(response) == (500, "withheld")
    assert "secret" not in response.text
    assert "withheld" in caplog.text


def test_a_withheld_answer_without_a_row_tells_what_to_call(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    agent("crm.accounts.read").get("/telling/9")
    assert "no check passed; for a row that is not there, call `check.missing()`" in caplog.text


def test_a_handler_that_could_swallow_but_passed_is_answered(agent: Agent) -> None:
    assert agent("crm.accounts.read").get("/swallowing/1").json() == "secret"


def test_what_is_not_there_is_told_to_those_admitted(agent: Agent) -> None:
    client = agent("crm.accounts.list")
    assert client.get("/nowhere").status_code == 404
    assert client.post("/accounts").status_code == 405
