"""The clients of httpx2 need httpx2, and no httpx."""

import subprocess
import sys

import httpx2

from capx.agent import httpx2_client, httpx_client
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask

WITHOUT_HTTPX = """
import sys
sys.modules["httpx"] = None
from capx.agent import httpx2_client
with httpx2_client.client({"https://crm.internal": "crm"}) as client:
    print(type(client).__module__)
"""


def test_httpx_need_not_be_there() -> None:
    command = [sys.executable, "-c", WITHOUT_HTTPX]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout == "httpx2\n"


def test_it_has_the_names_of_the_older_module() -> None:
    assert {*httpx2_client.__all__} == {*httpx_client.__all__} - {"demand_origin"}


def test_a_transport_of_the_caller_sends(lab: Authority, task: OpenedTask) -> None:
    sent: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request.headers["authorization"])
        return httpx2.Response(200, request=request)

    transport = httpx2.MockTransport(answer)
    with httpx2_client.client({"https://crm.internal": "crm"}, task.bundle, transport=transport) as client:
        assert client.get("https://crm.internal/x").status_code == 200
        # The request that the caller can reach has no token.
        assert "authorization" not in client.get("https://crm.internal/x").request.headers
    assert all(token.startswith("Capx capx1_") for token in sent)
    assert len(set(sent)) == 2
