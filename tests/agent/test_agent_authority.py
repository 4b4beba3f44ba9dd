"""What an ask and a statement are for is read at one place, whoever carries them."""

from collections.abc import Iterator
from typing import Any

import pytest

from capx.authority.authority import Authority
from capx.authority.in_process import InProcess
from capx.errors import InvalidRequest
from capx.tokens.binding import HttpRequest, ToolCall
from capx.verify.ask import Answer, Ask, Refused
from capx_caveats import Refusal

REFUSED = Refused((Refusal("not_offered", "no"),))
REQUEST = HttpRequest(method="POST", target="/charges")


class Keeps(InProcess):
    """An authority that keeps what it is asked."""

    kept: list[tuple[Any, ...]]

    def answer(self, ask: Ask, wait: float) -> Answer:
        self.kept.append((ask, wait))
        return REFUSED

    def state(self, audience: str, call: ToolCall, request: HttpRequest | None) -> str:
        self.kept.append((audience, call, request))
        return "statement"


@pytest.fixture
def authority() -> Iterator[Keeps]:
    with Authority.temporary() as lab:
        made = Keeps(lab, lab.open(allow=["crm.read"]).bundle)
        made.kept = []
        yield made


def test_an_ask_is_for_the_audience_that_the_action_names(authority: Keeps) -> None:
    assert authority.ask("crm.read") is REFUSED
    assert authority.ask("crm.read", audience="files", args={}, wait=2) is REFUSED
    asks = (Ask(audience="crm", action="crm.read"), 0.0), (Ask(audience="files", action="crm.read", args={}), 2.0)
    assert authority.kept == [*asks]


def test_a_statement_is_for_one_call_with_these_arguments(authority: Keeps) -> None:
    assert authority.statement("crm.read") == "statement"
    authority.statement("crm.read", audience="files", args={"id": 7}, request=REQUEST)
    assert authority.kept == [
        ("crm", ToolCall("crm.read", {}), None),
        ("files", ToolCall("crm.read", {"id": 7}), REQUEST),
    ]


@pytest.mark.parametrize(
    "wrong", [{"wait": -1}, {"wait": float("nan")}, {"audience": ""}, {"demand": "no demand"}], ids=str
)
def test_an_ask_that_nobody_could_answer_is_sent_to_nobody(authority: Keeps, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        authority.ask("crm.read", **wrong)
    assert authority.kept == []
