"""What whoever reaches the network's face can have of it without any key: no memory, no secrets, no failures."""

import socket
import time
from typing import Any

import httpx
import pytest

from capx.api import resource_auth
from capx.api.operation import Operation
from capx.authority.authority import Authority
from capx.authority.remote.client import RemoteAuthority
from capx.server import app
from capx.server.operation import route
from capx.server.service import Service
from capx.tokens.binding import HttpRequest
from capx.verify.decision import NO_TOKEN, Decision, Denied
from tests.labs.raw_http import asked, claim, connected, kid_of
from tests.labs.serving import served as serving_app
from tests.server.conftest import Served

TWICE = b"content-type: application/json\r\ncontent-type: text/plain\r\n"


def test_two_kinds_of_one_body_are_refused(shared: Served) -> None:
    proof = claim(kid_of(shared), int(time.time())).encode()
    for path, head in (
        (b"/decisions", b"authorization: %b\r\n" % proof),
        (b"/sighted", b"authorization: %b\r\n" % proof),
        (b"/agent/complete", b""),
    ):
        with connected(shared) as connection:
            said = asked(
                connection, b"POST %b HTTP/1.1\r\nhost: x\r\n%b%bcontent-length: 2\r\n\r\n{}" % (path, head, TWICE)
            )
        # An agent's presentation is looked at before anything else.
        assert said.startswith(b"HTTP/1.1 401 " if path.startswith(b"/agent") else b"HTTP/1.1 400 "), said
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(shared.socket))
        said = asked(connection, b"POST /prune HTTP/1.1\r\nhost: x\r\n%bcontent-length: 2\r\n\r\n{}" % TWICE)
    assert said.startswith(b"HTTP/1.1 400 ")


def test_a_failure_that_should_not_be_is_logged_with_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    def fail(service: Service) -> None:
        del service
        # Nothing that an operation has a reason to raise.
        raise Denied(Decision(id="x", at=1, allowed=False, audience="crm", refusals=(NO_TOKEN,)))

    operation = Operation(method="GET", path="/fails", name="fails", about="Fails.", act=fail, answers=dict[str, Any])
    with Authority.temporary() as authority:
        service = Service(authority)
        face = app.face("test", [route(operation, service, service, service.operators)], service)
        with serving_app(face, lifespan="off") as url, httpx.Client(base_url=url) as client:
            answer = client.get("/fails")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "no token" not in answer.text
    (logged,) = [record for record in caplog.records if record.name == "capx.serve"]
    assert logged.exc_info is not None
    assert isinstance(logged.exc_info[1], Denied)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tasks", b'{"allow":["crm.read"],"allow":["crm.write"]}'),
        ("/tasks", b'{"allow":["crm.read"],"\\u0061llow":["crm.write"]}'),
        ("/tasks", b'{"allow":[{"entry":["crm.read"],"audience":"a","audience":"b"}]}'),
        ("/revocations", b'{"target":"x","target":"y"}'),
        ("/revocations", b'{"where":{"agent":"a","agent":"b"}}'),
        ("/tasks/x/complete", b'{"dry_run":true,"dry_run":false}'),
    ],
)
def test_a_name_that_stands_twice_is_refused(shared: Served, path: str, body: bytes) -> None:
    with shared.operators() as client:
        before = client.get("/log", params={"newest": "true", "limit": "1"}).json()["end"]
        answer = client.post(path, content=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert "duplicate key" in answer.json()["detail"]
        assert client.get("/log", params={"newest": "true", "limit": "1"}).json()["end"] == before


@pytest.mark.parametrize("body", [b'{"hops":["AgICAgICAgI"],"hops":["AwMDAwMDAwM"]}', b'{"hops":[],"\\u0068ops":[]}'])
def test_an_agent_names_no_argument_twice(shared: Served, body: bytes) -> None:
    with RemoteAuthority(shared.place) as remote:
        bundle = remote.open(allow=["crm.read"]).bundle
    presented = bundle.present("authority", HttpRequest(method="POST", target="/agent/revoke", body=body))
    with shared.everybody() as client:
        answer = client.post("/agent/revoke", content=body, headers={"authorization": presented.authorization})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert 'duplicate key "hops"' in answer.json()["detail"]


def test_a_resource_names_nothing_twice(shared: Served) -> None:
    body = b'{"follower":"crm","deaths":0,"deaths":0}'
    keys = shared.keys("crm")
    proof = resource_auth.prove(keys.live[0], method="POST", target="/sighted", body=body, at=int(time.time()))
    with shared.everybody() as client:
        answer = client.post("/sighted", content=body, headers={"authorization": proof})
    assert (answer.status_code, "duplicate key" in answer.json()["detail"]) == (400, True)


def test_names_are_looked_at_in_linear_time(shared: Served) -> None:
    with shared.operators() as client:
        took: list[float] = []
        for size in (1 << 17, 1 << 20):
            names = b",".join(b'"%d":"x"' % number for number in range(size // 15))
            began = time.monotonic()
            assert client.post("/revocations", content=b'{"dry_run":true,"where":{%b}}' % names).status_code == 400
            took.append(time.monotonic() - began)
        # Eight times as much; squares would be sixty-four.
        assert took[1] < 30 * max(took[0], 0.01)


@pytest.mark.parametrize("path", ["/agent/complete", "/agent/revoke"])
def test_an_agents_body_is_json_or_says_nothing_of_itself(shared: Served, path: str) -> None:
    with RemoteAuthority(shared.place) as remote:
        bundle = remote.open(allow=["crm.read"]).bundle
    for kind, status in (("text/plain", 415), ("application/json", 200 if path == "/agent/complete" else 403)):
        received = HttpRequest(method="POST", target=path, content_type=kind, body=b"{}")
        headers = {"content-type": kind, "authorization": bundle.present("authority", received).authorization}
        with shared.everybody() as client:
            assert client.post(path, content=b"{}", headers=headers).status_code == status


@pytest.mark.parametrize("host", [b"[", b"[x]/?#", b"]:", b"x" * 300])
def test_a_host_that_is_none_is_told_what_is_there_all_the_same(shared: Served, host: bytes) -> None:
    for method, status in ((b"GET /nothing", b"404"), (b"POST /openapi.json", b"405")):
        request = b"%b HTTP/1.1\r\nhost: %b\r\ncontent-length: 0\r\n\r\n" % (method, host)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(shared.socket))
            assert asked(connection, request).startswith(b"HTTP/1.1 %b " % status)
        with connected(shared) as connection:
            assert asked(connection, request).startswith(b"HTTP/1.1 %b " % status)
