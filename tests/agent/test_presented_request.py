"""One HTTP request that is presented, and which answers are refusals; the clients' tests say the rest."""

import httpx
import pytest

from capx.agent.presented_request import is_denial, is_refusal, kind_of


@pytest.mark.parametrize(
    ("status", "header", "denial", "refusal"),
    [
        (403, "Capx", True, True),
        (401, "Capx", True, False),
        (503, "Capx", True, False),
        (200, "Capx", False, False),
        (500, "Capx", False, False),
        (403, "Bearer", False, False),
        (403, None, False, False),
    ],
)
def test_only_answers_of_capx_are_refusals(status: int, header: str | None, *, denial: bool, refusal: bool) -> None:
    answer = httpx.Response(status, headers={} if header is None else {"WWW-Authenticate": header})
    assert (is_denial(answer), is_refusal(answer)) == (denial, refusal)


def test_requests_for_rows_of_one_table_are_of_one_kind() -> None:
    assert kind_of("GET", "/accounts/42") == kind_of("GET", "/accounts/7") != kind_of("GET", "/notes/7")
    assert kind_of("GET", "/accounts") != kind_of("POST", "/accounts")
